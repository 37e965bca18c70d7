// SPDX-License-Identifier: Apache-2.0
// The kernels without a matrix product: map_rows, combine_rows, reduce_experts
// and fold_partials. All are bound by memory: a group of threads moves a row,
// 16 bytes a thread at a time. Slots are what the grid counts: a slot knows its
// grouped row, and sentinels are met on the way.
#include "GPUEmitter.h"
#include "WarpSegment.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

/// Slots of a token that are read together.
constexpr int64_t kTogether = 4;

/// Threads that move a row of so many vectors.
static int64_t threadsPerRow(int64_t vectors) {
  return std::min<int64_t>(kBlockThreads, llvm::PowerOf2Ceil(vectors));
}

/// One thread for each i < count.
static void forEach(GPUEmitter &b, Value count,
                    function_ref<void(Value)> body) {
  b.launch(b.ceilDiv(count, kBlockThreads), kBlockThreads, [&] {
    Value i = b.add(b.mul(b.block, kBlockThreads), b.thread);
    b.when(b.less(i, count), [&] { body(i); });
  });
}

/// `group` threads for each i < count; `lane` is a thread's number among them.
static void forEachRow(GPUEmitter &b, Value count, int64_t group,
                       function_ref<void(Value i, Value lane)> body) {
  int64_t rows = kBlockThreads / group;
  b.launch(b.ceilDiv(count, rows), kBlockThreads, [&] {
    Value i = b.add(b.mul(b.block, rows), b.div(b.thread, group));
    b.when(b.less(i, count), [&] { body(i, b.rem(b.thread, group)); });
  });
}

/// Zeros in the slot-order outs of a sentinel slot: `lane` of `group` threads.
static void zeroSlot(GPUEmitter &b, ValueRange outs, ArrayAttr ports,
                     const Row &row, Value lane, int64_t group) {
  for (auto [i, out] : llvm::enumerate(outs)) {
    auto port = cast<PortAttr>(ports[i]);
    if (port.getOrder() != RowOrder::Slot)
      continue;
    auto type = cast<MemRefType>(out.getType());
    Value zero = b.constant(type.getElementType(), 0.0);
    if (!port.hasColumns() && port.getKind() != PortKind::Partials) {
      b.when(b.equal(lane, b.index(0)),
             [&, out = out] { b.storeRowValue(zero, out, port, row); });
      continue;
    }
    b.strided(lane, type.getDimSize(1), group, [&, out = out](Value column) {
      b.store(zero, out, {row.slot, column});
    });
  }
}

//===----------------------------------------------------------------------===//
// map_rows
//===----------------------------------------------------------------------===//

LogicalResult mlir::moe::emitMapRows(MapRowsOp op, GPUEmitter &b) {
  RowRegion region(b, op, 0);
  ValueRange outs = op.getOuts();
  ArrayAttr ports = op.getOutPorts();
  bool experts = readsExperts(op.getInPorts());
  bool sums = region.hasColumns() && llvm::any_of(ports, [](Attribute port) {
                return !cast<PortAttr>(port).hasColumns();
              });
  Tables tables;
  Value count;
  if (op.getAssignment()) {
    tables = b.tables(op.getAssignment());
    count = tables.slots;
  } else {
    count = b.size(outs[0], 0);
  }
  // `map` for the row that i stands for; zeros where it is a sentinel slot.
  auto with = [&](Value i, Value lane, int64_t group,
                  function_ref<void(const Row &)> map) {
    if (!op.getAssignment())
      return map({Value(), Value(), i, Value()});
    b.slot(tables, i, experts, map,
           [&](const Row &row) { zeroSlot(b, outs, ports, row, lane, group); });
  };

  if (!region.hasColumns()) {
    forEach(b, count, [&](Value i) {
      with(i, b.index(0), 1, [&](const Row &row) { region.mapRow(row, outs); });
    });
    return success();
  }
  if (sums) {
    WarpSegments segments(b, region, outs);
    forEachRow(b, count, kWarp, [&](Value i, Value lane) {
      with(i, lane, kWarp, [&](const Row &row) { segments.mapRow(row, lane); });
    });
    return success();
  }
  SmallVector<Value> columnar(op.getIns());
  llvm::append_range(columnar, outs);
  b.vectorLanes = chooseLanes(region.width, columnar, 8);
  int64_t vectors = region.width / b.vectorLanes;
  int64_t group = threadsPerRow(vectors);
  forEachRow(b, count, group, [&](Value i, Value lane) {
    with(i, lane, group, [&](const Row &row) {
      Values once = region.rowValues(row);
      b.strided(lane, vectors, group, [&](Value vector) {
        Value column = b.mul(vector, b.vectorLanes);
        Values yielded = region.columns(row, once, column, b.vectorLanes);
        for (auto [index, out] : llvm::enumerate(outs)) {
          PortAttr port = region.outPort(index);
          b.storeColumns(ValueRange(yielded)
                             .drop_front(region.firstYield(index))
                             .take_front(port.getCount()),
                         out, port, row, region.width, column, b.vectorLanes);
        }
      });
    });
  });
  return success();
}

//===----------------------------------------------------------------------===//
// combine_rows
//===----------------------------------------------------------------------===//

LogicalResult mlir::moe::emitCombineRows(CombineRowsOp op, GPUEmitter &b) {
  RowRegion region(b, op, 0);
  Type compute = region.compute;
  Tables tables = b.tables(op.getAssignment());
  size_t folds = op.getFolds().size(), sums = op.getOuts().size() - folds;
  bool experts = readsExperts(op.getInPorts());
  Value tokens = b.div(tables.slots, tables.k);

  SmallVector<Value> columnar(op.getIns());
  llvm::append_range(columnar, op.getOuts().take_front(sums));
  b.vectorLanes = sums ? chooseLanes(region.width, columnar, 8) : 1;
  int64_t vectors = sums ? region.width / b.vectorLanes : 1;
  int64_t group = std::max<int64_t>(threadsPerRow(vectors), 1);
  int64_t together = kTogether;
  while (tables.k % together)
    --together;

  forEachRow(b, tokens, group, [&](Value token, Value lane) {
    Row tokenRow{Value(), Value(), token, Value()};
    Value firstSlot = b.mul(token, tables.k);
    // The rows of `together` slots from `first` on. A sentinel's is row 0: it
    // is read, for reads without a branch run together, and left out.
    auto add = [&](Value first, Value column, ValueRange sum) {
      Values total(sum);
      SmallVector<Row> rows;
      Values valid;
      for (int64_t i = 0; i < together; ++i) {
        Value known;
        Row row = b.slotRow(tables, b.add(first, i), known);
        row.grouped = b.select(known, row.grouped, b.index(0));
        if (experts)
          row.expert = b.findExpert(tables, row.grouped);
        rows.push_back(row);
        valid.push_back(known);
      }
      for (auto [row, known] : llvm::zip_equal(rows, valid)) {
        Values values =
            region.columns(row, region.rowValues(row), column, b.vectorLanes);
        for (auto [value, old] : llvm::zip_equal(values, total))
          old = b.select(known, b.add(old, b.splat(value)), old);
      }
      return total;
    };
    if (sums)
      b.strided(lane, vectors, group, [&](Value vector) {
        Value column = b.mul(vector, b.vectorLanes);
        Values total;
        for (size_t i = 0; i < sums; ++i) {
          if (op.getAddends().empty())
            total.append(region.outPort(i).getCount(), b.zeros(compute));
          else
            b.loadColumns(op.getAddends()[i], region.outPort(i), tokenRow,
                          region.width, column, b.vectorLanes, compute, total);
        }
        if (together == tables.k)
          total = add(firstSlot, column, total);
        else
          total = b.carry(b.index(0), b.index(tables.k), together, total,
                          [&](Value k, ValueRange sum) {
                            return add(b.add(firstSlot, k), column, sum);
                          });
        ValueRange rest = total;
        for (size_t i = 0; i < sums; ++i) {
          int64_t values = region.outPort(i).getCount();
          b.storeColumns(rest.take_front(values), op.getOuts()[i],
                         region.outPort(i), tokenRow, region.width, column,
                         b.vectorLanes);
          rest = rest.drop_front(values);
        }
      });
    if (folds)
      b.strided(lane, tables.k, group, [&](Value k) {
        Value valid;
        Row row = b.slotRow(tables, b.add(firstSlot, k), valid);
        for (size_t i = 0; i < folds; ++i) {
          Value sum = b.choose(
              valid,
              [&] {
                return Values{
                    b.foldPartials(op.getFolds()[i], row.grouped, compute)};
              },
              [&] { return Values{b.constant(compute, 0.0)}; })[0];
          b.storeRowValue(sum, op.getOuts()[sums + i],
                          cast<PortAttr>(op.getOutPorts()[sums + i]), row);
        }
      });
  });
  return success();
}

//===----------------------------------------------------------------------===//
// reduce_experts
//===----------------------------------------------------------------------===//

/// A block sums a few columns of an expert: warp w its rows w, w + 8, ..., then
/// the warps' sums in order. So the bits depend on the expert's rows alone.
LogicalResult mlir::moe::emitReduceExperts(ReduceExpertsOp op, GPUEmitter &b) {
  RowRegion region(b, op, 0);
  Type compute = region.compute;
  Tables tables = b.tables(op.getAssignment());
  constexpr int64_t kWarps = kBlockThreads / kWarp;
  SmallVector<Value> columnar(op.getIns());
  llvm::append_range(columnar, op.getOuts());
  b.vectorLanes = chooseLanes(region.width, columnar, 4);
  int64_t lanes = b.vectorLanes, columns = kWarp * lanes;
  int64_t blocks = llvm::divideCeil(region.width, columns);
  int64_t values = 0;
  for (size_t i = 0; i < op.getOuts().size(); ++i)
    values += region.outPort(i).getCount();

  b.launch(b.index(tables.experts * blocks), kBlockThreads, [&] {
    SmallVector<Value> sharedSums;
    for (int64_t i = 0; i < values; ++i)
      sharedSums.push_back(b.shared({kWarps, columns}, compute));
    Value expert = b.div(b.block, blocks);
    Value inBlock = b.mul(b.lane, lanes);
    Value column = b.add(b.mul(b.rem(b.block, blocks), columns), inBlock);
    Value inside = b.less(column, b.index(region.width));
    Value begin = b.rangeBound(tables, tables.begin, expert);
    Value end = b.rangeBound(tables, tables.end, expert);
    b.when(inside, [&] {
      Values zeros(values, b.zeros(compute));
      Values total =
          b.carry(b.add(begin, b.warp), end, kWarps, zeros,
                  [&](Value grouped, ValueRange sum) {
                    Row row = b.groupedRow(tables, grouped, expert);
                    Values next;
                    for (Value value : region.columns(
                             row, region.rowValues(row), column, lanes))
                      next.push_back(b.add(sum[next.size()], b.splat(value)));
                    return next;
                  });
      for (auto [sum, to] : llvm::zip_equal(total, sharedSums))
        b.storeVector(sum, to, b.warp, inBlock, lanes);
    });
    b.barrier();
    b.when(b.both(inside, b.equal(b.warp, b.index(0))), [&] {
      Row expertRow{Value(), Value(), Value(), expert};
      Values total;
      for (Value from : sharedSums) {
        Value sum = b.loadVector(from, b.index(0), inBlock, lanes);
        for (int64_t w = 1; w < kWarps; ++w)
          sum = b.add(sum, b.loadVector(from, b.index(w), inBlock, lanes));
        total.push_back(sum);
      }
      ValueRange rest = total;
      for (auto [i, out] : llvm::enumerate(op.getOuts())) {
        PortAttr port = region.outPort(i);
        Values sums(rest.take_front(port.getCount()));
        rest = rest.drop_front(port.getCount());
        if (op.getAccumulate()) {
          Values old;
          b.loadColumns(out, port, expertRow, region.width, column, lanes,
                        compute, old);
          for (auto [sum, add] : llvm::zip_equal(sums, old))
            sum = b.add(add, sum);
        }
        b.storeColumns(sums, out, port, expertRow, region.width, column, lanes);
      }
    });
  });
  return success();
}

//===----------------------------------------------------------------------===//
// fold_partials
//===----------------------------------------------------------------------===//

LogicalResult mlir::moe::emitFoldPartials(FoldPartialsOp op, GPUEmitter &b) {
  Tables tables = b.tables(op.getAssignment());
  Value partials = op.getPartials(), out = op.getOuts()[0];
  Type compute =
      getComputeType(cast<MemRefType>(partials.getType()).getElementType());
  auto port = PortAttr::get(op.getContext(), PortKind::Scalar, op.getTo());
  forEach(b, tables.slots, [&](Value slot) {
    auto fold = [&](const Row &row) {
      b.storeRowValue(b.foldPartials(partials, row.grouped, compute), out, port,
                      row);
    };
    if (op.getTo() == RowOrder::Grouped)
      return b.slot(tables, slot, false, fold, nullptr);
    b.slot(tables, slot, false, fold, [&](const Row &row) {
      b.storeRowValue(b.constant(compute, 0.0), out, port, row);
    });
  });
  return success();
}
