// SPDX-License-Identifier: Apache-2.0
#include "MoeVerify.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::moe;

static std::string shapeText(ArrayRef<int64_t> shape) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << '(';
  llvm::interleaveComma(shape, os, [&](int64_t size) {
    if (ShapedType::isDynamic(size))
      os << '?';
    else
      os << size;
  });
  os << ')';
  return text;
}

LogicalResult mlir::moe::verifyShape(Operation *op, StringRef what, Type type,
                                     ArrayRef<int64_t> shape) {
  auto shaped = cast<ShapedType>(type);
  if (shaped.hasRank() &&
      shaped.getRank() == static_cast<int64_t>(shape.size()) &&
      llvm::all_of(llvm::zip_equal(shaped.getShape(), shape), [](auto it) {
        return compatible(std::get<0>(it), std::get<1>(it));
      }))
    return success();
  return op->emitOpError() << "wants " << what << " to be " << shapeText(shape)
                           << ", got " << type;
}

LogicalResult mlir::moe::verifyStaticShape(Operation *op, StringRef what,
                                           Type type, ArrayRef<int64_t> shape) {
  if (cast<ShapedType>(type).hasStaticShape())
    return verifyShape(op, what, type, shape);
  return op->emitOpError() << "wants " << what << " to be static "
                           << shapeText(shape) << ", got " << type;
}

LogicalResult mlir::moe::verifyRows(Operation *op, StringRef what, Type type,
                                    RowOrder order, AssignmentType assignment) {
  auto shaped = cast<ShapedType>(type);
  int64_t rows = getNumRows(order, assignment);
  if (!shaped.hasRank() || shaped.getRank() != 2 ||
      ShapedType::isDynamic(shaped.getDimSize(1)))
    return op->emitOpError()
           << "wants " << what << " to be rows of a static width, got " << type;
  if (!compatible(shaped.getDimSize(0), rows))
    return op->emitOpError() << "wants " << what << " to have " << rows
                             << " rows in " << stringifyRowOrder(order)
                             << " order by " << assignment << ", got " << type;
  return success();
}

LogicalResult mlir::moe::verifyRowScalars(Operation *op, StringRef what,
                                          Type type, RowOrder order,
                                          AssignmentType assignment) {
  if (order == RowOrder::Slot)
    return verifyShape(op, what, type,
                       {assignment.getTokens(), assignment.getK()});
  return verifyShape(op, what, type, {getNumRows(order, assignment)});
}

LogicalResult mlir::moe::verifyWeights(Operation *op, StringRef what, Type type,
                                       WeightLayout layout, int64_t experts,
                                       int64_t in, int64_t out) {
  if (layout == WeightLayout::OutIn)
    return verifyStaticShape(op, what, type, {experts, out, in});
  return verifyStaticShape(op, what, type, {experts, in, out});
}

int64_t mlir::moe::widthOf(TypeRange types, ArrayAttr ports) {
  // Verifiers ask before they know that there is a port for each.
  for (auto [type, attr] : llvm::zip(types, ports)) {
    auto port = cast<PortAttr>(attr);
    auto shaped = cast<ShapedType>(type);
    if (port.hasColumns() && shaped.getRank() == 2 &&
        !ShapedType::isDynamic(shaped.getDimSize(1)))
      return shaped.getDimSize(1) / port.getCount();
  }
  return ShapedType::kDynamic;
}

unsigned mlir::moe::valuesBefore(ArrayAttr ports, unsigned i) {
  unsigned values = 0;
  for (Attribute port : ports.getValue().take_front(i))
    values += cast<PortAttr>(port).numValues();
  return values;
}

/// Without an assignment all ports are in token or slot order.
static LogicalResult verifyPort(Operation *op, StringRef what, Type type,
                                PortAttr port, AssignmentType assignment,
                                int64_t &width) {
  auto shaped = cast<ShapedType>(type);
  int64_t rows = ShapedType::kDynamic;
  if (port.getKind() == PortKind::Expert) {
    if (!assignment)
      return op->emitOpError()
             << what << " is an expert port: it needs an assignment";
    rows = assignment.getExperts();
  } else if (assignment) {
    rows = getNumRows(port.getOrder(), assignment);
  }
  switch (port.getKind()) {
  case PortKind::Rows:
  case PortKind::Expert: {
    if (!shaped.hasRank() || shaped.getRank() != 2 ||
        ShapedType::isDynamic(shaped.getDimSize(1)))
      return op->emitOpError()
             << "wants " << what
             << " to have rank 2 and a static number of columns, got " << type;
    int64_t columns = shaped.getDimSize(1);
    if (columns % port.getCount())
      return op->emitOpError()
             << "wants the " << columns << " columns of " << what
             << " to be a multiple of " << port.getCount();
    if (ShapedType::isDynamic(width))
      width = columns / port.getCount();
    return verifyShape(op, what, type, {rows, width * port.getCount()});
  }
  case PortKind::Scalar:
  case PortKind::Sum:
    if (port.getOrder() == RowOrder::Slot && !assignment) {
      if (shaped.hasRank() && shaped.getRank() == 2)
        return success();
      return op->emitOpError()
             << "wants " << what << " to be (T, K), got " << type;
    }
    if (!assignment)
      return verifyShape(op, what, type, {ShapedType::kDynamic});
    return verifyRowScalars(op, what, type, port.getOrder(), assignment);
  case PortKind::Partials:
    return verifyShape(op, what, type,
                       {rows, ShapedType::isDynamic(width)
                                  ? ShapedType::kDynamic
                                  : numRowSumSegments(width)});
  }
  llvm_unreachable("port kinds are covered");
}

LogicalResult mlir::moe::verifyPorts(Operation *op, StringRef what,
                                     TypeRange types, ArrayAttr ports,
                                     AssignmentType assignment,
                                     int64_t &width) {
  if (types.size() != ports.size())
    return op->emitOpError() << "has " << types.size() << ' ' << what
                             << "s and " << ports.size() << " ports for them";
  for (auto [index, type, attr] : llvm::enumerate(types, ports))
    if (failed(verifyPort(op, (what + " #" + Twine(index)).str(), type,
                          cast<PortAttr>(attr), assignment, width)))
      return failure();
  return success();
}

LogicalResult mlir::moe::verifyRowwiseRegion(Operation *op, Region &region,
                                             unsigned leading,
                                             ArrayAttr inPorts,
                                             ArrayAttr outPorts) {
  SmallVector<Type> types(op->getOperandTypes());
  llvm::append_range(types, op->getResultTypes());
  FailureOr<FloatType> compute = getComputeType(types, op->getContext());
  if (failed(compute))
    return op->emitOpError()
           << "mixes f64 with narrower floats; make all f64, or none";
  Block &block = region.front();
  unsigned arguments = leading + valuesBefore(inPorts, inPorts.size());
  if (block.getNumArguments() != arguments)
    return op->emitOpError()
           << "wants " << arguments << " region arguments for its ports, got "
           << block.getNumArguments();
  for (auto [index, type] : llvm::enumerate(block.getArgumentTypes()))
    if (type != *compute)
      return op->emitOpError() << "wants region argument #" << index
                               << " to be " << *compute << ", got " << type;
  auto yield = dyn_cast<YieldOp>(block.back());
  if (!yield)
    return op->emitOpError() << "wants its region to end in moe.yield, got "
                             << block.back().getName();
  unsigned values = valuesBefore(outPorts, outPorts.size());
  if (yield.getNumOperands() != values)
    return op->emitOpError()
           << "wants " << values << " yielded values for its ports, got "
           << yield.getNumOperands();
  for (auto [index, type] : llvm::enumerate(yield.getOperandTypes()))
    if (type != *compute)
      return op->emitOpError() << "wants yielded value #" << index << " to be "
                               << *compute << ", got " << type;
  for (Operation &inner : block.without_terminator()) {
    bool known = isa_and_present<arith::ArithDialect, math::MathDialect>(
        inner.getDialect());
    bool scalar = llvm::all_of(inner.getResultTypes(), [](Type type) {
      return type.isIntOrIndexOrFloat();
    });
    if (!known || !scalar || inner.getNumRegions()) {
      InFlightDiagnostic diag =
          op->emitOpError()
          << "holds " << inner.getName()
          << "; a rowwise region holds arith and math ops on scalars";
      diag.attachNote(inner.getLoc()) << "see the op here";
      return diag;
    }
  }
  return success();
}
