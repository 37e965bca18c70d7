// SPDX-License-Identifier: Apache-2.0
// Shared memory, warpgroups, work, copies into a ring, and products out of it.
#include "Emitter.h"

using namespace mlir;
using namespace mlir::nvtile;

namespace {

//===----------------------------------------------------------------------===//
// Shared memory and warpgroups
//===----------------------------------------------------------------------===//

/// The part of dynamic shared memory that `op` was given.
Value partOf(Operation *op, Emitter &b) {
  Value memory = LLVM::AddressOfOp::create(b, b.sharedPointer(), kSharedMemory);
  return b.shared(memory, op->getAttrOfType<IntegerAttr>(kOffsetAttr).getInt());
}

struct ConvertMakeRing : OpConversionPattern<MakeRingOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(MakeRingOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    Value ring = partOf(op, b);
    RingType type = op.getType();
    b.when(b.equal(b.thread(), 0), [&] {
      for (int64_t i = 0; i < type.getStages(); ++i) {
        Value stage = b.i32(i);
        NVVM::MBarrierInitOp::create(b, b.full(type, ring, stage),
                                     b.i32(op.getFills()), Value());
        NVVM::MBarrierInitOp::create(b, b.empty(type, ring, stage),
                                     b.i32(op.getReleases()), Value());
      }
    });
    rewriter.replaceOp(op, ring);
    return success();
  }
};

struct ConvertMakeStaging : OpConversionPattern<MakeStagingOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(MakeStagingOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    rewriter.replaceOp(op, partOf(op, b));
    return success();
  }
};

/// The barrier on which a warpgroup waits for its turns.
Value turnBarrier(Value turns, Value warpgroup, Emitter &b) {
  return b.shared(turns, b.mul(warpgroup, 8));
}

struct ConvertMakeTurns : OpConversionPattern<MakeTurnsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(MakeTurnsOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    Value turns = partOf(op, b);
    constexpr int64_t kWarps = 4;
    b.when(b.equal(b.thread(), 0), [&] {
      for (int64_t i = 0; i < 2; ++i)
        NVVM::MBarrierInitOp::create(b, turnBarrier(turns, b.i32(i), b),
                                     b.i32(kWarps), Value());
    });
    rewriter.replaceOp(op, turns);
    return success();
  }
};

struct ConvertSpecialize : OpConversionPattern<SpecializeOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(SpecializeOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    b.when(b.equal(b.thread(), 0), [&] {
      NVVM::FenceMbarrierInitOp::create(b);
      b.fence();
    });
    NVVM::Barrier0Op::create(b);
    // Known to be uniform, so that addresses stay in uniform registers.
    Value warp = NVVM::ShflOp::create(b, b.getI32Type(), b.i32(-1),
                                      b.shr(b.thread(), 5), b.i32(0), b.i32(31),
                                      NVVM::ShflKind::idx, UnitAttr());
    Value warpgroup = b.shr(warp, 2);
    Value consumer = b.sub(warpgroup, 1);
    auto branch =
        scf::IfOp::create(b, b.equal(warpgroup, 0), /*withElse=*/true);
    auto fill = [&](Block *from, Block *to, int32_t registers,
                    NVVM::SetMaxRegisterAction action, ValueRange arguments) {
      rewriter.setInsertionPointToStart(to);
      NVVM::SetMaxRegisterOp::create(rewriter, op.getLoc(), registers, action);
      rewriter.inlineBlockBefore(from, to, to->getTerminator()->getIterator(),
                                 arguments);
    };
    fill(&op.getProduce().front(), branch.thenBlock(), op.getProduceRegisters(),
         NVVM::SetMaxRegisterAction::decrease, {});
    fill(&op.getConsume().front(), branch.elseBlock(), op.getConsumeRegisters(),
         NVVM::SetMaxRegisterAction::increase, consumer);
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertElect : OpConversionPattern<ElectOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ElectOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    b.when(b.less(b.thread(), 32), [&] {
      Value chosen = NVVM::ElectSyncOp::create(b, b.getI1Type(), Value());
      b.when(chosen, [&] {
        Block *block = b.getInsertionBlock();
        rewriter.inlineBlockBefore(&op.getBody().front(), block,
                                   block->getTerminator()->getIterator());
      });
    });
    rewriter.eraseOp(op);
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Work
//===----------------------------------------------------------------------===//

struct ConvertWorkCount : OpConversionPattern<WorkCountOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(WorkCountOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    rewriter.replaceOp(op, b.load(b.getI32Type(), adaptor.getTable(), 4));
    return success();
  }
};

struct ConvertWorkSlots : OpConversionPattern<WorkSlotsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(WorkSlotsOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    rewriter.replaceOp(op, b.word(adaptor.getTable(), b.i32(2)));
    return success();
  }
};

struct ConvertWorkItem : OpConversionPattern<WorkItemOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(WorkItemOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    int64_t first = kWorkHeader;
    if (!op.getByExpert())
      first += kWorkEntry * op.getExperts();
    Value word = b.add(b.mul(adaptor.getIndex(), kWorkEntry), first);
    Value entry =
        b.load(VectorType::get(4, b.getI32Type()),
               b.global(adaptor.getTable(), b.mul(b.widen(word), 4)), 16);
    SmallVector<Value> words;
    for (int64_t i = 0; i < 3; ++i)
      words.push_back(LLVM::ExtractElementOp::create(b, entry, b.i32(i)));
    rewriter.replaceOp(op, words);
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

struct ConvertAcquire : OpConversionPattern<AcquireOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(AcquireOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    RingType type = op.getRing().getType();
    // A stage that was never filled counts as released.
    b.wait(b.empty(type, adaptor.getRing(), adaptor.getPosition()),
           b.bxor(b.phase(type, adaptor.getPosition()), 1));
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertAwait : OpConversionPattern<AwaitOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(AwaitOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    RingType type = op.getRing().getType();
    b.wait(b.full(type, adaptor.getRing(), adaptor.getPosition()),
           b.phase(type, adaptor.getPosition()));
    if (op.getGathered())
      b.fence();
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertRelease : OpConversionPattern<ReleaseOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ReleaseOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    b.when(b.equal(b.lane(), 0), [&] {
      b.arrive(b.empty(op.getRing().getType(), adaptor.getRing(),
                       adaptor.getPosition()));
    });
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertAwaitTurn : OpConversionPattern<AwaitTurnOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(AwaitTurnOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    // A warpgroup's turn i / 2; turn 0 counts as passed.
    Value warpgroup = adaptor.getWarpgroup();
    Value parity =
        b.bxor(b.band(b.shr(adaptor.getTurn(), 1), 1), b.bxor(warpgroup, 1));
    b.wait(turnBarrier(adaptor.getTurns(), warpgroup, b), parity);
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertPassTurn : OpConversionPattern<PassTurnOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(PassTurnOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    b.when(b.equal(b.lane(), 0), [&] {
      Value other = b.bxor(adaptor.getWarpgroup(), 1);
      b.arrive(turnBarrier(adaptor.getTurns(), other, b));
    });
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertExpect : OpConversionPattern<ExpectOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ExpectOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    NVVM::MBarrierArriveExpectTxOp::create(
        b, Type(),
        b.full(op.getRing().getType(), adaptor.getRing(),
               adaptor.getPosition()),
        b.i32(op.getBytes()), NVVM::MemScopeKind::CTA, /*relaxed=*/false,
        Value());
    rewriter.eraseOp(op);
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

struct ConvertLoad : OpConversionPattern<LoadOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(LoadOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    RingType type = op.getRing().getType();
    Value ring = adaptor.getRing(), position = adaptor.getPosition();
    Value to = b.shared(ring, b.add(b.tileOffset(type, position, op.getTile()),
                                    op.getRow() * 128));
    to = LLVM::AddrSpaceCastOp::create(
        b, LLVM::LLVMPointerType::get(b.getContext(), 7), to);
    NVVM::CpAsyncBulkTensorGlobalToSharedClusterOp::create(
        b, to, adaptor.getMap(), adaptor.getCoordinates(),
        b.full(type, ring, position), ValueRange(), Value(), Value(),
        NVVM::TMALoadMode::TILE, /*isCTAOnly=*/false, NVVM::CTAGroupKindAttr(),
        Value());
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertRowIds : OpConversionPattern<RowIdsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(RowIdsOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    auto type = cast<VectorType>(op.getType());
    Value zero = arith::ConstantOp::create(b, type, b.getZeroAttr(type));
    auto branch = scf::IfOp::create(
        b, TypeRange(type), b.less(adaptor.getFirst(), adaptor.getEnd()),
        /*withElse=*/true);
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(branch.thenBlock());
      Value row = b.add(adaptor.getFirst(), b.shr(b.thread(), 3));
      Value last = b.sub(adaptor.getEnd(), 1), ids = zero;
      for (int64_t i = 0; i < type.getDimSize(0); ++i) {
        Value id = b.rowId(adaptor.getTable(),
                           b.minimum(i ? b.add(row, 16 * i) : row, last),
                           adaptor.getSlots(), op.getDivide());
        ids = LLVM::InsertElementOp::create(b, ids, id, b.i32(i));
      }
      scf::YieldOp::create(b, ids);
      b.setInsertionPointToStart(branch.elseBlock());
      scf::YieldOp::create(b, zero);
    }
    rewriter.replaceOp(op, branch);
    return success();
  }
};

struct ConvertGather : OpConversionPattern<GatherOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(GatherOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    RingType type = op.getRing().getType();
    int64_t width = cast<MemRefType>(op.getSource().getType()).getDimSize(1);
    int64_t ids = cast<VectorType>(op.getIds().getType()).getDimSize(0);
    int64_t blocks = type.getRows()[op.getTile()] / (16 * ids);

    // Thread t copies piece t % 8 of rows t / 8 + 16 i.
    Value piece = b.band(b.thread(), 7), row = b.shr(b.thread(), 3);
    Value swizzled = b.bxor(piece, b.band(row, 7));
    Value to =
        b.shared(adaptor.getRing(),
                 b.add(b.tileOffset(type, adaptor.getPosition(), op.getTile()),
                       b.add(b.mul(row, 128), b.mul(swizzled, 16))));
    Value column = b.add(adaptor.getColumn(), b.mul(piece, 8));
    Value offset = b.mul(b.widen(column), 2);
    bool ragged = width % (kDepth * blocks);
    auto copy = [&](Value count) {
      for (int64_t i = 0; i < ids; ++i) {
        Value id =
            LLVM::ExtractElementOp::create(b, adaptor.getIds(), b.i32(i));
        Value from = b.global(adaptor.getSource(),
                              b.add(b.mul(b.widen(id), 2 * width), offset));
        Value inRows = count ? b.less(b.add(row, 16 * i), count) : Value();
        for (int64_t block = 0; block < blocks; ++block) {
          Value valid = inRows;
          if (ragged) {
            Value inside = b.less(b.add(column, kDepth * block), width);
            valid = valid ? b.band(valid, inside) : inside;
          }
          Value size = valid ? b.select(valid, b.i32(16), b.i32(0)) : Value();
          NVVM::CpAsyncOp::create(b, b.shared(to, (block * ids + i) * 16 * 128),
                                  b.global(from, b.i64(128 * block)), 16,
                                  NVVM::LoadCacheModifierKind::CG, size);
        }
      }
    };
    // Whole steps need no predicate.
    if (adaptor.getCount())
      b.either(
          b.less(adaptor.getCount(), 16 * ids),
          [&] { copy(adaptor.getCount()); }, [&] { copy(Value()); });
    else
      copy(Value());
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertCommit : OpConversionPattern<CommitOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(CommitOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    NVVM::CpAsyncMBarrierArriveOp::create(b,
                                          b.full(op.getRing().getType(),
                                                 adaptor.getRing(),
                                                 adaptor.getPosition()),
                                          /*noinc=*/true);
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertDrain : OpConversionPattern<DrainOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(DrainOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    // Copies are in no group until they are put into one.
    NVVM::CpAsyncCommitGroupOp::create(b);
    NVVM::CpAsyncWaitGroupOp::create(b, 0);
    rewriter.eraseOp(op);
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

struct ConvertZero : OpConversionPattern<ZeroOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(ZeroOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    rewriter.replaceOpWithNewOp<LLVM::ZeroOp>(
        op, getTypeConverter()->convertType(op.getType()));
    return success();
  }
};

struct ConvertMma : OpConversionPattern<MmaOp> {
  using OpConversionPattern::OpConversionPattern;

  /// The low word of a matrix descriptor: address and distance between blocks
  /// of 64 features (MN-major). Sums stay in it.
  static Value lowWord(Value address, bool mn, Emitter &b) {
    int64_t blockDistance = mn ? 8192 >> 4 : 1;
    return b.bor(b.shr(b.band(address, 0x3FFFF), 4), blockDistance << 16);
  }
  /// The constant high word comes last: 128-byte swizzle, 1024 bytes between
  /// groups of 8 rows. (ptxas 13.0 has dropped it from 64-bit sums.)
  static Value descriptor(Value low, int64_t step, bool mn, Emitter &b) {
    int64_t distance = step * (mn ? 16 * 128 : 32) >> 4;
    if (distance)
      low = b.add(low, distance);
    Value wide = arith::ExtUIOp::create(b, b.getI64Type(), low);
    return b.bor(wide, (1LL << 62) | (64LL << 32));
  }

  LogicalResult
  matchAndRewrite(MmaOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    RingType type = op.getRing().getType();
    bool lhsMN = op.getLhsMn(), rhsMN = op.getRhsMn();
    auto tile = [&](RingType type, Value ring, Value position, uint32_t index) {
      return b.add(LLVM::PtrToIntOp::create(b, b.getI32Type(), ring),
                   b.tileOffset(type, position, index));
    };
    Value left =
        tile(type, adaptor.getRing(), adaptor.getPosition(), op.getLhs());
    // 64 rows K-major and 64 features MN-major both are 8192 bytes.
    if (Value warpgroup = adaptor.getWarpgroup())
      left = b.add(left, b.mul(warpgroup, 8192));
    Value right =
        op.getRhsRing()
            ? tile(op.getRhsRing().getType(), adaptor.getRhsRing(),
                   adaptor.getRhsPosition(), op.getRhs())
            : tile(type, adaptor.getRing(), adaptor.getPosition(), op.getRhs());
    Value lhs = lowWord(left, lhsMN, b), rhs = lowWord(right, rhsMN, b);

    auto element = op.getElementType().isBF16() ? NVVM::WGMMATypes::bf16
                                                : NVVM::WGMMATypes::f16;
    auto layout = [](bool column) {
      return column ? NVVM::MMALayout::col : NVVM::MMALayout::row;
    };
    auto shape = NVVM::MMAShapeAttr::get(b.getContext(), 64,
                                         op.getType().getColumns(), 16);
    Value accumulator = adaptor.getAccumulator();
    NVVM::WgmmaFenceAlignedOp::create(b);
    for (int64_t step = 0; step < kDepth / 16; ++step)
      accumulator = NVVM::WgmmaMmaAsyncOp::create(
          b, accumulator.getType(), accumulator,
          descriptor(lhs, step, lhsMN, b), descriptor(rhs, step, rhsMN, b),
          shape, NVVM::WGMMATypesAttr::get(b.getContext(), element),
          NVVM::WGMMATypesAttr::get(b.getContext(), element),
          NVVM::WGMMATypesAttr::get(b.getContext(), NVVM::WGMMATypes::f32),
          NVVM::WGMMAScaleOutAttr::get(b.getContext(),
                                       NVVM::WGMMAScaleOut::one),
          NVVM::WGMMAScaleInAttr::get(b.getContext(), NVVM::WGMMAScaleIn::one),
          NVVM::WGMMAScaleInAttr::get(b.getContext(), NVVM::WGMMAScaleIn::one),
          NVVM::MMALayoutAttr::get(b.getContext(), layout(lhsMN)),
          NVVM::MMALayoutAttr::get(b.getContext(), layout(!rhsMN)),
          NVVM::MMAIntOverflowAttr());
    NVVM::WgmmaGroupSyncAlignedOp::create(b);
    rewriter.replaceOp(op, accumulator);
    return success();
  }
};

struct ConvertMmaWait : OpConversionPattern<MmaWaitOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(MmaWaitOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Emitter b(op, rewriter);
    NVVM::WgmmaWaitGroupSyncOp::create(b, op.getPending());
    rewriter.replaceOp(op, adaptor.getAccumulator());
    return success();
  }
};
} // namespace

void mlir::nvtile::populateRingPatterns(const TypeConverter &converter,
                                        RewritePatternSet &patterns) {
  patterns.add<
      ConvertMakeRing, ConvertMakeStaging, ConvertMakeTurns, ConvertAwaitTurn,
      ConvertPassTurn, ConvertSpecialize, ConvertElect, ConvertWorkCount,
      ConvertWorkSlots, ConvertWorkItem, ConvertAcquire, ConvertAwait,
      ConvertRelease, ConvertExpect, ConvertLoad, ConvertRowIds, ConvertGather,
      ConvertCommit, ConvertDrain, ConvertZero, ConvertMma, ConvertMmaWait>(
      converter, patterns.getContext());
}
