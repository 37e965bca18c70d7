// SPDX-License-Identifier: Apache-2.0
// An epilogue's operands and results as tiles in shared memory: 64 rows of 128
// bytes, swizzled like those of a product, between registers and memory.
#include "Emitter.h"

using namespace mlir;
using namespace mlir::nvtile;

using Values = Emitter::Values;

namespace {

/// Bytes of a warpgroup's 64 rows of a tile, and of a warp's 16.
constexpr int64_t kGroupBytes = 64 * 128, kWarpBytes = 16 * 128;

/// Where a lane finds its row of 16 for ldmatrix and stmatrix, in the first 16
/// of 64 columns; 16 columns further is this exclusive-or 32.
Value matrixPlace(Emitter &b) {
  Value lane = b.lane();
  Value row = b.mul(b.band(lane, 15), 128);
  Value piece = b.bxor(b.shr(lane, 4), b.band(lane, 7));
  return b.add(row, b.mul(piece, 16));
}

/// Where a lane finds the two pairs of values of its row and columns, where
/// those of two fragments alternate: of the first 8 columns of each, in the
/// first 16 of 64; the next ones are this exclusive-or 32.
Value pairsPlace(Emitter &b) {
  Value row = b.shr(b.lane(), 2), pair = b.band(b.lane(), 3);
  Value piece = b.bxor(b.shr(pair, 1), row);
  return b.add(b.mul(row, 128),
               b.add(b.mul(piece, 16), b.mul(b.band(pair, 1), 8)));
}

/// The low or the high halves of two words, side by side.
Value halves(Value first, Value second, bool high, Emitter &b) {
  if (high)
    return b.bor(b.shr(first, 16),
                 b.band(second, b.i32(static_cast<int32_t>(0xffff0000))));
  return b.bor(b.band(first, 0xffff), b.shl(second, 16));
}

/// A warp's rows of 64 columns at `mine` as one fragment of `columns` columns
/// from `column`, or as two that alternate.
SmallVector<Values> readColumns(Value mine, size_t count, int64_t column,
                                int64_t columns, Emitter &b) {
  SmallVector<Values> fragments(count);
  if (count == 1) {
    SmallVector<Type> words(4, b.getI32Type());
    Type four = LLVM::LLVMStructType::getLiteral(b.getContext(), words);
    Value place = matrixPlace(b);
    for (int64_t j = column / 16, end = j + columns / 16; j < end; ++j) {
      Value read = NVVM::LdMatrixOp::create(
          b, four, b.shared(mine, b.bxor(place, 32 * j)), 4,
          NVVM::MMALayout::row,
          NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8),
          NVVM::LdStMatrixEltType::B16);
      llvm::append_range(fragments[0], b.unpack(read));
    }
    return fragments;
  }
  Value place = pairsPlace(b);
  auto two = VectorType::get(2, b.getI32Type());
  for (int64_t j = column / 8, end = j + columns / 8; j < end; ++j)
    for (int64_t half = 0; half < 2; ++half) {
      Value at = b.shared(mine, b.add(b.bxor(place, 32 * j), 8 * 128 * half));
      Value pairs = b.load(two, at, 8);
      Value first = LLVM::ExtractElementOp::create(b, pairs, b.i32(0));
      Value second = LLVM::ExtractElementOp::create(b, pairs, b.i32(1));
      fragments[0].push_back(halves(first, second, false, b));
      fragments[1].push_back(halves(first, second, true, b));
    }
  return fragments;
}

/// The counterpart of readColumns; one fragment may have all 64 columns.
void writeColumns(Value mine, ArrayRef<Values> fragments, int64_t column,
                  Emitter &b) {
  if (fragments.size() == 1) {
    Value place = matrixPlace(b);
    auto shape = NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8);
    for (size_t i = 0; i < fragments[0].size(); i += 4) {
      int64_t j = column / 16 + i / 4;
      NVVM::StMatrixOp::create(b, b.shared(mine, b.bxor(place, 32 * j)),
                               ArrayRef(fragments[0]).slice(i, 4),
                               NVVM::MMALayout::row, shape,
                               NVVM::LdStMatrixEltType::B16);
    }
    return;
  }
  Value place = pairsPlace(b);
  auto two = VectorType::get(2, b.getI32Type());
  for (size_t i = 0; i < fragments[0].size(); i += 2)
    for (int64_t half = 0; half < 2; ++half) {
      int64_t j = column / 8 + i / 2;
      Value even = fragments[0][i + half], odd = fragments[1][i + half];
      Value pairs = LLVM::UndefOp::create(b, two);
      for (int64_t i = 0; i < 2; ++i)
        pairs = LLVM::InsertElementOp::create(b, pairs, halves(even, odd, i, b),
                                              b.i32(i));
      b.store(pairs,
              b.shared(mine, b.add(b.bxor(place, 32 * j), 8 * 128 * half)), 8);
    }
}

/// A warp's rows among those of its warpgroup.
Value warpRows(Value group, Emitter &b) {
  return b.shared(group, b.mul(b.warp(), kWarpBytes));
}

/// The threads of a warpgroup meet.
void meet(Value warpgroup, Emitter &b) {
  NVVM::BarrierOp::create(b, Type(), b.add(warpgroup, 1), b.i32(128),
                          NVVM::BarrierReductionAttr(), Value());
}

/// 64 rows of 64 columns at `group` go to memory as a store's operands say.
template <typename OpTy, typename Adaptor>
void storeRows(OpTy op, Adaptor &adaptor, Value group, Emitter &b) {
  Value lane = b.lane(), warp = b.warp();
  Value mine = b.shared(group, b.mul(warp, kWarpBytes));
  // 16 bytes a thread, read back from the swizzled rows.
  auto byThreads = [&] {
    Value piece = b.band(lane, 7), rowInFour = b.shr(lane, 3);
    Value column = b.add(adaptor.getColumn(), b.mul(piece, 8));
    Value inside = b.less(column, adaptor.getLimit());
    for (int64_t i = 0; i < 4; ++i) {
      Value local = b.add(rowInFour, 4 * i);
      Value from =
          b.add(b.mul(local, 128), b.mul(b.bxor(piece, b.band(local, 7)), 16));
      Value data =
          b.load(VectorType::get(4, b.getI32Type()), b.shared(mine, from), 16);
      Value row = b.add(adaptor.getRow(), b.add(b.mul(warp, 16), local));
      b.when(b.band(inside, b.less(row, adaptor.getEnd())), [&] {
        Value at = b.memoryRow(row, adaptor);
        b.store(data,
                b.address(adaptor.getTarget(), op.getTarget(), at, column), 16);
      });
    }
  };
  Value issues = b.band(b.equal(lane, 0), b.equal(warp, 0));
  auto byCopy = [&] {
    b.when(issues, [&] {
      NVVM::CpAsyncBulkTensorSharedCTAToGlobalOp::create(
          b, adaptor.getMap(), group, adaptor.getCoordinates(), Value(),
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
}

/// A warpgroup's rows of a tile, from row `row` on.
template <typename OpTy, typename Adaptor>
Value groupOf(OpTy op, Adaptor &adaptor, int64_t row, Emitter &b) {
  RingType ring = op.getRing().getType();
  Value offset = b.tileOffset(ring, adaptor.getPosition(), op.getTile());
  return b.shared(
      adaptor.getRing(),
      b.add(offset,
            b.add(b.mul(adaptor.getWarpgroup(), kGroupBytes), row * 128)));
}

struct ConvertRead : OpConversionPattern<ReadOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ReadOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    Value mine = warpRows(groupOf(op, adaptor, op.getRow(), b), b);
    Values read;
    for (const Values &fragment : readColumns(
             mine, op.getFragments().size(), op.getColumn(),
             cast<FragmentType>(op.getFragments()[0].getType()).getColumns(),
             b))
      read.push_back(b.pack(fragment));
    // One lane releases the stage for all, or another one writes here.
    NVVM::SyncWarpOp::create(b, b.i32(-1));
    rewriter.replaceOp(op, read);
    return success();
  }
};

struct ConvertWrite : OpConversionPattern<WriteOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(WriteOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    Value mine = warpRows(groupOf(op, adaptor, op.getRow(), b), b);
    SmallVector<Values> fragments;
    for (Value fragment : adaptor.getFragments())
      fragments.push_back(b.unpack(fragment));
    writeColumns(mine, fragments, op.getColumn(), b);
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertPublish : OpConversionPattern<PublishOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(PublishOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    b.fence();
    meet(adaptor.getWarpgroup(), b);
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertStore : OpConversionPattern<StoreOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(StoreOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    storeRows(op, adaptor, groupOf(op, adaptor, op.getFrom(), b), b);
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertStoreWait : OpConversionPattern<StoreWaitOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(StoreWaitOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    NVVM::CpAsyncBulkWaitGroupOp::create(b, op.getPending(), b.getUnitAttr());
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
    Value group = b.shared(
        adaptor.getStaging(),
        b.add(b.mul(adaptor.getWarpgroup(), staging.getWarpgroupBytes()),
              kGroupBytes * op.getBuffer()));
    SmallVector<Values> fragments;
    for (Value fragment : adaptor.getFragments())
      fragments.push_back(b.unpack(fragment));
    // The buffer's last store has been read.
    NVVM::CpAsyncBulkWaitGroupOp::create(b, staging.getBuffers() - 1,
                                         b.getUnitAttr());
    meet(adaptor.getWarpgroup(), b);
    writeColumns(warpRows(group, b), fragments, 0, b);
    b.fence();
    meet(adaptor.getWarpgroup(), b);
    storeRows(op, adaptor, group, b);
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

void mlir::nvtile::populateTilePatterns(const TypeConverter &converter,
                                        RewritePatternSet &patterns) {
  patterns.add<ConvertRead, ConvertWrite, ConvertPublish, ConvertStore,
               ConvertStoreWait, ConvertStageStore, ConvertStageFlush>(
      converter, patterns.getContext());
}
