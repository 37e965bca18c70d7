// SPDX-License-Identifier: Apache-2.0
#include "GPUEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

GPUEmitter::GPUEmitter(Operation *op, StringRef name)
    : KernelEmitter(op, CPUTarget{128, /*fma=*/true, /*bf16Dot=*/false}),
      name(name) {}

void GPUEmitter::launch(Value blocks, int64_t threads,
                        function_ref<void()> body) {
  OpBuilder::InsertionGuard guard(*this);
  std::string kernel = name;
  if (launches++)
    kernel += "_" + std::to_string(launches);
  Value one = index(1);
  auto symbol = [&](StringRef text) {
    return FlatSymbolRefAttr::get(getContext(), text);
  };
  current = gpu::LaunchOp::create(
      *this, blocks, one, one, index(threads), one, one,
      /*dynamicSharedMemorySize=*/Value(), /*asyncTokenType=*/Type(),
      /*asyncDependencies=*/ValueRange(), TypeRange(), TypeRange(), Value(),
      Value(), Value(), symbol(kernel + "_module"), symbol(kernel));
  setInsertionPointToStart(&current.getBody().front());
  block = current.getBlockIds().x;
  thread = current.getThreadIds().x;
  lane = rem(thread, kWarp);
  warp = div(thread, kWarp);
  body();
  gpu::TerminatorOp::create(*this);
}

Value GPUEmitter::shared(ArrayRef<int64_t> shape, Type element) {
  auto space =
      gpu::AddressSpaceAttr::get(getContext(), gpu::AddressSpace::Workgroup);
  return current.addWorkgroupAttribution(
      MemRefType::get(shape, element, MemRefLayoutAttrInterface(), space),
      getLoc());
}

void GPUEmitter::barrier() { gpu::BarrierOp::create(*this); }

Value GPUEmitter::slice(Value vector, int64_t first, int64_t count) {
  SmallVector<int64_t> lanes = llvm::to_vector(llvm::seq(first, first + count));
  return vector::ShuffleOp::create(*this, vector, vector, lanes);
}
Value GPUEmitter::equal(Value a, Value b) {
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::eq, a, b);
}
Value GPUEmitter::both(Value a, Value b) {
  return arith::AndIOp::create(*this, a, b);
}

Value GPUEmitter::shuffle(Value value, int64_t offset, gpu::ShuffleMode mode) {
  Type type = value.getType();
  auto word = [&](Value v) -> Value {
    return gpu::ShuffleOp::create(*this, v, offset, kWarp, mode)
        .getShuffleResult();
  };
  if (type.isF32() || type.isInteger(32))
    return word(value);
  // Two words of 32 bits.
  Type i32 = getI32Type(), i64 = getI64Type();
  Value bits = value;
  if (type.isIndex())
    bits = arith::IndexCastOp::create(*this, i64, value);
  else if (type.isF64())
    bits = arith::BitcastOp::create(*this, i64, value);
  Value by = integer(i64, 32);
  Value low = word(arith::TruncIOp::create(*this, i32, bits));
  Value high = word(arith::TruncIOp::create(
      *this, i32, arith::ShRUIOp::create(*this, bits, by)));
  bits = arith::OrIOp::create(
      *this, arith::ExtUIOp::create(*this, i64, low),
      arith::ShLIOp::create(*this, arith::ExtUIOp::create(*this, i64, high),
                            by));
  if (type.isIndex())
    return arith::IndexCastOp::create(*this, type, bits);
  if (type.isF64())
    return arith::BitcastOp::create(*this, type, bits);
  return bits;
}

Value GPUEmitter::warpSum(Value value) {
  for (int64_t offset = kWarp / 2; offset >= 1; offset /= 2)
    value = add(value, shuffle(value, offset, gpu::ShuffleMode::XOR));
  return value;
}

void GPUEmitter::strided(Value first, int64_t end, int64_t step,
                         function_ref<void(Value)> body) {
  loop(first, index(end), step, body);
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

static bool fromSort(const Tables &tables) {
  return llvm::any_of(tables.begin.getUses(), [](OpOperand &use) {
    auto sort = dyn_cast<SortSlotsOp>(use.getOwner());
    return sort && sort.isDpsInit(&use);
  });
}

Value GPUEmitter::findExpert(const Tables &tables, Value grouped) {
  if (!fromSort(tables))
    return expertOf(tables, grouped);
  // The last expert that begins at or before the row. Empty experts begin where
  // the next one does.
  Value found = index(0);
  int64_t step = 1;
  while (step < tables.experts)
    step *= 2;
  for (step /= 2; step >= 1; step /= 2) {
    Value next = add(found, step);
    Value clamped = minimum(next, index(tables.experts - 1));
    Value after =
        arith::CmpIOp::create(*this, arith::CmpIPredicate::sge, grouped,
                              loadIndex(tables.begin, clamped));
    found = select(both(after, less(next, index(tables.experts))), next, found);
  }
  return found;
}

void GPUEmitter::slot(const Tables &tables, Value slot, bool needsExpert,
                      function_ref<void(const Row &)> body,
                      function_ref<void(const Row &)> sentinel) {
  Value valid;
  Row row = slotRow(tables, slot, valid);
  auto inside = [&] {
    if (needsExpert)
      row.expert = findExpert(tables, row.grouped);
    body(row);
  };
  if (sentinel)
    when(valid, inside, [&] { sentinel(row); });
  else
    when(valid, inside);
}

int64_t mlir::moe::chooseLanes(int64_t width, ValueRange memrefs,
                               int64_t most) {
  int64_t bytes = 8;
  for (Value memref : memrefs) {
    Type element = cast<MemRefType>(memref.getType()).getElementType();
    bytes = std::min<int64_t>(
        bytes, llvm::divideCeil(element.getIntOrFloatBitWidth(), 8));
  }
  int64_t lanes = std::min(most, kVectorBytes / bytes);
  while (width % lanes)
    lanes /= 2;
  return lanes;
}

bool mlir::moe::readsExperts(ArrayAttr ports) {
  return llvm::any_of(ports, [](Attribute port) {
    return cast<PortAttr>(port).getKind() == PortKind::Expert;
  });
}

void mlir::moe::emitZeroSentinels(GPUEmitter &b, const Tables &tables,
                                  ValueRange outs, ArrayAttr ports) {
  if (llvm::none_of(ports, [](Attribute port) {
        return cast<PortAttr>(port).getOrder() == RowOrder::Slot;
      }))
    return;
  constexpr int64_t kWarps = kBlockThreads / kWarp;
  b.launch(b.ceilDiv(tables.slots, kWarps), kBlockThreads, [&] {
    Value slot = b.add(b.mul(b.block, kWarps), b.warp);
    b.when(b.less(slot, tables.slots), [&] {
      b.slot(
          tables, slot, false, [](const Row &) {},
          [&](const Row &row) {
            for (unsigned i = 0; i < outs.size(); ++i) {
              auto port = cast<PortAttr>(ports[i]);
              if (port.getOrder() != RowOrder::Slot)
                continue;
              auto type = cast<MemRefType>(outs[i].getType());
              Value zero = b.constant(type.getElementType(), 0.0);
              if (port.getKind() == PortKind::Scalar ||
                  port.getKind() == PortKind::Sum)
                b.storeRowValue(zero, outs[i], port, row);
              else
                b.strided(b.lane, type.getDimSize(1), kWarp, [&](Value column) {
                  b.store(zero, outs[i], {slot, column});
                });
            }
          });
    });
  });
}
