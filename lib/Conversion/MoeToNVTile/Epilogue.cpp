// SPDX-License-Identifier: Apache-2.0
#include "Epilogue.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

/// Columns that a region's body runs on at a time: half a chunk, so that its
/// operands and results fit beside the accumulator.
static constexpr int64_t kStep = 32;

/// Staged blocks that a stage has room for, and where they go: tile and row.
static constexpr int64_t kStagedPerStage = 3;
static constexpr std::pair<int32_t, int32_t> kStagedPlaces[] = {
    {1, 0}, {1, 128}, {0, 0}};

Epilogue::Epilogue(GroupedMatmulOp op, const Tables &tables,
                   KernelBuilder &kernel, int64_t columns)
    : op(op), tables(tables), kernel(kernel), b(kernel.b),
      count(op.getColumns().getCount()), width(op.getWidth()), columns(columns),
      rowTable(kernel.pass(tables.order)) {
  for (auto [i, operand] : llvm::enumerate(op.getIns())) {
    PortAttr port = op.inPort(i);
    if (port.getKind() == PortKind::Scalar) {
      ins.push_back(kernel.passFlat(operand));
    } else if (port.getKind() == PortKind::Rows &&
               port.getOrder() == RowOrder::Grouped &&
               isHalf(memrefOf(operand).getElementType())) {
      int64_t blocks = port.getCount();
      Value map = kernel.passMap(operand, {width, blocks, -1},
                                 {2 * width, 2 * width * blocks},
                                 {kChunk, 1, kBlockRows});
      for (int64_t block = 0; block < blocks; ++block)
        staged.push_back({block, map});
      ins.push_back(Value());
    } else {
      ins.push_back(kernel.pass(operand));
    }
  }
  for (auto [out, attr] : llvm::zip_equal(op.getOuts(), op.getOutPorts())) {
    Result result{cast<PortAttr>(attr), kernel.pass(out), {}};
    int64_t blocks = result.port.getCount();
    if (result.port.hasColumns() && isHalf(memrefOf(out).getElementType())) {
      result.map =
          kernel.passMap(out, {width, blocks, -1},
                         {2 * width, 2 * width * blocks}, {kChunk, 1, 64});
    }
    results.push_back(result);
  }
}

void Epilogue::use(Value ringMemory, Value stagingMemory) {
  ring = ringMemory;
  staging = stagingMemory;
}

int64_t Epilogue::stagesOfChunk() const {
  return llvm::divideCeil(staged.size(), kStagedPerStage);
}

//===----------------------------------------------------------------------===//
// The producing warpgroup
//===----------------------------------------------------------------------===//

Value Epilogue::produce(Value position, Value first, Value firstColumn,
                        bool gathers) {
  for (int64_t chunk = 0; chunk < columns / kChunk; ++chunk) {
    Value column = b.add(firstColumn, chunk * kChunk);
    for (ArrayRef<Staged> rest = staged; !rest.empty();) {
      ArrayRef<Staged> here = rest.take_front(kStagedPerStage);
      rest = rest.drop_front(here.size());
      AcquireOp::create(b, ring, position);
      auto copies = [&] {
        ExpectOp::create(b, ring, position, 128 * kBlockRows * here.size());
        for (auto [block, place] : llvm::zip(here, kStagedPlaces))
          LoadOp::create(b, block.map,
                         ValueRange{column, b.i32(block.block), first}, ring,
                         position, place.first, place.second);
      };
      if (gathers) {
        b.elect(copies);
        CommitOp::create(b, ring, position, kGatherLag);
      } else {
        copies();
      }
      position = b.add(position, 1);
    }
  }
  return position;
}

//===----------------------------------------------------------------------===//
// The consuming warpgroups
//===----------------------------------------------------------------------===//

/// Value `value` of region operand `index`, as a fragment for the columns from
/// `column`.
Value Epilogue::loadPort(unsigned index, int64_t value, const TileRows &rows,
                         Value column) {
  PortAttr port = op.inPort(index);
  auto fragment = [&](int64_t rows, int64_t columns) {
    return FragmentType::get(b.getContext(), rows, columns);
  };
  Value first = value ? b.add(column, value * width) : column;
  Value limit = b.i32((value + 1) * width);
  if (port.getKind() == PortKind::Expert)
    return LoadFragmentOp::create(b, fragment(1, kStep), ins[index],
                                  rows.expert, first, rows.end, limit, Value(),
                                  1);
  bool scalar = port.getKind() == PortKind::Scalar;
  RowOrder order = port.getOrder();
  return LoadFragmentOp::create(
      b, scalar ? fragment(64, 1) : fragment(64, kStep), ins[index], rows.row,
      scalar ? b.i32(0) : first, rows.end, scalar ? b.i32(1) : limit,
      order == RowOrder::Grouped ? Value() : rowTable, tables.divideOf(order));
}

Values Epilogue::loadScalars(const TileRows &rows) {
  Values scalars(ins.size());
  for (size_t i = 0; i < ins.size(); ++i)
    if (op.inPort(i).getKind() == PortKind::Scalar)
      scalars[i] = loadPort(i, 0, rows, Value());
  return scalars;
}

/// The region on 32 columns: from `at` of the accumulator's blocks and of the
/// chunk that `position` has staged, from `column` of memory.
Values Epilogue::mapColumns(Value accumulator, int64_t at, Value position,
                            const TileRows &rows, Value column,
                            ValueRange scalars) {
  auto fragment = [&](Type element) {
    return FragmentType::get(b.getContext(), 64, kStep, element);
  };
  Values arguments;
  for (int64_t i = 0; i < count; ++i)
    arguments.push_back(ColumnsOp::create(b, fragment(b.getF32Type()),
                                          accumulator, i * columns + at));
  size_t next = 0;
  for (size_t i = 0; i < ins.size(); ++i)
    for (int64_t v = 0; v < op.inPort(i).numValues(); ++v) {
      if (scalars[i]) {
        arguments.push_back(scalars[i]);
      } else if (ins[i]) {
        arguments.push_back(loadPort(i, v, rows, column));
      } else {
        Value from = b.add(position, next / kStagedPerStage);
        auto [tile, first] = kStagedPlaces[next++ % kStagedPerStage];
        arguments.push_back(ReadOp::create(
            b, fragment(memrefOf(op.getIns()[i]).getElementType()), ring, from,
            tile, first, at % kChunk, rows.warpgroup));
      }
    }

  Block &body = op.getBody().front();
  Operation *yield = body.getTerminator();
  SmallVector<Type> types;
  for (const Result &result : results)
    types.append(result.port.numValues(), fragment(b.getF32Type()));
  auto map = MapOp::create(b, types, arguments);
  OpBuilder::InsertionGuard guard(b);
  Block *inner = b.createBlock(&map.getBody());
  IRMapping mapping;
  for (BlockArgument argument : body.getArguments())
    mapping.map(argument,
                inner->addArgument(argument.getType(), argument.getLoc()));
  for (Operation &scalar : body.without_terminator())
    b.clone(scalar, mapping);
  Values yielded;
  for (Value value : yield->getOperands())
    yielded.push_back(mapping.lookup(value));
  nvtile::YieldOp::create(b, yielded);
  return map.getResults();
}

Value Epilogue::run(Value accumulator, Value position, const TileRows &rows,
                    ValueRange scalars) {
  auto sumType = FragmentType::get(b.getContext(), 64, 1);
  int64_t stages = stagesOfChunk();
  Values sums(results.size());
  for (int64_t chunk = 0; chunk < columns; chunk += kChunk) {
    Value column = b.add(rows.column, chunk);
    for (int64_t i = 0; i < stages; ++i)
      AwaitOp::create(b, ring, b.add(position, i));
    Values halves[2];
    for (int64_t half = 0; half < 2; ++half) {
      Value from = b.add(column, half * kStep);
      halves[half] = mapColumns(accumulator, chunk + half * kStep, position,
                                rows, from, scalars);
      unsigned number = 0;
      for (auto [i, result] : llvm::enumerate(results)) {
        Value value = halves[half][number];
        number += result.port.numValues();
        if (result.port.getKind() != PortKind::Partials)
          continue;
        Value sum =
            RowSumOp::create(b, sumType, value, b.sub(b.i32(width), from));
        sums[i] = sums[i] ? kernel.sum(sums[i], sum) : sum;
      }
    }
    for (int64_t i = 0; i < stages; ++i)
      ReleaseOp::create(b, ring, b.add(position, i));
    position = b.add(position, stages);

    unsigned number = 0;
    for (auto [i, result] : llvm::enumerate(results)) {
      if (result.port.getKind() == PortKind::Partials) {
        ++number;
        if ((chunk + kChunk) % kRowSumSegment)
          continue;
        StoreFragmentOp::create(b, sums[i], result.memory, rows.row,
                                b.div(column, kRowSumSegment), rows.end,
                                b.i32(numRowSumSegments(width)), Value(), 1);
        sums[i] = Value();
        continue;
      }
      for (int64_t v = 0; v < result.port.getCount(); ++v, ++number) {
        Value at = v ? b.add(column, v * width) : column;
        Value limit = b.i32((v + 1) * width);
        if (result.map) {
          Type element = memrefOf(result.memory).getElementType();
          Value both = JoinOp::create(
              b, FragmentType::get(b.getContext(), 64, kChunk, element),
              kernel.round(halves[0][number], result.memory),
              kernel.round(halves[1][number], result.memory));
          kernel.stageStore(both, staging, rows.warpgroup, result.map,
                            {column, b.i32(v), rows.row}, result.memory,
                            rows.row, at, rows.end, limit);
          continue;
        }
        for (int64_t half = 0; half < 2; ++half)
          StoreFragmentOp::create(b, halves[half][number], result.memory,
                                  rows.row, b.add(at, half * kStep), rows.end,
                                  limit, Value(), 1);
      }
    }
  }
  return position;
}
