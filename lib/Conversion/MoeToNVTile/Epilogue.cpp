// SPDX-License-Identifier: Apache-2.0
#include "Epilogue.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

/// Columns that a region's body runs on at a time, so that its operands and
/// results fit beside the accumulator: half a chunk, or a quarter where rows
/// are summed and either the summand has several terms, which keep all operands
/// until it is added, or the kernel has several products, which hold addresses.
static constexpr int64_t kHalf = 32;
static constexpr int64_t kQuarter = 16;

/// Blocks of 128 rows of 64 columns that a stage has room for, and where they
/// go: tile and row.
static constexpr int64_t kBlocksPerStage = 3;
/// Stages of 64 columns' results: with as many of the next columns' operands
/// they are the ring.
static constexpr int64_t kMostStagesHeld = 2;

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

EpilogueLayout::EpilogueLayout(GroupedMatmulOp op) {
  int64_t columns = kTileColumns / op.getColumns().getCount();
  // Of each place: which half of each 64 columns an operand has there, -1 for
  // any, nothing for no operand; and whether a result has it.
  SmallVector<std::optional<int64_t>> places;
  SmallVector<bool> taken;
  auto halfOf = [](const EpiloguePort &port, int64_t block) {
    return port.alternates() ? block : -1;
  };
  for (auto [i, operand] : llvm::enumerate(op.getIns())) {
    EpiloguePort in{op.inPort(i), {}, {}};
    if (in.port.getKind() == PortKind::Rows &&
        in.port.getOrder() == RowOrder::Grouped &&
        isHalf(memrefOf(operand).getElementType())) {
      in.blocks = in.port.getCount();
      in.place = places.size();
      for (int64_t block = 0; block < in.blocks; ++block)
        places.push_back(halfOf(in, block));
    }
    ins.push_back(in);
  }
  int64_t loaded = places.size();
  taken.resize(loaded);
  // A result may take an operand's place where both use the same half of it for
  // the same 32 columns: what is overwritten has then been read.
  auto fits = [&](const EpiloguePort &out) {
    for (int64_t block = 0; block < out.blocks; ++block) {
      size_t place = out.place + block;
      if (place < taken.size() &&
          (taken[place] ||
           (places[place] && *places[place] != halfOf(out, block))))
        return false;
    }
    return true;
  };
  for (auto [i, result] : llvm::enumerate(op.getOuts())) {
    EpiloguePort out{op.outPort(i), {}, {}};
    if (out.port.hasColumns() && isHalf(memrefOf(result).getElementType())) {
      out.blocks = out.port.getCount();
      stores += out.blocks * columns / kChunk;
      while (!fits(out))
        ++out.place;
      taken.resize(std::max<size_t>(taken.size(), out.place + out.blocks));
      places.resize(taken.size());
      std::fill_n(taken.begin() + out.place, out.blocks, true);
    }
    outs.push_back(out);
  }
  stages = llvm::divideCeil(taken.size(), kBlocksPerStage);
  fromRing = loaded && stages <= kMostStagesHeld;
  if (fromRing)
    stores = 0;
  else
    stages = llvm::divideCeil(loaded, kBlocksPerStage);

  step = kHalf;
  ValueRange yielded = op.getBody().front().getTerminator()->getOperands();
  for (const EpiloguePort &out : outs) {
    bool sums = fromRing && out.port.getKind() == PortKind::Partials;
    bool several = op.getLhs().size() > 1 ||
                   yielded.front().getDefiningOp<arith::AddFOp>();
    sumsRows |= sums;
    if (sums && several)
      step = kQuarter;
    yielded = yielded.drop_front(out.port.numValues());
  }
}

int64_t EpilogueLayout::leastStages() const {
  // A stage is read while the next one is filled; operands are awaited all at
  // once, with those held before them.
  return std::max<int64_t>(2, stagesHeld() + stages);
}

Epilogue::Place Epilogue::placeOf(int64_t place) {
  constexpr std::pair<int32_t, int32_t> places[kBlocksPerStage] = {
      {1, 0}, {1, 128}, {0, 0}};
  auto [tile, row] = places[place % kBlocksPerStage];
  return {place / kBlocksPerStage, tile, row};
}

Epilogue::Epilogue(GroupedMatmulOp op, KernelBuilder &kernel, int64_t columns)
    : EpilogueLayout(op), op(op), kernel(kernel), b(kernel.b),
      count(op.getColumns().getCount()), width(op.getWidth()),
      columns(columns) {
  for (auto [in, operand] : llvm::zip_equal(ins, op.getIns())) {
    if (in.blocks)
      in.map = passRows(operand, in.port, kBlockRows);
    else if (in.port.getKind() == PortKind::Scalar)
      in.memory = kernel.passFlat(operand);
    else
      in.memory = kernel.pass(operand);
  }
  for (auto [out, result] : llvm::zip_equal(outs, op.getOuts())) {
    out.memory = kernel.pass(result);
    if (out.blocks)
      out.map = passRows(result, out.port, 64);
  }
}

Value Epilogue::passRows(Value rows, PortAttr port, int64_t boxRows) {
  int64_t blocks = port.getCount(), pitch = 2 * width * blocks;
  if (Port{port, {}, {}}.alternates())
    return kernel.passMap(rows, {width * blocks, -1}, {pitch},
                          {kChunk, boxRows});
  // Values are a dimension, so that a box ends with its value.
  return kernel.passMap(rows, {width, blocks, -1}, {2 * width, pitch},
                        {kChunk, 1, boxRows});
}

Values Epilogue::coordinates(const Port &port, int64_t block, Value column,
                             Value row) {
  if (port.alternates())
    return {columnsOf(port, block, column).first, row};
  return {column, b.i32(block), row};
}

std::pair<Value, Value> Epilogue::columnsOf(const Port &port, int64_t block,
                                            Value column) {
  if (port.alternates())
    return {b.add(b.mul(column, 2), block * kChunk), b.i32(2 * width)};
  return {block ? b.add(column, block * width) : column,
          b.i32((block + 1) * width)};
}

void Epilogue::use(Value ringMemory, Value stagingMemory) {
  ring = ringMemory;
  staging = stagingMemory;
}

//===----------------------------------------------------------------------===//
// The producing warpgroup
//===----------------------------------------------------------------------===//

Value Epilogue::produce(Value position, Value first, Value firstColumn,
                        bool gathers) {
  for (int64_t chunk = 0; chunk < columns / kChunk; ++chunk) {
    Value column = b.add(firstColumn, chunk * kChunk);
    for (int64_t stage = 0; stage < stages; ++stage) {
      AcquireOp::create(b, ring, position);
      auto copies = [&] {
        SmallVector<std::pair<const Port *, int64_t>> here;
        for (const Port &in : ins)
          for (int64_t block = 0; block < in.blocks; ++block)
            if (placeOf(in.place + block).stage == stage)
              here.push_back({&in, block});
        ExpectOp::create(b, ring, position, 128 * kBlockRows * here.size());
        for (auto [in, block] : here) {
          Place place = placeOf(in->place + block);
          LoadOp::create(b, in->map, coordinates(*in, block, column, first),
                         ring, position, place.tile, place.row);
        }
      };
      if (gathers) {
        b.elect(copies);
        CommitOp::create(b, ring, position);
      } else {
        copies();
      }
      position = b.add(position, 1);
    }
  }
  return position;
}

//===----------------------------------------------------------------------===//
// The consuming warpgroups: operands
//===----------------------------------------------------------------------===//

/// One value a row; the segments of partials are added up, left to right.
Value Epilogue::loadScalar(const Port &in, const TileRows &rows) {
  auto type = FragmentType::get(b.getContext(), 64, 1);
  RowsBy by = kernel.rowsBy(in.port.getOrder());
  int64_t values = in.port.getKind() == PortKind::Partials
                       ? memrefOf(in.memory).getDimSize(1)
                       : 1;
  Value sum;
  for (int64_t i = 0; i < values; ++i) {
    Value next = LoadFragmentOp::create(b, TypeRange(type), in.memory, rows.row,
                                        b.i32(i), rows.end, b.i32(values),
                                        by.ids, by.slots, by.divide)
                     .getResult(0);
    sum = sum ? kernel.sum(sum, next) : next;
  }
  return sum;
}

Values Epilogue::loadScalars(const TileRows &rows) {
  Values scalars;
  for (const Port &in : ins) {
    PortKind kind = in.port.getKind();
    bool scalar = kind == PortKind::Scalar || kind == PortKind::Partials;
    scalars.push_back(scalar ? loadScalar(in, rows) : Value());
  }
  return scalars;
}

/// The values of an operand for a step's columns, from `column`, which are
/// those from `at` of the chunk that `position` has staged.
Values Epilogue::loadValues(const Port &in, int64_t at, Value position,
                            const TileRows &rows, Value column) {
  int64_t values = in.port.numValues();
  SmallVector<Type> types(in.alternates() ? 2 : 1);
  Values all;
  auto read = [&](int64_t block) {
    Place place = placeOf(in.place + block);
    std::fill(types.begin(), types.end(),
              FragmentType::get(
                  b.getContext(), 64, step,
                  cast<TensorMapType>(in.map.getType()).getElementType()));
    auto op = ReadOp::create(b, types, ring, b.add(position, place.stage),
                             place.tile, place.row,
                             in.alternates() ? at % kHalf : at, rows.warpgroup);
    llvm::append_range(all, op.getFragments());
  };
  auto load = [&](int64_t value) {
    bool expert = in.port.getKind() == PortKind::Expert;
    std::fill(types.begin(), types.end(),
              FragmentType::get(b.getContext(), expert ? 1 : 64, step));
    RowsBy by = expert ? RowsBy{{}, {}, 1} : kernel.rowsBy(in.port.getOrder());
    auto [first, limit] = columnsOf(in, value, column);
    auto op = LoadFragmentOp::create(
        b, types, in.memory, expert ? rows.expert : rows.row, first, rows.end,
        limit, by.ids, by.slots, by.divide);
    llvm::append_range(all, op.getFragments());
  };
  if (in.alternates())
    in.map ? read(at / kHalf) : load(0);
  else
    for (int64_t value = 0; value < values; ++value)
      in.map ? read(value) : load(value);
  return all;
}

/// The region on a step's columns: from `at` of the accumulator's blocks and of
/// the chunk that `position` has staged, from `column` of memory. Gives each
/// result's values.
SmallVector<Values> Epilogue::mapColumns(Value accumulator, int64_t at,
                                         Value position, const TileRows &rows,
                                         Value column, ValueRange scalars) {
  auto fragment = [&](Type element) {
    return FragmentType::get(b.getContext(), 64, step, element);
  };
  Values arguments;
  for (int64_t i = 0; i < count; ++i)
    arguments.push_back(ColumnsOp::create(b, fragment(b.getF32Type()),
                                          accumulator, i * columns + at));
  for (auto [in, scalar] : llvm::zip_equal(ins, scalars)) {
    if (scalar)
      arguments.push_back(scalar);
    else
      llvm::append_range(arguments,
                         loadValues(in, at % kChunk, position, rows, column));
  }

  Block &body = op.getBody().front();
  Operation *yield = body.getTerminator();
  SmallVector<Type> types;
  for (const Port &out : outs)
    types.append(out.port.numValues(),
                 fragment(fromRing && out.map
                              ? memrefOf(out.memory).getElementType()
                              : b.getF32Type()));
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

  SmallVector<Values> results;
  ValueRange rest = map.getResults();
  for (const Port &out : outs) {
    results.emplace_back(rest.take_front(out.port.numValues()));
    rest = rest.drop_front(out.port.numValues());
  }
  return results;
}

//===----------------------------------------------------------------------===//
// The consuming warpgroups: results
//===----------------------------------------------------------------------===//

/// What the values of a step can do alone, from column `at` of the chunk: go to
/// the ring's stage, to a staging buffer of 32 columns of two values, or to
/// memory.
void Epilogue::storeStep(const Port &out, ValueRange values, int64_t at,
                         Value position, const TileRows &rows, Value column) {
  RowsBy by = kernel.rowsBy(out.port.getOrder());
  if (fromRing && out.map) {
    auto write = [&](ValueRange fragments, int64_t block, int64_t column) {
      Place place = placeOf(out.place + block);
      WriteOp::create(b, fragments, ring, b.add(position, place.stage),
                      place.tile, place.row, column, rows.warpgroup);
    };
    if (out.alternates())
      return write(values, at / kHalf, at % kHalf);
    for (auto [block, value] : llvm::enumerate(values))
      write(value, block, at);
    return;
  }
  if (out.map) {
    if (!out.alternates())
      return;
    assert(step == kHalf);
    Value chunk = at ? b.sub(column, at) : column;
    int64_t half = at / kHalf;
    auto [first, limit] = columnsOf(out, half, chunk);
    kernel.stageStore({kernel.round(values[0], out.memory),
                       kernel.round(values[1], out.memory)},
                      staging, rows.warpgroup, out.map,
                      coordinates(out, half, chunk, rows.row), out.memory,
                      rows.row, first, rows.end, limit, by);
    return;
  }
  for (auto [block, value] : llvm::enumerate(values)) {
    auto [first, limit] = columnsOf(out, block, column);
    StoreFragmentOp::create(b, value, out.memory, rows.row, first, rows.end,
                            limit, by.ids, by.slots, by.divide);
  }
}

/// 64 columns through staging.
void Epilogue::storeChunk(const Port &out, ValueRange left, ValueRange right,
                          const TileRows &rows, Value column) {
  auto type = FragmentType::get(b.getContext(), 64, kChunk,
                                memrefOf(out.memory).getElementType());
  for (int64_t block = 0; block < out.blocks; ++block) {
    auto [first, limit] = columnsOf(out, block, column);
    Value both = JoinOp::create(b, type, kernel.round(left[block], out.memory),
                                kernel.round(right[block], out.memory));
    kernel.stageStore(both, staging, rows.warpgroup, out.map,
                      coordinates(out, block, column, rows.row), out.memory,
                      rows.row, first, rows.end, limit,
                      kernel.rowsBy(out.port.getOrder()));
  }
}

/// The blocks that a chunk's stages hold go to memory.
void Epilogue::storeBlocks(Value position, const TileRows &rows, Value column) {
  PublishOp::create(b, rows.warpgroup);
  for (const Port &out : outs)
    for (int64_t block = 0; block < out.blocks; ++block) {
      Place place = placeOf(out.place + block);
      RowsBy by = kernel.rowsBy(out.port.getOrder());
      auto [first, limit] = columnsOf(out, block, column);
      StoreOp::create(b, ring, b.add(position, place.stage), place.tile,
                      place.row, rows.warpgroup, out.map,
                      coordinates(out, block, column, rows.row), out.memory,
                      rows.row, first, rows.end, limit, by.ids, by.slots,
                      by.divide);
    }
}

Value Epilogue::run(Value accumulator, Value position, const TileRows &rows,
                    ValueRange scalars) {
  auto sumType = FragmentType::get(b.getContext(), 64, 1);
  int64_t storesOfChunk = 0;
  for (const Port &out : outs)
    storesOfChunk += out.blocks;
  auto release = [&](Value first, int64_t number) {
    for (int64_t i = 0; i < number; ++i)
      ReleaseOp::create(b, ring, b.add(first, i));
  };
  Values sums(outs.size());
  for (int64_t chunk = 0; chunk < columns; chunk += kChunk) {
    Value column = b.add(rows.column, chunk);
    for (int64_t i = 0; i < stages; ++i)
      AwaitOp::create(b, ring, b.add(position, i), /*gathered=*/false);
    SmallVector<SmallVector<Values>> steps;
    for (int64_t at = 0; at < kChunk; at += step) {
      // Sums of rows would wait with their operands until the chunk's end, and
      // registers be short: ptxas moves arithmetic up to the next wait. This
      // one has passed already.
      if (sumsRows && at == kHalf)
        AwaitOp::create(b, ring, position, /*gathered=*/false);
      Value from = b.add(column, at);
      steps.push_back(
          mapColumns(accumulator, chunk + at, position, rows, from, scalars));
      for (auto [i, out] : llvm::enumerate(outs)) {
        if (out.port.getKind() != PortKind::Partials) {
          storeStep(out, steps.back()[i], at, position, rows, from);
          continue;
        }
        // By 32 columns, whatever the step: in the same bits.
        if ((at + step) % kHalf)
          continue;
        Value terms = steps.back()[i][0];
        if (step == kQuarter)
          terms =
              JoinOp::create(b, FragmentType::get(b.getContext(), 64, kHalf),
                             steps.rbegin()[1][i][0], terms);
        Value left = b.sub(b.i32(width), b.add(column, at / kHalf * kHalf));
        Value sum = RowSumOp::create(b, sumType, terms, left);
        sums[i] = sums[i] ? kernel.sum(sums[i], sum) : sum;
      }
    }
    if (!fromRing) {
      release(position, stages);
      position = b.add(position, stages);
    }
    for (auto [i, out] : llvm::enumerate(outs)) {
      if (out.port.getKind() == PortKind::Partials) {
        if ((chunk + kChunk) % kRowSumSegment)
          continue;
        StoreFragmentOp::create(
            b, sums[i], out.memory, rows.row, b.div(column, kRowSumSegment),
            rows.end, b.i32(numRowSumSegments(width)), Value(), Value(), 1);
        sums[i] = Value();
      } else if (out.map && !fromRing && !out.alternates()) {
        storeChunk(out, steps[0][i], steps[1][i], rows, column);
      }
    }
    if (!fromRing)
      continue;
    storeBlocks(position, rows, column);
    // Stages are released when the next chunk's stores have been issued, so
    // that their own have had time to read them: the last ones by the next
    // tile's products.
    if (chunk) {
      StoreWaitOp::create(b, storesOfChunk);
      release(b.sub(position, stages), stages);
    }
    position = b.add(position, stages);
  }
  return position;
}
