// SPDX-License-Identifier: Apache-2.0
#include "KernelBuilder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::nvtile;

//===----------------------------------------------------------------------===//
// Code
//===----------------------------------------------------------------------===//

Value KernelCode::blockId() {
  return arith::IndexCastOp::create(
      *this, getI32Type(), gpu::BlockIdOp::create(*this, gpu::Dimension::x));
}

Value KernelCode::gridSize() {
  return arith::IndexCastOp::create(
      *this, getI32Type(), gpu::GridDimOp::create(*this, gpu::Dimension::x));
}

Values KernelCode::loop(Value from, Value to, Value step, ValueRange inits,
                        function_ref<Values(Value, ValueRange)> body) {
  auto loop = scf::ForOp::create(*this, from, to, step, inits);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  Values yielded = body(loop.getInductionVar(), loop.getRegionIterArgs());
  if (inits.empty())
    return {};
  scf::YieldOp::create(*this, yielded);
  return loop.getResults();
}

Values KernelCode::rolledLoop(Value from, Value to, Value step,
                              ValueRange inits,
                              function_ref<Values(Value, ValueRange)> body) {
  Values results = loop(from, to, step, inits, body);
  auto unroll = LLVM::LoopUnrollAttr::get(
      getContext(), /*disable=*/getBoolAttr(true), {}, {}, {}, {}, {}, {});
  results[0].getDefiningOp()->setAttr(
      "loop_annotation",
      LLVM::LoopAnnotationAttr::get(getContext(), {}, {}, {}, unroll, {}, {},
                                    {}, {}, {}, {}, {}, {}, {}, {}, {}));
  return results;
}

void KernelCode::elect(function_ref<void()> body) {
  auto elect = ElectOp::create(*this);
  OpBuilder::InsertionGuard guard(*this);
  createBlock(&elect.getBody());
  body();
}

//===----------------------------------------------------------------------===//
// Kernel, parameters and launch
//===----------------------------------------------------------------------===//

KernelBuilder::KernelBuilder(Operation *op, const Tables &tables,
                             StringRef name)
    : host(op->getLoc(), op), b(op->getLoc(), op), tables(tables) {
  auto top = op->getParentOfType<ModuleOp>();
  auto function = op->getParentOfType<func::FuncOp>();
  std::string symbol;
  for (unsigned i = 0;; ++i) {
    symbol = (function.getName() + "_" + name + "_" + Twine(i)).str();
    if (!top.lookupSymbol(symbol + "_module"))
      break;
  }
  b.setInsertionPointToEnd(top.getBody());
  module = gpu::GPUModuleOp::create(b, symbol + "_module");
  b.setInsertionPointToEnd(module.getBody());
  kernel = gpu::GPUFuncOp::create(b, symbol, b.getFunctionType({}, {}));
  kernel->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), b.getUnitAttr());
  b.setInsertionPointToStart(&kernel.getBody().front());
}

Value KernelBuilder::pass(Value value) {
  Value &parameter = parameters[value];
  if (!parameter) {
    (void)kernel.insertArgument(operands.size(), value.getType(),
                                DictionaryAttr(), value.getLoc());
    parameter = kernel.getArgument(operands.size());
    operands.push_back(value);
  }
  return parameter;
}

Value KernelBuilder::passMap(Value source, ArrayRef<int64_t> dims,
                             ArrayRef<int64_t> strides, ArrayRef<int64_t> box) {
  auto number = [&](int64_t value) -> Value {
    return arith::ConstantIndexOp::create(host, value);
  };
  Values sizes, distances = llvm::map_to_vector(strides, number);
  for (int64_t dim : dims) {
    if (dim >= 0) {
      sizes.push_back(number(dim));
      continue;
    }
    Value rows = memref::DimOp::create(host, source, 0);
    sizes.push_back(arith::MaxSIOp::create(host, rows, number(1)));
  }
  auto element = cast<MemRefType>(source.getType()).getElementType();
  return pass(TensorMapOp::create(host,
                                  TensorMapType::get(b.getContext(), element),
                                  source, sizes, distances, box));
}

Value KernelBuilder::passFlat(Value source) {
  auto type = cast<MemRefType>(source.getType());
  if (type.getRank() == 1)
    return pass(source);
  ReassociationIndices all =
      llvm::to_vector(llvm::seq<int64_t>(type.getRank()));
  return pass(memref::CollapseShapeOp::create(
      host, source, ArrayRef<ReassociationIndices>(all)));
}

RowsBy KernelBuilder::rowsBy(RowOrder order) {
  if (order == RowOrder::Grouped)
    return {{}, {}, 1};
  if (!slots) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&kernel.getBody().front());
    slots = WorkSlotsOp::create(b, b.getI32Type(), pass(tables.work));
  }
  return {pass(tables.order), slots, order == RowOrder::Token ? tables.k : 1};
}

Value mlir::moe::emitProcessors(ImplicitLocOpBuilder &host) {
  StringRef name = "moe_rt_multiprocessors";
  auto top =
      host.getInsertionBlock()->getParentOp()->getParentOfType<ModuleOp>();
  Type result = host.getI64Type();
  if (!top.lookupSymbol(name)) {
    OpBuilder atStart = OpBuilder::atBlockBegin(top.getBody());
    func::FuncOp::create(atStart, host.getLoc(), name,
                         host.getFunctionType({}, {result}))
        .setPrivate();
  }
  Value processors =
      func::CallOp::create(host, name, TypeRange(result), ValueRange())
          .getResult(0);
  return arith::IndexCastOp::create(host, host.getIndexType(), processors);
}

void KernelBuilder::finish() {
  b.setInsertionPointToEnd(&kernel.getBody().front());
  gpu::ReturnOp::create(b);
  Value grid = emitProcessors(host);
  Value one = arith::ConstantIndexOp::create(host, 1);
  Value threads = arith::ConstantIndexOp::create(host, kThreads);
  gpu::LaunchFuncOp::create(host, kernel, gpu::KernelDim3{grid, one, one},
                            gpu::KernelDim3{threads, one, one}, Value(),
                            operands);
}

//===----------------------------------------------------------------------===//
// Kernels as text
//===----------------------------------------------------------------------===//

Value mlir::moe::castToDynamic(ImplicitLocOpBuilder &b, Value memref) {
  auto type = memrefOf(memref);
  SmallVector<int64_t> shape(type.getShape());
  shape[0] = ShapedType::kDynamic;
  auto dynamic = MemRefType::get(shape, type.getElementType());
  return type == dynamic ? memref : memref::CastOp::create(b, dynamic, memref);
}

void mlir::moe::launchKernelText(ImplicitLocOpBuilder &b, StringRef name,
                                 StringRef text, Value grid, Value threads,
                                 ValueRange operands) {
  auto top = grid.getDefiningOp()->getParentOfType<ModuleOp>();
  std::string module = (name + "_module").str();
  if (!top.lookupSymbol(module)) {
    Block parsed;
    LogicalResult ok =
        parseSourceString(text, &parsed, ParserConfig(b.getContext()), name);
    assert(succeeded(ok) && "a kernel's text parses");
    (void)ok;
    top.getBody()->getOperations().splice(top.getBody()->end(),
                                          parsed.getOperations());
  }
  Value one = arith::ConstantIndexOp::create(b, 1);
  auto symbol = SymbolRefAttr::get(
      b.getContext(), module, {FlatSymbolRefAttr::get(b.getContext(), name)});
  gpu::LaunchFuncOp::create(b, symbol, gpu::KernelDim3{grid, one, one},
                            gpu::KernelDim3{threads, one, one}, Value(),
                            operands);
}

//===----------------------------------------------------------------------===//
// Parts of kernels
//===----------------------------------------------------------------------===//

Value KernelBuilder::makeRing(int64_t stages, ArrayRef<int64_t> rows,
                              int64_t fills, int64_t releases) {
  return MakeRingOp::create(b, RingType::get(b.getContext(), stages, rows),
                            fills, releases);
}

Value KernelBuilder::makeStaging(int64_t buffers) {
  if (!buffers)
    return {};
  return MakeStagingOp::create(b, StagingType::get(b.getContext(), buffers));
}

void KernelBuilder::specialize(bool gathers, function_ref<void()> produce,
                               function_ref<void(Value)> consume) {
  this->gathers = gathers;
  // What the two roles need, as measured: registers of three warpgroups sum to
  // at most 512.
  auto roles = gathers ? SpecializeOp::create(b, 56, 224)
                       : SpecializeOp::create(b, 40, 232);
  OpBuilder::InsertionGuard guard(b);
  b.createBlock(&roles.getProduce());
  produce();
  Block *consumer =
      b.createBlock(&roles.getConsume(), {}, b.getI32Type(), b.getLoc());
  consume(consumer->getArgument(0));
}

WorkItemOp KernelBuilder::workItem(Value table, Value index, bool byExpert) {
  Type i32 = b.getI32Type();
  return WorkItemOp::create(b, i32, i32, i32, table, index, tables.experts,
                            byExpert);
}

Value KernelBuilder::rowIds(int64_t rows, RowOrder order, Value first,
                            Value end, bool bounded) {
  RowsBy by = rowsBy(order);
  return RowIdsOp::create(b, VectorType::get(rows / 16, b.getI32Type()), by.ids,
                          first, end, bounded ? by.slots : Value(), by.divide);
}

Value KernelBuilder::sum(Value left, Value right) {
  auto map =
      MapOp::create(b, TypeRange(left.getType()), ValueRange{left, right});
  OpBuilder::InsertionGuard guard(b);
  Block *body = b.createBlock(&map.getBody());
  body->addArguments({b.getF32Type(), b.getF32Type()},
                     {b.getLoc(), b.getLoc()});
  Value total =
      arith::AddFOp::create(b, body->getArgument(0), body->getArgument(1));
  nvtile::YieldOp::create(b, total);
  return map.getResult(0);
}

std::pair<Value, Value>
KernelBuilder::products(Value ring, Value first, Value from, Value steps,
                        Value accumulator, Value warpgroup, Type element,
                        bool lhsMN, bool rhsMN, int64_t held) {
  Values end = b.loop(
      b.i32(0), steps, b.i32(1), {from, accumulator},
      [&](Value, ValueRange carried) -> Values {
        Value position = carried[0];
        AwaitOp::create(b, ring, position, gathers);
        Value started = MmaOp::create(b, accumulator.getType(), ring, position,
                                      carried[1], 0, 1, Value(), Value(),
                                      warpgroup, element, lhsMN, rhsMN);
        Value done = MmaWaitOp::create(b, accumulator.getType(), started, 1);
        if (held)
          b.when(b.compare(arith::CmpIPredicate::eq, position, first), [&] {
            StoreWaitOp::create(b, 0);
            if (held > 1)
              b.when(b.compare(arith::CmpIPredicate::ne, position, b.i32(0)),
                     [&] {
                       for (int64_t i = 2; i <= held; ++i)
                         ReleaseOp::create(b, ring, b.sub(position, i));
                     });
          });
        b.when(b.compare(arith::CmpIPredicate::ne, position,
                         held ? b.i32(0) : first),
               [&] { ReleaseOp::create(b, ring, b.sub(position, 1)); });
        return {b.add(position, 1), done};
      });
  return {end[0], end[1]};
}

Value KernelBuilder::finishProducts(Value ring, Value next, Value accumulator) {
  Value done = MmaWaitOp::create(b, accumulator.getType(), accumulator, 0);
  ReleaseOp::create(b, ring, b.sub(next, 1));
  return done;
}

Value KernelBuilder::round(Value fragment, Value target) {
  auto type = cast<FragmentType>(fragment.getType());
  return RoundOp::create(
      b,
      FragmentType::get(b.getContext(), type.getRows(), type.getColumns(),
                        cast<MemRefType>(target.getType()).getElementType()),
      fragment);
}

void KernelBuilder::stageStore(ValueRange fragments, Value staging,
                               Value warpgroup, Value map,
                               ValueRange coordinates, Value target, Value row,
                               Value column, Value end, Value limit,
                               RowsBy by) {
  int64_t buffers = cast<StagingType>(staging.getType()).getBuffers();
  StageStoreOp::create(b, fragments, staging, staged++ % buffers, warpgroup,
                       map, coordinates, target, row, column, end, limit,
                       by.ids, by.slots, by.divide);
}
