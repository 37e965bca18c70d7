// SPDX-License-Identifier: Apache-2.0
// Fragments: elementwise bodies, row sums, and their way from and to memory.
//
// In a warpgroup's thread t, with lane l = t % 32 and warp w = t / 32, value
// 4 j + 2 h + i of a 64xN fragment is row 16 w + l / 4 + 8 h, column
// 8 j + 2 (l % 4) + i.
#include "Emitter.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::nvtile;

using Values = Emitter::Values;

namespace {

/// The first of a thread's two rows of a fragment; the other is 8 below.
Value firstRow(Emitter &b) {
  return b.add(b.mul(b.warp(), 16), b.shr(b.lane(), 2));
}

/// The first of a thread's two columns of eight.
Value firstColumn(Emitter &b) { return b.mul(b.band(b.lane(), 3), 2); }

Value toF32(Value value, Emitter &b) {
  return value.getType().isF32()
             ? value
             : arith::ExtFOp::create(b, b.getF32Type(), value);
}

/// Two f32 as two elements of `type`, rounded to nearest even.
Value roundPair(Value low, Value high, Type type, Emitter &b) {
  auto pair = VectorType::get(2, type);
  if (type.isBF16())
    return NVVM::ConvertF32x2ToBF16x2Op::create(b, pair, high, low, Value(),
                                                NVVM::FPRoundingMode::RN);
  if (type.isF16())
    return NVVM::ConvertF32x2ToF16x2Op::create(b, pair, high, low, Value(),
                                               NVVM::FPRoundingMode::RN);
  Value vector = LLVM::UndefOp::create(b, pair);
  vector = LLVM::InsertElementOp::create(b, vector, low, b.i32(0));
  return LLVM::InsertElementOp::create(b, vector, high, b.i32(1));
}

//===----------------------------------------------------------------------===//
// In registers
//===----------------------------------------------------------------------===//

struct ConvertColumns : OpConversionPattern<ColumnsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ColumnsOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    Values all = b.unpack(adaptor.getSource());
    int64_t eachEight = op.getType().getRows() == 1 ? 2 : 4;
    rewriter.replaceOp(op,
                       b.pack(ValueRange(all)
                                  .drop_front(op.getFirst() / 8 * eachEight)
                                  .take_front(op.getType().getRegisters())));
    return success();
  }
};

/// The value of an operand, in f32, that meets value `i` of the whole fragment.
Value broadcastValue(FragmentType operand, ValueRange registers,
                     FragmentType whole, int64_t i, Emitter &b) {
  Type element = operand.getElementType();
  if (!element.isF32()) {
    Value pair = LLVM::BitcastOp::create(b, VectorType::get(2, element),
                                         registers[i / 2]);
    return toF32(LLVM::ExtractElementOp::create(b, pair, b.i32(i % 2)), b);
  }
  if (operand.getColumns() == 1 && whole.getColumns() != 1)
    return registers[i / 2 % 2];
  if (operand.getRows() == 1 && whole.getRows() != 1)
    return registers[i / 4 * 2 + i % 2];
  return registers[i];
}

struct ConvertMap : OpConversionPattern<MapOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(MapOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Block &body = op.getBody().front();
    for (Operation &inner : body.without_terminator())
      if (!isScalarMath(&inner))
        return inner.emitOpError()
               << "has no approximation in an nvtile.map on this chip";
    Emitter b(op, rewriter);
    auto first = cast<FragmentType>(op.getResult(0).getType());
    auto whole =
        FragmentType::get(b.getContext(), first.getRows(), first.getColumns());
    SmallVector<Values> operands;
    for (Value fragment : adaptor.getFragments())
      operands.push_back(b.unpack(fragment));
    // A pair of elements after the other, so that few values wait in registers.
    // One instruction rounds both: where each f16 was rounded by one of its own
    // and again with its neighbour, ptxas serialized the products (C7514).
    SmallVector<Values> results(op.getNumResults());
    for (int64_t i = 0; i < whole.getRegisters(); i += 2) {
      IRMapping pair[2];
      for (auto [index, argument] : llvm::enumerate(body.getArguments())) {
        auto type = cast<FragmentType>(op.getFragments()[index].getType());
        for (int64_t side = 0; side < 2; ++side)
          pair[side].map(argument, broadcastValue(type, operands[index], whole,
                                                  i + side, b));
      }
      auto both = [&](Value value) -> std::pair<Value, Value> {
        return {pair[0].lookupOrDefault(value), pair[1].lookupOrDefault(value)};
      };
      for (Operation &inner : body.without_terminator()) {
        if (auto round = dyn_cast<arith::TruncFOp>(inner);
            round && round.getIn().getType().isF32()) {
          auto [low, high] = both(round.getIn());
          Value rounded = roundPair(low, high, round.getType(), b);
          for (int64_t side = 0; side < 2; ++side)
            pair[side].map(round.getResult(), LLVM::ExtractElementOp::create(
                                                  b, rounded, b.i32(side)));
          continue;
        }
        for (IRMapping &mapping : pair)
          emitScalarMath(&inner, mapping, b);
      }
      for (auto [index, yielded] :
           llvm::enumerate(body.getTerminator()->getOperands())) {
        auto [low, high] = both(yielded);
        Type element =
            cast<FragmentType>(op.getResult(index).getType()).getElementType();
        if (element.isF32())
          llvm::append_values(results[index], low, high);
        else
          results[index].push_back(LLVM::BitcastOp::create(
              b, b.getI32Type(), roundPair(low, high, element, b)));
      }
    }
    Values packed;
    for (Values &result : results)
      packed.push_back(b.pack(result));
    rewriter.replaceOp(op, packed);
    return success();
  }
};

struct ConvertRound : OpConversionPattern<RoundOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(RoundOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    Values values = b.unpack(adaptor.getSource()), words;
    for (size_t i = 0; i < values.size(); i += 2)
      words.push_back(
          LLVM::BitcastOp::create(b, b.getI32Type(),
                                  roundPair(values[i], values[i + 1],
                                            op.getType().getElementType(), b)));
    rewriter.replaceOp(op, b.pack(words));
    return success();
  }
};

struct ConvertJoin : OpConversionPattern<JoinOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(JoinOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    Values both = b.unpack(adaptor.getLeft());
    llvm::append_range(both, b.unpack(adaptor.getRight()));
    rewriter.replaceOp(op, b.pack(both));
    return success();
  }
};

struct ConvertRowSum : OpConversionPattern<RowSumOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(RowSumOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    Values values = b.unpack(adaptor.getSource()), sums;
    Value zero = b.f32(0.0);
    int64_t groups = op.getSource().getType().getColumns() / 8;
    for (int64_t half = 0; half < 2; ++half) {
      Value sum = zero;
      for (int64_t j = 0; j < groups; ++j) {
        // The limit is a multiple of 8.
        Value inside =
            b.compare(arith::CmpIPredicate::sgt, adaptor.getLimit(), 8 * j);
        for (int64_t i = 0; i < 2; ++i)
          sum = arith::AddFOp::create(
              b, sum, b.select(inside, values[4 * j + 2 * half + i], zero));
      }
      // The row's other columns are with three neighbours.
      for (int64_t distance : {1, 2})
        sum = arith::AddFOp::create(
            b, sum,
            NVVM::ShflOp::create(b, b.getF32Type(), b.i32(-1), sum,
                                 b.i32(distance), b.i32(31),
                                 NVVM::ShflKind::bfly, UnitAttr()));
      sums.push_back(sum);
    }
    rewriter.replaceOp(op, b.pack(sums));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// From and to memory
//===----------------------------------------------------------------------===//

struct ConvertLoadFragment : OpConversionPattern<LoadFragmentOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(LoadFragmentOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    auto type = cast<FragmentType>(op.getFragments()[0].getType());
    Value memref = op.getSource(), pointer = adaptor.getSource();
    Type element = b.elementOf(memref);
    SmallVector<Values> fragments(op.getFragments().size(),
                                  Values(type.getRegisters()));
    // Rows stay inside; what nobody reads may hold anything.
    Value lastRow = b.sub(adaptor.getEnd(), 1);
    auto rowOf = [&](int64_t half) {
      Value row = b.add(adaptor.getRow(), firstRow(b));
      if (half)
        row = b.add(row, 8);
      return b.memoryRow(b.minimum(row, lastRow), adaptor);
    };
    auto pairsOf = [&](Value row, function_ref<int64_t(int64_t, int64_t)> at) {
      for (auto [j, pair] : llvm::enumerate(loadPairs(op, adaptor, row, b)))
        for (int64_t i = 0; i < 2; ++i)
          for (auto [v, values] : llvm::enumerate(fragments))
            values[at(j, i)] =
                toF32(LLVM::ExtractElementOp::create(
                          b, pair, b.i32(i * fragments.size() + v)),
                      b);
    };
    if (type.getRows() == 1)
      pairsOf(adaptor.getRow(), [](int64_t j, int64_t i) { return 2 * j + i; });
    else
      for (int64_t half = 0; half < 2; ++half) {
        Value row = rowOf(half);
        if (type.getColumns() == 1)
          fragments[0][half] =
              toF32(b.load(element,
                           b.address(pointer, memref, row, adaptor.getColumn()),
                           element.getIntOrFloatBitWidth() / 8),
                    b);
        else
          pairsOf(row,
                  [&](int64_t j, int64_t i) { return 4 * j + 2 * half + i; });
      }
    Values packed;
    for (const Values &values : fragments)
      packed.push_back(b.pack(values));
    rewriter.replaceOp(op, packed);
    return success();
  }

  /// A thread's pairs of a row: two columns of each 8, of each fragment.
  /// Addresses differ by constants wherever that can be: they would take the
  /// registers.
  static Values loadPairs(LoadFragmentOp op, OpAdaptor adaptor, Value row,
                          Emitter &b) {
    int64_t count = op.getFragments().size();
    int64_t columns =
        count * cast<FragmentType>(op.getFragments()[0].getType()).getColumns();
    int64_t eight = 8 * count;
    Type element = b.elementOf(op.getSource());
    int64_t bytes = element.getIntOrFloatBitWidth() / 8;
    auto type = VectorType::get(2 * count, element);
    APInt constant;
    bool whole = matchPattern(op.getLimit(), m_ConstantInt(&constant)) &&
                 constant.getSExtValue() % columns == 0;
    // Columns stay inside as well: pairs past the limit repeat the first one.
    Value last = b.sub(adaptor.getLimit(), whole ? columns : eight);
    Value column = b.minimum(adaptor.getColumn(), last);
    Value mine = count == 1 ? firstColumn(b) : b.mul(firstColumn(b), count);
    Value start = b.address(adaptor.getSource(), op.getSource(), row,
                            b.add(column, mine));
    Values pairs;
    for (int64_t j = 0; j < columns / eight; ++j) {
      Value offset = b.i64(j * eight * bytes);
      if (!whole && j)
        offset =
            b.select(b.less(last, b.add(column, j * eight)), b.i64(0), offset);
      pairs.push_back(b.load(type, b.global(start, offset), 2 * count * bytes));
    }
    return pairs;
  }
};

struct ConvertStoreFragment : OpConversionPattern<StoreFragmentOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(StoreFragmentOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    FragmentType type = op.getFragment().getType();
    Value memref = op.getTarget(), pointer = adaptor.getTarget();
    Type element = b.elementOf(memref);
    int64_t bytes = element.getIntOrFloatBitWidth() / 8;
    Values values = b.unpack(adaptor.getFragment());
    Value first = b.add(adaptor.getRow(), firstRow(b));
    for (int64_t half = 0; half < 2; ++half) {
      Value row = half ? b.add(first, 8) : first;
      Value inside = b.less(row, adaptor.getEnd());
      if (type.getColumns() == 1) {
        Value writes = b.band(
            b.band(inside, b.less(adaptor.getColumn(), adaptor.getLimit())),
            b.equal(b.band(b.lane(), 3), 0));
        b.when(writes, [&] {
          Value at = b.memoryRow(row, adaptor);
          Value value = values[half];
          if (!element.isF32())
            value = arith::TruncFOp::create(b, element, value);
          b.store(value, b.address(pointer, memref, at, adaptor.getColumn()),
                  bytes);
        });
        continue;
      }
      b.when(inside, [&] {
        Value at = b.memoryRow(row, adaptor);
        Value start = b.address(pointer, memref, at,
                                b.add(adaptor.getColumn(), firstColumn(b)));
        auto pair = [&](int64_t j) {
          b.store(roundPair(values[4 * j + 2 * half],
                            values[4 * j + 2 * half + 1], element, b),
                  b.global(start, b.i64(8 * j * bytes)), 2 * bytes);
        };
        int64_t groups = type.getColumns() / 8;
        auto reaches = [&](int64_t columns) {
          return b.compare(arith::CmpIPredicate::sle,
                           b.add(adaptor.getColumn(), columns),
                           adaptor.getLimit());
        };
        b.either(
            reaches(type.getColumns()),
            [&] {
              for (int64_t j = 0; j < groups; ++j)
                pair(j);
            },
            [&] {
              for (int64_t j = 0; j + 1 < groups; ++j)
                b.when(reaches(8 * (j + 1)), [&] { pair(j); });
            });
      });
    }
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void mlir::nvtile::populateFragmentPatterns(const TypeConverter &converter,
                                            RewritePatternSet &patterns) {
  patterns.add<ConvertColumns, ConvertMap, ConvertRound, ConvertJoin,
               ConvertRowSum, ConvertLoadFragment, ConvertStoreFragment>(
      converter, patterns.getContext());
}
