// SPDX-License-Identifier: Apache-2.0
// A kernel's rowwise region with its ports: what the region reads for a row,
// what it yields for 16 columns of it.
#ifndef MOE_LIB_CONVERSION_MOETOSCF_ROWREGION_H
#define MOE_LIB_CONVERSION_MOETOSCF_ROWREGION_H

#include "KernelEmitter.h"

namespace mlir::moe {

class RowRegion {
public:
  /// The region's first `leading` arguments are not from `ins`.
  template <typename Op>
  RowRegion(KernelEmitter &b, Op op, unsigned leading)
      : b(b), body(op.getBody().front()), ins(op.getIns()),
        inPorts(op.getInPorts()), outPorts(op.getOutPorts()), leading(leading),
        width(op.getWidth()),
        compute(*getComputeType(op->getOperandTypes(), op->getContext())) {}

  KernelEmitter &b;
  Block &body;
  ValueRange ins;
  ArrayAttr inPorts, outPorts;
  unsigned leading;
  /// Region columns, and the type that the region computes in.
  int64_t width;
  FloatType compute;

  PortAttr inPort(unsigned i) const { return cast<PortAttr>(inPorts[i]); }
  PortAttr outPort(unsigned i) const { return cast<PortAttr>(outPorts[i]); }
  bool hasColumns() const;

  /// For each operand its scalar for this row, or null where it has columns.
  Values rowValues(const Row &row);
  /// What the region yields for 16 columns (`lanes` of them exist).
  Values columns(const Row &row, ValueRange once, Value column, int64_t lanes,
                 ValueRange leadingValues = {});
  /// All columns of a row to all outs, sums and partials among them.
  void mapRow(const Row &row, ValueRange outs);

  /// The first yielded value of out i.
  unsigned firstYield(unsigned i) const;
};

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOSCF_ROWREGION_H
