// SPDX-License-Identifier: Apache-2.0
// moe.grouped_matmul. A task is a share of an expert's rows and a panel of
// columns: it packs the expert's weights for the panel once, runs the
// micro-kernel over its rows (read in place), and ends with the rowwise region
// on what it has accumulated.
#include "MatrixTiles.h"
#include "RowRegion.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

/// Most rows of a task: what makes packing cheap against the product.
constexpr int64_t kRows = 384;
/// Rows for which weights are used as they come, and those that share one
/// reading of them.
constexpr int64_t kFewRows = 8, kStreamRows = 4;
/// Bytes of a packed panel: half of a common second-level cache.
constexpr int64_t kPanelBytes = 256 * 1024;
/// With tiles: most rows of a task, since packing costs as much and the product
/// less; rows of a block, which are staged once for all columns that are packed
/// together; those columns, and most of their pairs of terms.
constexpr int64_t kTaskRows = 768;
constexpr int64_t kBlockRows = 2 * kTileRows;
constexpr int64_t kGroupColumns = 256;
constexpr int64_t kGroupPairs = 512;

namespace {
/// A pair of lhs and rhs: its weights as rows of (E * out, in) or (E * in,
/// out).
struct Pair {
  Value lhs, weights;
  RowOrder order;
  WeightLayout layout;
  int64_t depth, outs;
};

/// The contraction steps [first, first + depth) of a pair.
struct Slice {
  const Pair *pair;
  Value first;
  int64_t depth;
};

class Matmul {
public:
  Matmul(GroupedMatmulOp op, KernelEmitter &b);
  void emit();

private:
  void task(Value expert, Value first, Value last, Value part);
  void accumulate(Value sub);
  void stream(Value sub);
  void panelProducts(Value sub);
  void groupProducts(Value from, Value to);
  void groupPass(Value first, ArrayRef<Slice> slices, bool fresh,
                 bool complete);
  void pass(Value sub, ArrayRef<Slice> slices, bool fresh, bool complete);
  void pack(Value sub, const Slice &slice, Value panelRow);
  Value weightRow(const Pair &pair, Value sub, Value v, int64_t lane);
  void epilogue(Value sub, Value first, Value last, Value accRow);
  void fetch(Value sub, Value i);
  void foldSums(Value sub, Value first, Value last);
  int64_t panelSteps() const;

  /// Accumulator vector v of panel `sub`: region value and column block.
  int64_t blocksPerValue() const { return tile.vectors / values; }
  int64_t panelColumns() const { return blocksPerValue() * kLanes; }

  GroupedMatmulOp op;
  KernelEmitter &b;
  RowRegion region;
  ProductKind kind;
  Tables tables;
  int64_t values;
  ColumnLayout layout;
  Tile tile;
  SmallVector<Pair> pairs;
  SmallVector<unsigned> sums;
  bool wholeRows = false;
  int64_t panels, span, rows, capacity;
  /// With tiles: panels that are packed together, and the lines from one of
  /// their vectors to the next.
  int64_t group = 1, linesPerVector = 0;

  // Of the task that is being emitted.
  Value expert, firstRow, count;
  Value panel, acc, stage, groupEnd;
  Values lanes, totals;
};
} // namespace

/// Rows of a panel that `depth` contraction steps take.
static int64_t panelRows(ProductKind kind, int64_t depth) {
  return kind.tiles ? tileLines(depth) : llvm::divideCeil(depth, kind.step());
}

Matmul::Matmul(GroupedMatmulOp op, KernelEmitter &b)
    : op(op), b(b), region(b, op, op.getColumns().getCount()),
      kind(productKind(
          b.target,
          cast<MemRefType>(op.getLhs()[0].getType()).getElementType())),
      tables(b.tables(op.getAssignment())), values(op.getColumns().getCount()),
      layout(op.getColumns().getLayout()),
      tile(chooseTile(b.target, kind.compute, values, region.width)) {
  for (auto [i, lhs] : llvm::enumerate(op.getLhs())) {
    auto weights = cast<MemRefType>(op.getRhs()[i].getType());
    bool outIn = op.rhsLayout(i) == WeightLayout::OutIn;
    Value flat = memref::CollapseShapeOp::create(
        b, op.getRhs()[i], SmallVector<ReassociationIndices>{{0, 1}, {2}});
    pairs.push_back({lhs, flat, op.lhsOrder(i), op.rhsLayout(i),
                     weights.getDimSize(outIn ? 2 : 1),
                     weights.getDimSize(outIn ? 1 : 2)});
  }
  for (auto [i, attr] : llvm::enumerate(op.getOutPorts())) {
    auto port = cast<PortAttr>(attr);
    if (port.hasColumns())
      continue;
    sums.push_back(i);
    wholeRows |= port.getKind() == PortKind::Sum;
  }
  // Segments of row sums are whole in a task, row sums need all columns.
  panels = llvm::divideCeil(region.width, panelColumns());
  // Sums over no columns are written too: they are zeros.
  if (wholeRows)
    panels = std::max<int64_t>(panels, 1);
  int64_t segment = std::min(panels, kRowSumSegment / panelColumns());
  span = wholeRows ? panels : sums.empty() ? 1 : std::max<int64_t>(segment, 1);
  rows = kRows / tile.rows * tile.rows;
  capacity = kPanelBytes /
             (tile.columns() * kind.panelElement().getIntOrFloatBitWidth() / 8);
  capacity = capacity / kLanes * kLanes;
  if (!kind.tiles)
    return;
  // Panels that are packed together share the rows that are staged.
  tile.rows = kBlockRows;
  group = std::clamp<int64_t>(kGroupColumns / tile.columns(), 1,
                              std::max<int64_t>(panels, 1));
  if (!wholeRows)
    span = llvm::alignTo(group, span);
  // Sums of all rows are kept where terms are packed in several parts.
  bool whole = panelSteps() <= kGroupPairs;
  capacity = whole ? kGroupPairs : kGroupPairs / 2;
  rows = whole ? kTaskRows : kTaskRows / 2;
}

int64_t Matmul::panelSteps() const {
  int64_t steps = 0;
  for (const Pair &pair : pairs)
    steps += panelRows(kind, pair.depth);
  return steps;
}

void Matmul::emit() {
  b.groupedTasks(tables, rows, tile.rows, llvm::divideCeil(panels, span),
                 [&](Value expert, Value first, Value last, Value part) {
                   task(expert, first, last, part);
                 });
  b.zeroSentinels(tables, op.getOuts(), op.getOutPorts());
}

void Matmul::task(Value expertOfTask, Value first, Value last, Value part) {
  expert = expertOfTask;
  firstRow = first;
  count = b.sub(last, first);
  int64_t steps = panelSteps(), most = std::min(steps, capacity);
  panel = kind.tiles ? tileBuffer(b, group * tile.vectors * most)
                     : b.stack({most, tile.columns()}, kind.panelElement());
  // Sums of a tile go to the region at once, while they are in the cache; of
  // all rows they are kept only where the weights come in several panels.
  int64_t accRows =
      steps <= capacity ? std::max(kFewRows, tile.rows) : group * rows;
  acc = b.stack({accRows, tile.columns()}, kind.compute);
  if (kind.tiles)
    stage = tileBuffer(b, tile.rows / kTileRows * most);
  else if (!kind.pairs && kind.element != kind.compute)
    stage = b.stack({tile.rows, most}, kind.compute);
  lanes.clear();
  totals.clear();
  for (unsigned sum : sums) {
    lanes.push_back(b.stack({rows, kLanes}, kind.compute));
    totals.push_back(region.outPort(sum).getKind() == PortKind::Sum
                         ? b.stack({rows}, kind.compute)
                         : Value());
  }
  Value zero = b.index(0);
  if (!sums.empty())
    b.loop(zero, count, 1, [&](Value i) {
      for (auto [lane, total] : llvm::zip_equal(lanes, totals)) {
        b.storeVector(b.zeros(kind.compute), lane, i, zero, kLanes);
        if (total)
          b.store(b.constant(kind.compute, 0.0), total, i);
      }
    });
  if (!region.width)
    return foldSums(part, zero, count);
  if (span == 1 && !kind.tiles) {
    accumulate(part);
    foldSums(part, zero, count);
    return;
  }
  Value from = b.mul(part, span);
  Value to = b.minimum(b.add(from, span), b.index(panels));
  if (kind.tiles)
    return groupProducts(from, to);
  b.loop(from, to, 1, [&](Value sub) {
    accumulate(sub);
    foldSums(sub, zero, count);
  });
}

/// The rows times the panel's weights, over all pairs, and the region on them.
void Matmul::accumulate(Value sub) {
  if (llvm::any_of(pairs, [](const Pair &pair) {
        return pair.layout == WeightLayout::InOut;
      }))
    return panelProducts(sub);
  b.when(
      b.less(b.index(kFewRows), count), [&] { panelProducts(sub); },
      [&] { stream(sub); });
}

/// For few rows: 16 x 16 weights are transposed in registers and used at once,
/// so that the speed is that of reading them. Sums are as with a panel: k
/// ascending.
void Matmul::stream(Value sub) {
  Value zero = b.index(0);
  b.loop(zero, b.index(tile.vectors), 1, [&](Value v) {
    b.loop(zero, count, kStreamRows, [&](Value firstOfTile) {
      SmallVector<Row> rows;
      Value last = b.sub(count, b.index(1));
      for (int64_t i = 0; i < kStreamRows; ++i) {
        Value at = b.minimum(b.add(firstOfTile, i), last);
        rows.push_back(b.groupedRow(tables, b.add(firstRow, at), expert));
      }
      Values sum(kStreamRows, b.zeros(kind.compute));
      for (const Pair &pair : pairs) {
        Values weightRows;
        for (int64_t lane = 0; lane < kLanes; ++lane)
          weightRows.push_back(weightRow(pair, sub, v, lane));
        auto block = [&](Value k, int64_t present, Values sum) {
          Values columns =
              transposeWeights(b, kind, pair.weights, weightRows, k, present);
          for (auto [step, column] : llvm::enumerate(columns))
            for (int64_t i = 0; i < kStreamRows; ++i) {
              Value row = b.rowIndex(pair.order, rows[i]);
              Value at = b.add(k, step * kind.step());
              bool single = int64_t(step * 2 + 1) == present;
              Value a = kind.pairs
                            ? broadcastPair(b, pair.lhs, row, at, single)
                            : b.splat(b.widen(b.load(pair.lhs, {row, at}),
                                              kind.compute));
              sum[i] = multiplyPanel(b, kind, a, column, sum[i]);
            }
          return sum;
        };
        int64_t width = kLanes * kind.step(), tail = pair.depth % width;
        sum = b.carry(zero, b.index(pair.depth - tail), width, sum,
                      [&](Value k, ValueRange sum) {
                        return block(k, width, Values(sum));
                      });
        if (tail)
          sum = block(b.index(pair.depth - tail), tail, sum);
      }
      for (int64_t i = 0; i < kStreamRows; ++i)
        b.storeVector(sum[i], acc, b.add(firstOfTile, i), b.mul(v, kLanes),
                      kLanes);
    });
  });
  epilogue(sub, zero, count, zero);
}

/// With weights that are packed first, for many rows.
void Matmul::panelProducts(Value sub) {
  Value zero = b.index(0);
  if (panelSteps() <= capacity) {
    SmallVector<Slice> all;
    for (const Pair &pair : pairs)
      all.push_back({&pair, zero, pair.depth});
    pass(sub, all, /*fresh=*/true, /*complete=*/true);
    return;
  }
  b.loop(zero, kind.tiles ? b.index(group * rows) : count, 1, [&](Value i) {
    for (int64_t v = 0; v < tile.vectors; ++v)
      b.storeVector(b.zeros(kind.compute), acc, i, b.index(v * kLanes), kLanes);
  });
  int64_t depth = capacity * kind.step();
  for (const Pair &pair : pairs) {
    bool complete = &pair == &pairs.back();
    int64_t rest = pair.depth % depth;
    if (complete && !rest)
      rest = std::min(pair.depth, depth);
    if (pair.depth > rest)
      b.loop(zero, b.index(pair.depth - rest), depth, [&](Value k) {
        pass(sub, Slice{&pair, k, depth}, /*fresh=*/false, /*complete=*/false);
      });
    if (rest || complete)
      pass(sub, Slice{&pair, b.index(pair.depth - rest), rest},
           /*fresh=*/false, complete);
  }
}

/// Packs the slices, one below the other, and adds their products to acc. With
/// `fresh` sums start at zero, and acc holds those of one tile; with `complete`
/// the region runs on them.
void Matmul::pass(Value sub, ArrayRef<Slice> slices, bool fresh,
                  bool complete) {
  if (kind.tiles)
    return groupPass(sub, slices, fresh, complete);
  SmallVector<int64_t> firstRows;
  int64_t steps = 0;
  for (const Slice &slice : slices) {
    firstRows.push_back(steps);
    pack(sub, slice, b.index(steps));
    steps += panelRows(kind, slice.depth);
  }
  b.loop(b.index(0), count, tile.rows, [&](Value tileRow) {
    // The last tile repeats the last row; nobody reads the repetitions.
    SmallVector<Row> tileRows;
    Value last = b.sub(count, b.index(1));
    Value end = b.minimum(b.add(tileRow, tile.rows), count);
    if (complete)
      b.loop(tileRow, end, 1, [&](Value i) { fetch(sub, i); });
    for (int64_t i = 0; i < tile.rows; ++i) {
      Value at = b.add(firstRow, b.minimum(b.add(tileRow, i), last));
      tileRows.push_back(b.groupedRow(tables, at, expert));
    }
    SmallVector<std::function<Value(int64_t, Value)>> loads;
    SmallVector<std::function<Value(int64_t)>> ends(slices.size());
    for (size_t index = 0; index < slices.size(); ++index) {
      const Slice &slice = slices[index];
      const Pair &pair = *slice.pair;
      auto row = [this, &tileRows, order = pair.order](int64_t i) {
        return b.rowIndex(order, tileRows[i]);
      };
      if (kind.pairs) {
        loads.push_back([this, &slice, &pair, row](int64_t i, Value k) {
          return broadcastPair(b, pair.lhs, row(i),
                               b.add(slice.first, b.mul(k, 2)), false);
        });
        if (slice.depth % 2)
          ends[index] = [this, &slice, &pair, row](int64_t i) {
            return broadcastPair(b, pair.lhs, row(i),
                                 b.add(slice.first, slice.depth - 1), true);
          };
      } else if (stage) {
        // Narrow rows are widened once, not once a step.
        int64_t at = firstRows[index], tail = slice.depth % kLanes;
        for (int64_t i = 0; i < tile.rows; ++i) {
          auto copy = [&](Value k, int64_t present) {
            b.storeVector(b.widen(b.loadVector(pair.lhs, row(i),
                                               b.add(slice.first, k), present),
                                  kind.compute),
                          stage, b.index(i), b.add(k, at), present);
          };
          b.loop(b.index(0), b.index(slice.depth - tail), kLanes,
                 [&](Value k) { copy(k, kLanes); });
          if (tail)
            copy(b.index(slice.depth - tail), tail);
        }
        loads.push_back([this, at](int64_t i, Value k) {
          return b.splat(b.load(stage, {b.index(i), b.add(k, at)}));
        });
      } else {
        loads.push_back([this, &slice, &pair, row](int64_t i, Value k) {
          return b.splat(b.load(pair.lhs, {row(i), b.add(slice.first, k)}));
        });
      }
    }
    SmallVector<Product> products;
    for (size_t index = 0; index < slices.size(); ++index) {
      Product product{panel, b.index(firstRows[index]),
                      b.index(slices[index].depth / kind.step()), loads[index]};
      if (ends[index])
        product.last = ends[index];
      products.push_back(product);
    }
    Value accRow = fresh ? b.index(0) : tileRow;
    emitTile(b, tile, kind, acc, accRow, fresh, products);
    if (complete)
      epilogue(sub, tileRow, end, accRow);
  });
}

/// The panels [from, to), as many at a time as are packed together.
void Matmul::groupProducts(Value from, Value to) {
  b.loop(from, to, group, [&](Value first) {
    groupEnd = b.minimum(b.add(first, group), to);
    panelProducts(first);
  });
}

/// `pass` with tiles, for the panels of a group: blocks of rows are staged once
/// for all of them, and the region runs on each panel's sums of a block while
/// the next one's are made.
void Matmul::groupPass(Value first, ArrayRef<Slice> slices, bool fresh,
                       bool complete) {
  SmallVector<TileProduct> products;
  int64_t steps = 0;
  for (const Slice &slice : slices) {
    int64_t lines = tileLines(slice.depth);
    products.push_back({steps, b.index(lines)});
    steps += lines;
  }
  linesPerVector = steps;
  auto panelLine = [&](Value sub) {
    return b.mul(b.sub(sub, first), tile.vectors * steps);
  };
  b.loop(first, groupEnd, 1, [&](Value sub) {
    for (auto [slice, product] : llvm::zip_equal(slices, products))
      pack(sub, slice, b.add(panelLine(sub), product.line));
  });
  Value zero = b.index(0), last = b.sub(count, b.index(1));
  b.loop(zero, count, kBlockRows, [&](Value block) {
    Value end = b.minimum(b.add(block, kBlockRows), count);
    // Of few rows one tile is enough. Its last rows repeat the last one; nobody
    // reads the repetitions.
    Value tall = b.less(b.add(block, kTileRows), count);
    Value staged = b.select(tall, b.index(kBlockRows), b.index(kTileRows));
    b.loop(zero, staged, 1, [&](Value i) {
      Value at = b.add(firstRow, b.minimum(b.add(block, i), last));
      Row row = b.groupedRow(tables, at, expert);
      Value line =
          b.add(b.mul(b.div(i, kTileRows), steps), b.rem(i, kTileRows));
      for (auto [slice, product] : llvm::zip_equal(slices, products))
        stageTileRow(b, slice.pair->lhs, b.rowIndex(slice.pair->order, row),
                     slice.first, slice.depth, stage,
                     b.add(line, product.line));
    });
    b.loop(first, groupEnd, 1, [&](Value sub) {
      if (complete)
        b.loop(block, end, 1, [&](Value i) { fetch(sub, i); });
      Value accRow =
          fresh ? zero : b.add(b.mul(b.sub(sub, first), rows), block);
      auto multiply = [&](int64_t tall) {
        emitTiles(b, tall, tile.vectors, {stage, zero, steps},
                  {panel, panelLine(sub), steps}, acc, accRow, fresh, products);
      };
      b.when(tall, [&] { multiply(2); }, [&] { multiply(1); });
      if (!complete)
        return;
      epilogue(sub, block, end, accRow);
      foldSums(sub, block, end);
    });
  });
}

/// The row of (E * out, in) whose product is lane `lane` of accumulator vector
/// v.
Value Matmul::weightRow(const Pair &pair, Value sub, Value v, int64_t lane) {
  int64_t blocks = blocksPerValue(), width = region.width;
  Value column = b.add(b.mul(sub, panelColumns()),
                       b.add(b.mul(b.rem(v, blocks), kLanes), lane));
  // Past the last column the last one is repeated; nobody reads it.
  if (width % panelColumns())
    column = b.minimum(column, b.index(width - 1));
  Value value = b.div(v, blocks);
  Value row = layout == ColumnLayout::Interleave
                  ? b.add(b.mul(column, values), value)
                  : b.add(b.mul(value, width), column);
  return b.add(b.mul(expert, pair.outs), row);
}

void Matmul::pack(Value sub, const Slice &slice, Value panelRow) {
  const Pair &pair = *slice.pair;
  int64_t width = region.width;
  Value firstColumn = b.mul(sub, panelColumns());
  if (pair.layout == WeightLayout::OutIn) {
    auto rowOf = [&](Value v, int64_t lane) {
      return weightRow(pair, sub, v, lane);
    };
    if (kind.tiles)
      packTileRows(b, kind, pair.weights, rowOf, slice.first, slice.depth,
                   tile.vectors, panel, panelRow, linesPerVector);
    else
      packRows(b, kind, pair.weights, rowOf, slice.first, slice.depth,
               tile.vectors, panel, panelRow);
    return;
  }
  // (in, out): rows of the weights are rows of the panel. The region value that
  // is being packed is known inside eachColumn alone.
  int64_t value = 0;
  packColumns(
      b, kind, b.index(slice.depth),
      [&](function_ref<void(Value, Value, int64_t)> body) {
        for (value = 0; value < values; ++value)
          b.columns(
              firstColumn, panelColumns(), width,
              [&](Value column, int64_t present) {
                body(column,
                     b.add(b.sub(column, firstColumn), value * panelColumns()),
                     present);
              });
      },
      [&](Value k, Value column, int64_t present) {
        Value row = b.add(b.mul(expert, pair.depth), b.add(slice.first, k));
        if (layout != ColumnLayout::Interleave)
          return b.loadVector(pair.weights, row, b.add(column, value * width),
                              present);
        Value all = b.zeros(kind.element);
        Value first = b.add(b.mul(column, values), value);
        for (int64_t lane = 0; lane < present; ++lane)
          all = vector::InsertOp::create(
              b, b.load(pair.weights, {row, b.add(first, lane * values)}), all,
              lane);
        return all;
      },
      [&](Value values, Value k, Value to) {
        if (kind.tiles)
          storeTilePair(b, values, panel, panelRow, linesPerVector, k, to);
        else
          b.storeVector(values, panel, b.add(panelRow, k), to, kLanes);
      });
  if (kind.tiles)
    padTileColumns(b, slice.depth, tile.vectors, panel, panelRow,
                   linesPerVector);
}

/// Brings what the region reads and writes for row i: of each row only the
/// panel's columns are touched, too few for the CPU to see where it goes on.
void Matmul::fetch(Value sub, Value i) {
  Value firstColumn = b.mul(sub, panelColumns());
  Row row;
  auto bring = [&](Value rows, PortAttr port, bool isWrite) {
    if (!port.hasColumns() || port.getKind() == PortKind::Expert)
      return;
    if (!row.expert)
      row = b.groupedRow(tables, b.add(firstRow, i), expert);
    auto type = cast<MemRefType>(rows.getType());
    int64_t line = 64 * 8 / type.getElementTypeBitWidth();
    int64_t blocks = port.getCount(), each = panelColumns();
    bool apart = port.getLayout() != ColumnLayout::Interleave;
    for (int64_t block = 0; block < (apart ? blocks : 1); ++block)
      for (int64_t at = 0; at < (apart ? each : each * blocks); at += line)
        memref::PrefetchOp::create(
            b, rows,
            ValueRange{b.rowIndex(port, row),
                       b.add(b.mul(firstColumn, apart ? 1 : blocks),
                             block * region.width + at)},
            isWrite, /*localityHint=*/3, /*isDataCache=*/true);
  };
  for (auto [index, in] : llvm::enumerate(op.getIns()))
    bring(in, region.inPort(index), /*isWrite=*/false);
  for (auto [index, out] : llvm::enumerate(op.getOuts()))
    bring(out, region.outPort(index), /*isWrite=*/true);
}

/// The rowwise region on the panel's columns of some rows, the first of which
/// is `accRow` of acc.
void Matmul::epilogue(Value sub, Value first, Value last, Value accRow) {
  Value firstColumn = b.mul(sub, panelColumns());
  b.loop(first, last, 1, [&](Value i) {
    Row row = b.groupedRow(tables, b.add(firstRow, i), expert);
    Value from = b.add(accRow, b.sub(i, first));
    Values once = region.rowValues(row);
    b.columns(firstColumn, panelColumns(), region.width,
              [&](Value column, int64_t present) {
                Value at = b.sub(column, firstColumn);
                Values accumulated;
                for (int64_t value = 0; value < values; ++value)
                  accumulated.push_back(b.loadVector(
                      acc, from, b.add(at, value * panelColumns()), kLanes));
                Values yielded =
                    region.columns(row, once, column, present, accumulated);
                unsigned sum = 0;
                for (auto [index, out] : llvm::enumerate(op.getOuts())) {
                  PortAttr port = region.outPort(index);
                  ValueRange from =
                      ValueRange(yielded).drop_front(region.firstYield(index));
                  if (port.hasColumns()) {
                    b.storeColumns(from.take_front(port.getCount()), out, port,
                                   row, region.width, column, present);
                    continue;
                  }
                  Value lane = lanes[sum++], zero = b.index(0);
                  b.storeVector(b.addLanes(b.loadVector(lane, i, zero, kLanes),
                                           b.splat(from[0]), present),
                                lane, i, zero, kLanes);
                }
              });
  });
}

/// After the last panel of a segment: the lanes of some rows become partials.
void Matmul::foldSums(Value sub, Value first, Value last) {
  if (sums.empty())
    return;
  int64_t each = kRowSumSegment / panelColumns();
  Value next = b.add(sub, 1), zero = b.index(0);
  Value ends =
      arith::OrIOp::create(b,
                           arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                                 b.rem(next, each), zero),
                           arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                                 next, b.index(panels)));
  b.when(ends, [&] {
    b.loop(first, last, 1, [&](Value i) {
      Row row = b.groupedRow(tables, b.add(firstRow, i), expert);
      for (auto [index, sum] : llvm::enumerate(sums)) {
        PortAttr port = region.outPort(sum);
        Value out = op.getOuts()[sum];
        Value folded =
            b.reduceLanes(b.loadVector(lanes[index], i, zero, kLanes));
        b.storeVector(b.zeros(kind.compute), lanes[index], i, zero, kLanes);
        if (port.getKind() == PortKind::Partials) {
          Type element = cast<MemRefType>(out.getType()).getElementType();
          if (region.width)
            b.store(b.narrow(folded, element), out,
                    {b.rowIndex(port, row), b.div(sub, each)});
          continue;
        }
        // Kept after each segment; the last store is the whole sum.
        Value total = b.add(b.load(totals[index], i), folded);
        b.store(total, totals[index], i);
        b.storeRowValue(total, out, port, row);
      }
    });
  });
}

LogicalResult mlir::moe::emitGroupedMatmul(GroupedMatmulOp op,
                                           KernelEmitter &b) {
  Matmul(op, b).emit();
  return success();
}
