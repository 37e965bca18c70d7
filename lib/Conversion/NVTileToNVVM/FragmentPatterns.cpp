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

Type elementOf(Value memref) {
  return cast<MemRefType>(memref.getType()).getElementType();
}

/// Elements of a row: the last dimension, or 1 for a vector.
int64_t rowLength(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  return type.getRank() == 1 ? 1 : type.getShape().back();
}

/// The memory's row for row `row` of the kernel's order.
Value memoryRow(Value row, Value ids, int64_t divide, Emitter &b) {
  if (!ids)
    return row;
  Value id = b.word(ids, row);
  return divide == 1 ? id : b.div(id, divide);
}

/// The address of element `column` of a row, in memory of `memref`'s type.
Value address(Value pointer, Value memref, Value row, Value column,
              Emitter &b) {
  int64_t bytes = elementOf(memref).getIntOrFloatBitWidth() / 8;
  Value offset = b.mul(b.widen(row), rowLength(memref) * bytes);
  if (column)
    offset = b.add(offset, b.mul(b.widen(column), bytes));
  return b.global(pointer, offset);
}

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
    // An element after the other, so that few values wait in registers.
    SmallVector<Values> results(op.getNumResults());
    Values low(op.getNumResults());
    for (int64_t i = 0; i < whole.getRegisters(); ++i) {
      IRMapping mapping;
      for (auto [index, argument] : llvm::enumerate(body.getArguments())) {
        auto type = cast<FragmentType>(op.getFragments()[index].getType());
        mapping.map(argument,
                    broadcastValue(type, operands[index], whole, i, b));
      }
      for (Operation &inner : body.without_terminator())
        emitScalarMath(&inner, mapping, b);
      for (auto [index, yielded] :
           llvm::enumerate(body.getTerminator()->getOperands())) {
        Value value = mapping.lookupOrDefault(yielded);
        Type element =
            cast<FragmentType>(op.getResult(index).getType()).getElementType();
        if (element.isF32())
          results[index].push_back(value);
        else if (i % 2 == 0)
          low[index] = value;
        else
          results[index].push_back(LLVM::BitcastOp::create(
              b, b.getI32Type(), roundPair(low[index], value, element, b)));
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

/// Where a lane finds its row of 16 in swizzled rows of 128 bytes, for the
/// first 16 of 64 columns; 16 columns further is this exclusive-or 32.
Value matrixPlace(Emitter &b) {
  Value lane = b.lane();
  Value row = b.mul(b.band(lane, 15), 128);
  Value piece = b.bxor(b.shr(lane, 4), b.band(lane, 7));
  return b.add(row, b.mul(piece, 16));
}

struct ConvertRead : OpConversionPattern<ReadOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ReadOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    RingType ring = op.getRing().getType();
    Value rows = b.add(b.mul(adaptor.getWarpgroup(), 64), b.mul(b.warp(), 16));
    Value mine =
        b.shared(adaptor.getRing(),
                 b.add(b.tileOffset(ring, adaptor.getPosition(), op.getTile()),
                       b.add(b.mul(rows, 128), op.getRow() * 128)));
    Value place = matrixPlace(b);
    SmallVector<Type> words(4, b.getI32Type());
    Type four = LLVM::LLVMStructType::getLiteral(b.getContext(), words);
    Values registers;
    for (int64_t j = op.getColumn() / 16, end = j + 2; j < end; ++j) {
      Value read = NVVM::LdMatrixOp::create(
          b, four, b.shared(mine, b.bxor(place, 32 * j)), 4,
          NVVM::MMALayout::row,
          NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8),
          NVVM::LdStMatrixEltType::B16);
      llvm::append_range(registers, b.unpack(read));
    }
    // One lane releases the stage for all.
    NVVM::SyncWarpOp::create(b, b.i32(-1));
    rewriter.replaceOp(op, b.pack(registers));
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
    FragmentType type = op.getType();
    Value memref = op.getSource(), pointer = adaptor.getSource();
    Type element = elementOf(memref);
    Values values(type.getRegisters());
    // Rows stay inside; what nobody reads may hold anything.
    Value lastRow = b.sub(adaptor.getEnd(), 1);
    auto rowOf = [&](int64_t half) {
      Value row = b.add(adaptor.getRow(), firstRow(b));
      if (half)
        row = b.add(row, 8);
      return memoryRow(b.minimum(row, lastRow), adaptor.getIds(),
                       op.getDivide(), b);
    };
    auto pairsOf = [&](Value row, function_ref<int64_t(int64_t, int64_t)> at) {
      Values pairs = loadPairs(op, adaptor, row, b);
      for (auto [j, pair] : llvm::enumerate(pairs))
        for (int64_t i = 0; i < 2; ++i)
          values[at(j, i)] =
              toF32(LLVM::ExtractElementOp::create(b, pair, b.i32(i)), b);
    };
    if (type.getRows() == 1)
      pairsOf(adaptor.getRow(), [](int64_t j, int64_t i) { return 2 * j + i; });
    else
      for (int64_t half = 0; half < 2; ++half) {
        Value row = rowOf(half);
        if (type.getColumns() == 1)
          values[half] = toF32(
              b.load(element,
                     address(pointer, memref, row, adaptor.getColumn(), b),
                     element.getIntOrFloatBitWidth() / 8),
              b);
        else
          pairsOf(row,
                  [&](int64_t j, int64_t i) { return 4 * j + 2 * half + i; });
      }
    rewriter.replaceOp(op, b.pack(values));
    return success();
  }

  /// A thread's pairs of a row: two elements of each 8 columns. Addresses
  /// differ by constants wherever that can be: they would take the registers.
  static Values loadPairs(LoadFragmentOp op, OpAdaptor adaptor, Value row,
                          Emitter &b) {
    int64_t columns = op.getType().getColumns();
    Type element = elementOf(op.getSource());
    int64_t bytes = element.getIntOrFloatBitWidth() / 8;
    auto type = VectorType::get(2, element);
    APInt constant;
    bool whole = matchPattern(op.getLimit(), m_ConstantInt(&constant)) &&
                 constant.getSExtValue() % columns == 0;
    // Columns stay inside as well: pairs past the limit repeat the first one.
    Value last = b.sub(adaptor.getLimit(), whole ? columns : 8);
    Value column = b.minimum(adaptor.getColumn(), last);
    Value start = address(adaptor.getSource(), op.getSource(), row,
                          b.add(column, firstColumn(b)), b);
    Values pairs;
    for (int64_t j = 0; j < columns / 8; ++j) {
      Value offset = b.i64(8 * j * bytes);
      if (!whole && j)
        offset = b.select(b.less(last, b.add(column, 8 * j)), b.i64(0), offset);
      pairs.push_back(b.load(type, b.global(start, offset), 2 * bytes));
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
    Type element = elementOf(memref);
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
          Value at = memoryRow(row, adaptor.getIds(), op.getDivide(), b);
          Value value = values[half];
          if (!element.isF32())
            value = arith::TruncFOp::create(b, element, value);
          b.store(value, address(pointer, memref, at, adaptor.getColumn(), b),
                  bytes);
        });
        continue;
      }
      b.when(inside, [&] {
        Value at = memoryRow(row, adaptor.getIds(), op.getDivide(), b);
        Value start = address(pointer, memref, at,
                              b.add(adaptor.getColumn(), firstColumn(b)), b);
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

struct ConvertStageStore : OpConversionPattern<StageStoreOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(StageStoreOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    StagingType staging = op.getStaging().getType();
    Value memref = op.getTarget();
    Values registers = b.unpack(adaptor.getFragment());
    Value lane = b.lane(), warp = b.warp();
    Value buffer = b.shared(
        adaptor.getStaging(),
        b.add(b.mul(adaptor.getWarpgroup(), staging.getWarpgroupBytes()),
              8192 * op.getBuffer()));
    Value mine = b.shared(buffer, b.mul(warp, 2048));
    Value barrier = b.add(adaptor.getWarpgroup(), 1);
    auto meet = [&] {
      NVVM::BarrierOp::create(b, Type(), barrier, b.i32(128),
                              NVVM::BarrierReductionAttr(), Value());
    };

    // The buffer's last store has been read.
    NVVM::CpAsyncBulkWaitGroupOp::create(b, staging.getBuffers() - 1,
                                         b.getUnitAttr());
    meet();
    Value place = matrixPlace(b);
    auto shape = NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8);
    for (int64_t j = 0; j < 4; ++j) {
      auto words = ValueRange(registers).slice(4 * j, 4);
      NVVM::StMatrixOp::create(b, b.shared(mine, b.bxor(place, 32 * j)), words,
                               NVVM::MMALayout::row, shape,
                               NVVM::LdStMatrixEltType::B16);
    }
    b.fence();
    meet();

    // 16 bytes a thread, read back from the same swizzled buffer.
    auto byThreads = [&] {
      Value piece = b.band(lane, 7), rowInFour = b.shr(lane, 3);
      Value column = b.add(adaptor.getColumn(), b.mul(piece, 8));
      Value inside = b.less(column, adaptor.getLimit());
      for (int64_t i = 0; i < 4; ++i) {
        Value local = b.add(rowInFour, 4 * i);
        Value from = b.add(b.mul(local, 128),
                           b.mul(b.bxor(piece, b.band(local, 7)), 16));
        Value data = b.load(VectorType::get(4, b.getI32Type()),
                            b.shared(mine, from), 16);
        Value row = b.add(adaptor.getRow(), b.add(b.mul(warp, 16), local));
        b.when(b.band(inside, b.less(row, adaptor.getEnd())), [&] {
          Value at = memoryRow(row, adaptor.getIds(), op.getDivide(), b);
          b.store(data, address(adaptor.getTarget(), memref, at, column, b),
                  16);
        });
      }
    };
    Value issues = b.band(b.equal(lane, 0), b.equal(warp, 0));
    auto byCopy = [&] {
      b.when(issues, [&] {
        NVVM::CpAsyncBulkTensorSharedCTAToGlobalOp::create(
            b, adaptor.getMap(), buffer, adaptor.getCoordinates(), Value(),
            NVVM::TMAStoreMode::TILE, Value());
      });
    };
    if (adaptor.getIds())
      byThreads();
    else
      b.either(b.compare(arith::CmpIPredicate::sle, b.add(adaptor.getRow(), 64),
                         adaptor.getEnd()),
               byCopy, byThreads);
    NVVM::CpAsyncBulkCommitGroupOp::create(b);
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertStageFlush : OpConversionPattern<StageFlushOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(StageFlushOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    NVVM::CpAsyncBulkWaitGroupOp::create(b, 0, UnitAttr());
    rewriter.eraseOp(op);
    return success();
  }
};
} // namespace

void mlir::nvtile::populateFragmentPatterns(const TypeConverter &converter,
                                            RewritePatternSet &patterns) {
  patterns.add<ConvertColumns, ConvertMap, ConvertRound, ConvertRead,
               ConvertJoin, ConvertRowSum, ConvertLoadFragment,
               ConvertStoreFragment, ConvertStageStore, ConvertStageFlush>(
      converter, patterns.getContext());
}
