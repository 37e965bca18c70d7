// SPDX-License-Identifier: Apache-2.0
// What the patterns of convert-nvtile-to-nvvm write their code with.
#ifndef MOE_LIB_CONVERSION_NVTILETONVVM_EMITTER_H
#define MOE_LIB_CONVERSION_NVTILETONVVM_EMITTER_H

#include "moe/Conversion/IntegerBuilder.h"
#include "moe/Conversion/NVTileToNVVM/ScalarMath.h"
#include "moe/Dialect/NVTile/IR/NVTile.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Transforms/DialectConversion.h"

namespace mlir::nvtile {

/// The symbol of a kernel's dynamic shared memory.
constexpr StringRef kSharedMemory = "nvtile_shared";
/// Where a ring or staging lies in it (bytes), once it is laid out.
constexpr StringRef kOffsetAttr = "nvtile.offset";

/// A builder of addresses and waits.
struct Emitter : moe::IntegerBuilder {
  Emitter(Operation *op, ConversionPatternRewriter &rewriter)
      : IntegerBuilder(op->getLoc(), rewriter) {}

  using Values = SmallVector<Value>;

  Value i64(int64_t value) {
    return arith::ConstantIntOp::create(*this, value, 64);
  }
  Value f32(double value) {
    return arith::ConstantOp::create(*this, getF32FloatAttr(value));
  }
  Value widen(Value a) {
    return arith::ExtSIOp::create(*this, getI64Type(), a);
  }
  Value select(Value condition, Value a, Value b) {
    return arith::SelectOp::create(*this, condition, a, b);
  }

  /// The thread's number in the block, in its warp, and its warp's number in
  /// the warpgroup.
  Value thread() { return NVVM::ThreadIdXOp::create(*this, getI32Type()); }
  Value lane() { return band(thread(), 31); }
  Value warp() { return band(shr(thread(), 5), 3); }

  /// Bytes further in shared or global memory.
  Value shared(Value base, Value bytes) {
    return LLVM::GEPOp::create(*this, sharedPointer(), getI8Type(), base,
                               ArrayRef<LLVM::GEPArg>{bytes},
                               LLVM::GEPNoWrapFlags::inbounds);
  }
  Value shared(Value base, int64_t bytes) {
    return bytes ? shared(base, i32(bytes)) : base;
  }
  Value global(Value base, Value bytes) {
    return LLVM::GEPOp::create(*this, globalPointer(), getI8Type(), base,
                               ArrayRef<LLVM::GEPArg>{bytes},
                               LLVM::GEPNoWrapFlags::inbounds);
  }
  Type sharedPointer() { return LLVM::LLVMPointerType::get(getContext(), 3); }
  Type globalPointer() { return LLVM::LLVMPointerType::get(getContext(), 1); }

  Value load(Type type, Value address, unsigned alignment) {
    return LLVM::LoadOp::create(*this, type, address, alignment);
  }
  void store(Value value, Value address, unsigned alignment) {
    LLVM::StoreOp::create(*this, value, address, alignment);
  }
  /// Word `index` (i32) of a table.
  Value word(Value table, Value index) {
    return load(getI32Type(), global(table, mul(widen(index), 4)), 4);
  }

  //===--- rows of memory -------------------------------------------------===//

  /// The row that a table of slots names for `row`; where `slots` is known one
  /// that exists.
  Value rowId(Value ids, Value row, Value slots, int64_t divide) {
    Value id = word(ids, row);
    if (slots)
      id = op<arith::MinUIOp>(id, sub(slots, 1));
    return divide == 1 ? id : div(id, divide);
  }
  /// The memory's row for row `row` of the kernel's order, by the ids of an op.
  template <typename Adaptor> Value memoryRow(Value row, Adaptor &adaptor) {
    return adaptor.getIds() ? rowId(adaptor.getIds(), row, adaptor.getSlots(),
                                    adaptor.getDivide())
                            : row;
  }
  /// The address of element `column` of a row, in memory of `memref`'s type.
  Value address(Value pointer, Value memref, Value row, Value column) {
    auto type = cast<MemRefType>(memref.getType());
    int64_t length = type.getRank() == 1 ? 1 : type.getShape().back();
    int64_t bytes = type.getElementType().getIntOrFloatBitWidth() / 8;
    Value offset =
        add(mul(widen(row), length * bytes), mul(widen(column), bytes));
    return global(pointer, offset);
  }
  static Type elementOf(Value memref) {
    return cast<MemRefType>(memref.getType()).getElementType();
  }

  //===--- rings ----------------------------------------------------------===//

  Value stage(RingType ring, Value position) {
    return rem(position, ring.getStages());
  }
  Value phase(RingType ring, Value position) {
    return band(div(position, ring.getStages()), 1);
  }
  /// The barriers of a position.
  Value full(RingType type, Value ring, Value position) {
    return shared(ring,
                  add(mul(stage(type, position), 8), type.getTileBytes()));
  }
  Value empty(RingType type, Value ring, Value position) {
    return shared(ring, add(mul(stage(type, position), 8),
                            type.getTileBytes() + 8 * type.getStages()));
  }
  /// Bytes from the ring's start to tile `tile` of a position.
  Value tileOffset(RingType type, Value position, unsigned tile) {
    return add(mul(stage(type, position), type.getStageBytes()),
               type.getTileOffset(tile));
  }
  void wait(Value barrier, Value parity) {
    NVVM::MBarrierTryWaitParityOp::create(*this, barrier, parity,
                                          i32(10000000));
  }
  void arrive(Value barrier) {
    NVVM::MBarrierArriveOp::create(*this, Type(), barrier, Value());
  }
  /// What this thread wrote to shared memory is seen by wgmma and the copy
  /// engine.
  void fence() {
    NVVM::FenceProxyOp::create(
        *this, NVVM::ProxyKind::async_shared,
        NVVM::SharedSpaceAttr::get(getContext(),
                                   NVVM::SharedSpace::shared_cta));
  }

  //===--- fragments ------------------------------------------------------===//

  Values unpack(Value fragment) {
    Values values;
    auto type = cast<LLVM::LLVMStructType>(fragment.getType());
    for (size_t i = 0; i < type.getBody().size(); ++i)
      values.push_back(LLVM::ExtractValueOp::create(*this, fragment, i));
    return values;
  }
  Value pack(ValueRange values) {
    SmallVector<Type> types(ValueRange(values).getTypes());
    Value fragment = LLVM::UndefOp::create(
        *this, LLVM::LLVMStructType::getLiteral(getContext(), types));
    for (auto [i, value] : llvm::enumerate(values))
      fragment = LLVM::InsertValueOp::create(*this, fragment, value, i);
    return fragment;
  }
};

/// Writes a scalar op for the values that `mapping` has.
void emitScalarMath(Operation *op, IRMapping &mapping, Emitter &b);

void populateRingPatterns(const TypeConverter &converter,
                          RewritePatternSet &patterns);
void populateFragmentPatterns(const TypeConverter &converter,
                              RewritePatternSet &patterns);
void populateTilePatterns(const TypeConverter &converter,
                          RewritePatternSet &patterns);

} // namespace mlir::nvtile

#endif // MOE_LIB_CONVERSION_NVTILETONVVM_EMITTER_H
