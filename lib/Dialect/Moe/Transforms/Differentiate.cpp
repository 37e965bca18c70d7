// SPDX-License-Identifier: Apache-2.0
// moe-differentiate: one joint function of results and gradients. Which ops
// have a derivative is said by MoeDifferentiableOpInterface.
#include "DifferentiateModels.h"
#include "moe/Dialect/Moe/Transforms/Dimensions.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/ADT/StringSet.h"

#include "moe/Dialect/Moe/Transforms/DifferentiableOpInterface.cpp.inc"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEDIFFERENTIATE
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Reverse mode on tensors
//===----------------------------------------------------------------------===//

bool mlir::moe::hasCotangent(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && isa<FloatType>(tensor.getElementType());
}

std::string mlir::moe::argumentName(func::FuncOp function, unsigned i) {
  auto name = function.getArgAttrOfType<StringAttr>(i, "moe.name");
  return name ? name.str() : "arg" + std::to_string(i);
}

std::string mlir::moe::resultName(func::FuncOp function, unsigned i) {
  auto name = function.getResultAttrOfType<StringAttr>(i, "moe.name");
  return name ? name.str() : "out" + std::to_string(i);
}

std::optional<unsigned> mlir::moe::findArgument(func::FuncOp function,
                                                StringRef name) {
  unsigned number;
  if (!name.getAsInteger(10, number))
    return number < function.getNumArguments() ? std::optional(number)
                                               : std::nullopt;
  for (unsigned i = 0, e = function.getNumArguments(); i < e; ++i)
    if (argumentName(function, i) == name)
      return i;
  return std::nullopt;
}

llvm::SetVector<Value> mlir::moe::getReads(Operation *op) {
  llvm::SetVector<Value> reads(op->operand_begin(), op->operand_end());
  getUsedValuesDefinedAbove(op->getRegions(), reads);
  return reads;
}

void Cotangents::add(OpBuilder &builder, Value value, Value cotangent) {
  Value &sum = sums[value];
  if (!sum) {
    sum = cotangent;
    return;
  }
  sum = arith::AddFOp::create(builder, cotangent.getLoc(), sum, cotangent);
}

DenseSet<Value> mlir::moe::findActive(ArrayRef<Operation *> ops,
                                      ValueRange sources) {
  DenseSet<Value> active(sources.begin(), sources.end());
  for (Operation *op : ops) {
    if (llvm::none_of(getReads(op),
                      [&](Value value) { return active.contains(value); }))
      continue;
    for (Value result : op->getResults())
      if (isa<FloatType>(getElementTypeOrSelf(result.getType())))
        active.insert(result);
  }
  return active;
}

LogicalResult mlir::moe::buildReverse(OpBuilder &builder,
                                      ArrayRef<Operation *> ops,
                                      const DenseSet<Value> &active,
                                      Cotangents &cotangents) {
  for (Operation *op : llvm::reverse(ops)) {
    SmallVector<Value> given;
    for (Value result : op->getResults())
      given.push_back(active.contains(result) ? cotangents.lookup(result)
                                              : Value());
    llvm::SmallBitVector wanted(op->getNumOperands());
    for (auto [i, operand] : llvm::enumerate(op->getOperands()))
      if (active.contains(operand))
        wanted.set(i);
    if (llvm::none_of(given, [](Value v) { return bool(v); }))
      continue;
    for (Value value : getReads(op))
      if (active.contains(value) &&
          !llvm::is_contained(op->getOperands(), value))
        return op->emitOpError()
               << "reads a value from outside its region through which a "
                  "gradient that is asked for passes; make it an operand";
    if (wanted.none())
      continue;
    auto differentiable = dyn_cast<MoeDifferentiableOpInterface>(op);
    if (!differentiable)
      return op->emitOpError()
             << "has no derivative, and a gradient that is asked for passes "
                "through it; write it with ops that have one, or inline it";
    SmallVector<Value> gradients(op->getNumOperands());
    if (failed(differentiable.buildVJP(builder, given, wanted, gradients)))
      return failure();
    for (auto [operand, gradient] :
         llvm::zip_equal(op->getOperands(), gradients)) {
      if (!gradient)
        continue;
      if (gradient.getType() != operand.getType())
        gradient = tensor::CastOp::create(builder, op->getLoc(),
                                          operand.getType(), gradient);
      cotangents.add(builder, operand, gradient);
    }
  }
  return success();
}

Value mlir::moe::buildEmpty(OpBuilder &builder, Location loc, Value like,
                            ArrayRef<int64_t> dims, Type elementType) {
  SmallVector<OpFoldResult> sizes;
  for (int64_t dim : dims)
    sizes.push_back(tensor::getMixedSize(builder, loc, like, dim));
  return tensor::EmptyOp::create(builder, loc, sizes, elementType);
}

Value mlir::moe::buildZeros(OpBuilder &builder, Location loc, Value like) {
  auto type = cast<RankedTensorType>(like.getType());
  TypedAttr zero = builder.getFloatAttr(type.getElementType(), 0.0);
  if (type.hasStaticShape())
    return arith::ConstantOp::create(
        builder, loc, DenseElementsAttr::get(type, cast<Attribute>(zero)));
  auto dims = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
  Value empty = buildEmpty(builder, loc, like, dims, type.getElementType());
  Value scalar = arith::ConstantOp::create(builder, loc, zero);
  return linalg::FillOp::create(builder, loc, scalar, empty).getResult(0);
}

Value mlir::moe::buildCast(OpBuilder &builder, Location loc, Value tensor,
                           Type elementType) {
  auto type = cast<RankedTensorType>(tensor.getType());
  unsigned from = type.getElementTypeBitWidth();
  unsigned to = elementType.getIntOrFloatBitWidth();
  if (type.getElementType() == elementType)
    return tensor;
  if (from == to) { // f16 and bf16
    tensor = buildCast(builder, loc, tensor, builder.getF32Type());
    from = 32;
  }
  Type result = type.clone(elementType);
  if (from < to)
    return arith::ExtFOp::create(builder, loc, result, tensor);
  return arith::TruncFOp::create(builder, loc, result, tensor);
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

namespace {

struct MoeDifferentiate : moe::impl::MoeDifferentiateBase<MoeDifferentiate> {
  using MoeDifferentiateBase::MoeDifferentiateBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<arith::ArithDialect, linalg::LinalgDialect,
                    math::MathDialect, tensor::TensorDialect>();
    registerDifferentiationModels(registry);
  }

  void runOnOperation() override {
    if (failed(run(getOperation())))
      signalPassFailure();
  }

  LogicalResult run(ModuleOp module) {
    SmallVector<func::FuncOp> functions;
    for (auto function : module.getOps<func::FuncOp>())
      if (!function.isExternal() &&
          (entry.empty() ? function.isPublic() && takesPart(function)
                         : function.getSymName() == entry))
        functions.push_back(function);
    if (!entry.empty() && functions.empty())
      return module.emitError()
             << "has no function @" << entry
             << " with a body to differentiate; entry= names another, none "
                "takes all that are public";
    for (const std::string &name : wrt)
      if (llvm::none_of(functions, [&](func::FuncOp function) {
            return findArgument(function, name).has_value();
          }))
        return refuseName(module, name);
    if (functions.empty())
      return module.emitError()
             << "has no public function of a tensor of floats to "
                "differentiate; name another with entry=";
    for (func::FuncOp function : functions)
      if (failed(buildJoint(module, function)))
        return failure();
    return success();
  }

  /// With the names that there are.
  LogicalResult refuseName(ModuleOp module, StringRef name) {
    InFlightDiagnostic diag = module.emitError()
                              << "wrt names '" << name
                              << "', which is no argument's moe.name or number";
    for (auto function : module.getOps<func::FuncOp>()) {
      if (function.isExternal() || !function.isPublic())
        continue;
      diag << "; @" << function.getSymName() << " has";
      for (unsigned i = 0, e = function.getNumArguments(); i < e; ++i)
        diag << (i ? ", " : " ") << argumentName(function, i);
    }
    return diag;
  }

  /// Whether a gradient of the function is wanted, where none is named.
  bool takesPart(func::FuncOp function) {
    if (wrt.empty())
      return llvm::any_of(function.getArgumentTypes(), hasCotangent);
    return llvm::any_of(wrt, [&](const std::string &name) {
      return findArgument(function, name).has_value();
    });
  }

  LogicalResult buildJoint(ModuleOp module, func::FuncOp primal) {
    std::string name = (primal.getSymName() + "_joint").str();
    if (module.lookupSymbol(name))
      return primal.emitError()
             << "@" << name << " exists already; rename it first";
    if (!primal.getBody().hasOneBlock())
      return primal.emitError()
             << "has " << primal.getBody().getBlocks().size()
             << " blocks; only a function of one block is differentiated";
    for (Operation &op : primal.getBody().front())
      if (isa<CallOpInterface>(op))
        return op.emitOpError()
               << "cannot be differentiated; run inline before";
    SmallVector<unsigned> wanted;
    for (auto [i, type] : llvm::enumerate(primal.getArgumentTypes())) {
      if (primal.getArgAttr(i, "moe.inout"))
        return primal.emitError()
               << "argument #" << i
               << " is updated in place (moe.inout), and backward would see "
                  "its new value; differentiate before marking it";
      if (wrt.empty() && hasCotangent(type))
        wanted.push_back(i);
    }
    for (const std::string &name : wrt) {
      std::optional<unsigned> i = findArgument(primal, name);
      if (!i)
        continue; // another function's
      if (!hasCotangent(primal.getArgumentTypes()[*i]))
        return primal.emitError()
               << "argument '" << name << "' is "
               << primal.getArgumentTypes()[*i]
               << "; gradients are with respect to ranked tensors of floats";
      if (llvm::is_contained(wanted, *i))
        return primal.emitError()
               << "wrt names argument '" << name << "' twice";
      wanted.push_back(*i);
    }
    for (int64_t i : withoutCotangent)
      if (i < 0 || i >= int64_t(primal.getNumResults()))
        return primal.emitError()
               << "@" << primal.getSymName() << " has "
               << primal.getNumResults()
               << " results, numbered from 0; without-cotangent=" << i
               << " is none of them";

    auto joint = cast<func::FuncOp>(primal->clone());
    joint.setSymName(name);
    SymbolTable(module).insert(joint, std::next(primal->getIterator()));
    if (failed(differentiate(joint, primal.getSymName(), wanted))) {
      joint.erase();
      return failure();
    }
    return success();
  }

  LogicalResult differentiate(func::FuncOp joint, StringRef primal,
                              ArrayRef<unsigned> wanted) {
    Block &block = joint.getBody().front();
    unsigned numArguments = joint.getNumArguments();
    auto ret = cast<func::ReturnOp>(block.getTerminator());
    SmallVector<Operation *> ops;
    for (Operation &op : block.without_terminator())
      ops.push_back(&op);
    SmallVector<Value> sources;
    for (unsigned i : wanted)
      sources.push_back(block.getArgument(i));
    DenseSet<Value> active = findActive(ops, sources);

    OpBuilder builder(ret);
    SmallVector<Type> inputs(joint.getArgumentTypes());
    SmallVector<Attribute> arguments, results;
    for (unsigned i = 0; i < numArguments; ++i)
      arguments.push_back(attributes(joint.getArgAttrDict(i)));
    unsigned numResults = joint.getNumResults();
    for (unsigned i = 0; i < numResults; ++i)
      results.push_back(attributes(joint.getResultAttrDict(i)));

    names.clear();
    for (Attribute attr : llvm::concat<Attribute>(arguments, results))
      if (auto name = cast<DictionaryAttr>(attr).getAs<StringAttr>("moe.name"))
        names.insert(name.getValue());

    FailureOr<Dimensions> dims = Dimensions::read(joint);
    if (failed(dims))
      return failure();
    Cotangents cotangents;
    SmallVector<int64_t> seeded;
    for (auto [i, value] : llvm::enumerate(ret.getOperands())) {
      if (!hasCotangent(value.getType()) ||
          llvm::is_contained(withoutCotangent, int64_t(i)))
        continue;
      seeded.push_back(i);
      inputs.push_back(value.getType());
      Value cotangent = block.addArgument(value.getType(), value.getLoc());
      arguments.push_back(
          derived(results[i], dims->boundaryDimsOf(value), "out", i));
      if (active.contains(value))
        cotangents.add(builder, value, cotangent);
    }
    if (failed(buildReverse(builder, ops, active, cotangents)))
      return failure();
    SmallVector<Value> outputs(ret.getOperands());
    SmallVector<Type> outputTypes(joint.getResultTypes());
    for (unsigned i : wanted) {
      Value gradient = cotangents.lookup(block.getArgument(i));
      if (!gradient)
        gradient = buildZeros(builder, joint.getLoc(), block.getArgument(i));
      outputs.push_back(gradient);
      outputTypes.push_back(gradient.getType());
      results.push_back(derived(arguments[i], nullptr, "arg", i));
    }
    ret->setOperands(outputs);
    joint.setFunctionType(builder.getFunctionType(inputs, outputTypes));
    joint.setArgAttrsAttr(builder.getArrayAttr(arguments));
    joint.setResAttrsAttr(builder.getArrayAttr(results));
    SmallVector<int64_t> wantedList(wanted.begin(), wanted.end());
    joint->setAttr(
        "moe.joint",
        builder.getDictionaryAttr(
            {builder.getNamedAttr("arguments",
                                  builder.getI64IntegerAttr(numArguments)),
             builder.getNamedAttr("cotangents",
                                  builder.getDenseI64ArrayAttr(seeded)),
             builder.getNamedAttr("primal", builder.getStringAttr(primal)),
             builder.getNamedAttr("results",
                                  builder.getI64IntegerAttr(numResults)),
             builder.getNamedAttr("wrt",
                                  builder.getDenseI64ArrayAttr(wantedList))}));
    eraseDead(block);
    return success();
  }

  Attribute attributes(DictionaryAttr given) {
    return given ? given : DictionaryAttr::get(&getContext());
  }

  /// Names of arguments and results; those of a joint function are distinct.
  llvm::StringSet<> names;

  /// The attributes of a cotangent or gradient: the sizes of its value, given
  /// or found, and the name d_<name>, with a number where that is taken.
  Attribute derived(Attribute of, Attribute found, StringRef fallback,
                    unsigned index) {
    auto given = cast<DictionaryAttr>(of);
    NamedAttrList list;
    if (Attribute dims = given.get("moe.dims"))
      list.set("moe.dims", dims);
    else if (found)
      list.set("moe.dims", found);
    std::string name = (fallback + Twine(index)).str();
    if (auto attr = given.getAs<StringAttr>("moe.name"))
      name = attr.str();
    std::string unique = "d_" + name;
    for (unsigned n = 2; !names.insert(unique).second; ++n)
      unique = "d_" + name + "_" + std::to_string(n);
    list.set("moe.name", StringAttr::get(&getContext(), unique));
    return list.getDictionary(&getContext());
  }
};

} // namespace
