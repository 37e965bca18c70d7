// SPDX-License-Identifier: Apache-2.0
// The kernels without a matrix product: map_rows, combine_rows, reduce_experts
// and fold_partials. All are bound by memory; tasks are chunks of rows.
#include "RowRegion.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;

/// Rows of one task.
constexpr int64_t kChunk = 64;
/// Column vectors that are summed at a time.
constexpr int64_t kSumVectors = 4;

static Type element(Value memref) {
  return cast<MemRefType>(memref.getType()).getElementType();
}

//===----------------------------------------------------------------------===//
// map_rows
//===----------------------------------------------------------------------===//

LogicalResult mlir::moe::emitMapRows(MapRowsOp op, KernelEmitter &b) {
  RowRegion region(b, op, 0);
  auto row = [&](const Row &row) { region.mapRow(row, op.getOuts()); };
  if (!op.getAssignment()) {
    Value any = op.getOuts()[0];
    b.chunked(b.size(any, 0), kChunk,
              [&](Value token) { row({Value(), Value(), token, Value()}); });
    return success();
  }
  Tables tables = b.tables(op.getAssignment());
  b.groupedTasks(tables, kChunk, 1, 1,
                 [&](Value expert, Value first, Value last, Value) {
                   b.loop(first, last, 1, [&](Value grouped) {
                     row(b.groupedRow(tables, grouped, expert));
                   });
                 });
  b.zeroSentinels(tables, op.getOuts(), op.getOutPorts());
  return success();
}

//===----------------------------------------------------------------------===//
// combine_rows
//===----------------------------------------------------------------------===//

LogicalResult mlir::moe::emitCombineRows(CombineRowsOp op, KernelEmitter &b) {
  RowRegion region(b, op, 0);
  Type compute = region.compute;
  Tables tables = b.tables(op.getAssignment());
  size_t folds = op.getFolds().size(), sums = op.getOuts().size() - folds;
  bool needsExpert = llvm::any_of(op.getInPorts(), [](Attribute port) {
    return cast<PortAttr>(port).getKind() == PortKind::Expert;
  });
  int64_t width = region.width;
  Value k = b.index(tables.k);
  Value tokens = b.div(tables.slots, tables.k);

  b.tasks(b.ceilDiv(tokens, kChunk), [&](Value task) {
    // The token's rows, found once: its slots, grouped rows and experts.
    Value slots = b.stack(tables.k, b.getIndexType());
    Value groups = b.stack(tables.k, b.getIndexType());
    Value experts = b.stack(tables.k, b.getIndexType());
    Value start = b.mul(task, kChunk);
    Value stop = b.minimum(b.add(start, kChunk), tokens);
    b.loop(start, stop, 1, [&](Value token) {
      Value count =
          b.carry(b.index(0), k, 1, b.index(0), [&](Value i, ValueRange found) {
            Value valid;
            Row row =
                b.slotRow(tables, b.add(b.mul(token, tables.k), i), valid);
            return b.choose(
                valid,
                [&] {
                  b.store(row.slot, slots, found[0]);
                  b.store(row.grouped, groups, found[0]);
                  if (needsExpert)
                    b.store(b.expertOf(tables, row.grouped), experts, found[0]);
                  return Values{b.add(found[0], 1)};
                },
                [&] { return Values{found[0]}; });
          })[0];

      auto sumColumns = [&](ArrayRef<Value> columns, int64_t lanes) {
        Row tokenRow{Value(), Value(), token, Value()};
        Values initial;
        for (Value column : columns)
          for (size_t i = 0; i < sums; ++i) {
            size_t before = initial.size();
            if (op.getAddends().empty())
              initial.append(region.outPort(i).getCount(), b.zeros(compute));
            else
              b.loadColumns(op.getAddends()[i], region.outPort(i), tokenRow,
                            width, column, lanes, compute, initial);
            assert(initial.size() - before ==
                   size_t(region.outPort(i).getCount()));
            (void)before;
          }
        Values total = b.carry(
            b.index(0), count, 1, initial, [&](Value i, ValueRange sum) {
              Row row{b.load(groups, i), b.load(slots, i), token,
                      needsExpert ? b.load(experts, i) : Value()};
              Values once = region.rowValues(row);
              Values next;
              for (Value column : columns)
                for (Value value : region.columns(row, once, column, lanes))
                  next.push_back(b.add(sum[next.size()], b.splat(value)));
              return next;
            });
        ValueRange rest = total;
        for (Value column : columns)
          for (size_t i = 0; i < sums; ++i) {
            int64_t values = region.outPort(i).getCount();
            b.storeColumns(rest.take_front(values), op.getOuts()[i],
                           region.outPort(i), tokenRow, width, column, lanes);
            rest = rest.drop_front(values);
          }
      };
      if (!sums)
        return;
      // Several vectors at a time, so that a row's address is computed once
      // for them; then single ones; then what is left.
      int64_t block = kSumVectors * kLanes, wide = width / block * block;
      int64_t full = width / kLanes * kLanes;
      if (wide)
        b.loop(b.index(0), b.index(wide), block, [&](Value first) {
          Values columns;
          for (int64_t v = 0; v < kSumVectors; ++v)
            columns.push_back(b.add(first, v * kLanes));
          sumColumns(columns, kLanes);
        });
      if (full > wide)
        b.loop(b.index(wide), b.index(full), kLanes,
               [&](Value column) { sumColumns(column, kLanes); });
      if (width > full)
        sumColumns(b.index(full), width - full);
    });
    if (!folds)
      return;
    b.loop(b.mul(start, tables.k), b.mul(stop, tables.k), 1, [&](Value slot) {
      Value valid;
      Row row = b.slotRow(tables, slot, valid);
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

LogicalResult mlir::moe::emitReduceExperts(ReduceExpertsOp op,
                                           KernelEmitter &b) {
  RowRegion region(b, op, 0);
  Type compute = region.compute;
  Tables tables = b.tables(op.getAssignment());
  int64_t width = region.width;
  // A task is an expert and a few columns: its rows are added one after the
  // other, so the sum depends on nothing else.
  int64_t block =
      std::min<int64_t>(kSumVectors, llvm::divideCeil(width, kLanes)) * kLanes;
  int64_t blocks = llvm::divideCeil(width, block);
  b.tasks(b.index(tables.experts * blocks), [&](Value task) {
    Value expert = b.div(task, blocks);
    Value begin = b.rangeBound(tables, tables.begin, expert);
    Value end = b.rangeBound(tables, tables.end, expert);
    Row expertRow{Value(), Value(), Value(), expert};
    b.columns(
        b.mul(b.rem(task, blocks), block), block, width,
        [&](Value column, int64_t lanes) {
          Values initial;
          for (size_t i = 0; i < op.getOuts().size(); ++i)
            initial.append(region.outPort(i).getCount(), b.zeros(compute));
          Values total = b.carry(
              begin, end, 1, initial, [&](Value grouped, ValueRange sum) {
                Row row = b.groupedRow(tables, grouped, expert);
                Values next;
                for (Value value :
                     region.columns(row, region.rowValues(row), column, lanes))
                  next.push_back(b.add(sum[next.size()], b.splat(value)));
                return next;
              });
          ValueRange rest = total;
          for (auto [i, out] : llvm::enumerate(op.getOuts())) {
            PortAttr port = region.outPort(i);
            Values values(rest.take_front(port.getCount()));
            rest = rest.drop_front(port.getCount());
            if (op.getAccumulate()) {
              Values old;
              b.loadColumns(out, port, expertRow, width, column, lanes, compute,
                            old);
              for (auto [value, add] : llvm::zip_equal(values, old))
                value = b.add(add, value);
            }
            b.storeColumns(values, out, port, expertRow, width, column, lanes);
          }
        });
  });
  return success();
}

//===----------------------------------------------------------------------===//
// fold_partials
//===----------------------------------------------------------------------===//

LogicalResult mlir::moe::emitFoldPartials(FoldPartialsOp op, KernelEmitter &b) {
  Tables tables = b.tables(op.getAssignment());
  Value partials = op.getPartials(), out = op.getOuts()[0];
  Type compute = getComputeType(element(partials));
  auto port = PortAttr::get(op.getContext(), PortKind::Scalar, op.getTo());
  if (op.getTo() == RowOrder::Grouped) {
    b.groupedTasks(
        tables, 1024, 1, 1, [&](Value expert, Value first, Value last, Value) {
          b.loop(first, last, 1, [&](Value grouped) {
            b.storeRowValue(b.foldPartials(partials, grouped, compute), out,
                            port, {grouped, Value(), Value(), expert});
          });
        });
    return success();
  }
  b.chunked(tables.slots, 1024, [&](Value slot) {
    Value valid;
    Row row = b.slotRow(tables, slot, valid);
    Value sum = b.choose(
        valid,
        [&] { return Values{b.foldPartials(partials, row.grouped, compute)}; },
        [&] { return Values{b.constant(compute, 0.0)}; })[0];
    b.storeRowValue(sum, out, port, row);
  });
  return success();
}
