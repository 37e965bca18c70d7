// SPDX-License-Identifier: Apache-2.0
// moe-to-destination-style: public functions write the caller's buffers.
#include "moe/Dialect/Moe/Transforms/Dimensions.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOETODESTINATIONSTYLE
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Rewrites one public function.
class Converter {
public:
  Converter(func::FuncOp function, Dimensions &dims)
      : function(function), dims(dims), context(function.getContext()),
        builder(context) {}

  LogicalResult run();

private:
  LogicalResult checkTypes();
  LogicalResult pairInouts();
  LogicalResult checkResultDims();
  LogicalResult checkSymbolsBound();
  LogicalResult nameParameters();
  DictionaryAttr describe(DictionaryAttr given, StringRef role, StringRef name,
                          ArrayAttr sizes);
  void rewrite();
  std::pair<Value, Value> peelReshapes(Value value, Value buffer);

  func::FuncOp function;
  Dimensions &dims;
  MLIRContext *context;
  OpBuilder builder;
  func::ReturnOp terminator;
  /// Argument and result numbers.
  SmallVector<unsigned> inputs, inouts, outputs, inoutResults;
  SmallVector<DictionaryAttr> inputAttrs, inoutAttrs, outputAttrs;
};

} // namespace

static bool isBoundaryElement(Type type) {
  return type.isF64() || type.isF32() || type.isF16() || type.isBF16() ||
         type.isSignlessInteger(64) || type.isSignlessInteger(32) ||
         type.isSignlessInteger(8) || type.isSignlessInteger(1);
}

/// The buffer of a tensor at a function's boundary: row-major, no offset.
static MemRefType bufferType(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return MemRefType::get(tensor.getShape(), tensor.getElementType());
}

LogicalResult Converter::checkTypes() {
  auto check = [&](StringRef what, unsigned index, Type type) -> LogicalResult {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (tensor && isBoundaryElement(tensor.getElementType()))
      return success();
    return function.emitError()
           << what << " #" << index << " of public function '"
           << function.getSymName() << "' is " << type
           << "; public functions take and return ranked tensors of f64, f32, "
              "f16, bf16, i64, i32, i8 or i1 (a number is a tensor of rank 0)";
  };
  for (auto [i, type] : llvm::enumerate(function.getArgumentTypes()))
    if (failed(check("argument", i, type)))
      return failure();
  for (auto [i, type] : llvm::enumerate(function.getResultTypes()))
    if (failed(check("result", i, type)))
      return failure();
  return success();
}

LogicalResult Converter::pairInouts() {
  for (unsigned i = 0, e = function.getNumArguments(); i < e; ++i)
    (function.getArgAttr(i, "moe.inout") ? inouts : inputs).push_back(i);
  for (unsigned i = 0, e = function.getNumResults(); i < e; ++i)
    (function.getResultAttr(i, "moe.inout") ? inoutResults : outputs)
        .push_back(i);
  if (inouts.size() != inoutResults.size())
    return function.emitError()
           << "public function '" << function.getSymName() << "' has "
           << inouts.size() << " moe.inout arguments and "
           << inoutResults.size()
           << " moe.inout results; mark the result that is the new value of "
              "each such argument, in their order";
  for (auto [argument, result] : llvm::zip_equal(inouts, inoutResults))
    if (function.getArgumentTypes()[argument] !=
        function.getResultTypes()[result])
      return function.emitError()
             << "moe.inout argument #" << argument << " is "
             << function.getArgumentTypes()[argument]
             << " and its new value, result #" << result << ", is "
             << function.getResultTypes()[result];
  return success();
}

/// The sizes of results follow from the function; `moe.dims` may name them.
LogicalResult Converter::checkResultDims() {
  for (auto [i, value] : llvm::enumerate(terminator.getOperands())) {
    auto given = function.getResultAttrOfType<ArrayAttr>(i, "moe.dims");
    for (int64_t d = 0, e = cast<ShapedType>(value.getType()).getRank(); d < e;
         ++d) {
      auto size = dims.sizeOf(value, d);
      if (!size)
        return function.emitError()
               << "dimension " << d << " of result #" << i << " of '"
               << function.getSymName()
               << "' is not linear in the sizes of the arguments; name those "
                  "in moe.dims, such as {moe.dims = [\"2*T\", 16]}";
      if (!given)
        continue;
      auto wanted = LinearExpr::fromAttribute(given[d]);
      if (!wanted)
        return function.emitError()
               << "moe.dims of result #" << i << " says " << given[d]
               << " for dimension " << d
               << "; a dimension is a linear expression of names, such as "
                  "\"T\" or \"2*T\"";
      if (failed(dims.equate(
              terminator,
              ("dimension " + Twine(d) + " of result #" + Twine(i)).str(), size,
              wanted)))
        return failure();
    }
  }
  return success();
}

/// A call knows a symbol only from a dimension that is it or a multiple of it.
LogicalResult Converter::checkSymbolsBound() {
  llvm::StringSet<> bound;
  std::map<std::string, std::string> wanted;
  auto visit = [&](Value value, bool binds, const Twine &where) {
    for (int64_t d = 0, e = cast<ShapedType>(value.getType()).getRank(); d < e;
         ++d) {
      LinearExpr size = *dims.sizeOf(value, d);
      for (auto &[name, coefficient] : size.getTerms())
        if (binds && size.asMultipleOf(name))
          bound.insert(name);
      for (auto &[name, coefficient] : size.getTerms())
        wanted.emplace(name, (where + " has dimension " + size.str()).str());
    }
  };
  for (BlockArgument argument : function.getArguments())
    visit(argument, /*binds=*/true,
          "argument #" + Twine(argument.getArgNumber()));
  for (auto [i, value] : llvm::enumerate(terminator.getOperands()))
    visit(value, /*binds=*/false, "result #" + Twine(i));
  for (auto &[name, where] : wanted)
    if (!bound.contains(name))
      return function.emitError()
             << where << " in '" << function.getSymName()
             << "', and no argument has a dimension that is " << name
             << " or a multiple of it; a call could not know its value";
  return success();
}

DictionaryAttr Converter::describe(DictionaryAttr given, StringRef role,
                                   StringRef name, ArrayAttr sizes) {
  NamedAttrList attrs(given ? given : DictionaryAttr::get(context));
  attrs.erase("moe.inout");
  if (!attrs.get("moe.name"))
    attrs.set("moe.name", StringAttr::get(context, name));
  attrs.set("moe.dims", sizes);
  attrs.set("moe.role", StringAttr::get(context, role));
  return attrs.getDictionary(context);
}

LogicalResult Converter::nameParameters() {
  auto argument = [&](unsigned i, StringRef role) {
    return describe(function.getArgAttrDict(i), role, ("arg" + Twine(i)).str(),
                    dims.dimsOf(function.getArgument(i)));
  };
  for (unsigned i : inputs)
    inputAttrs.push_back(argument(i, "input"));
  for (unsigned i : inouts)
    inoutAttrs.push_back(argument(i, "inout"));
  for (auto [n, i] : llvm::enumerate(outputs))
    outputAttrs.push_back(describe(function.getResultAttrDict(i), "output",
                                   ("out" + Twine(n)).str(),
                                   dims.dimsOf(terminator.getOperand(i))));
  llvm::StringSet<> names;
  for (DictionaryAttr attrs :
       llvm::concat<DictionaryAttr>(inputAttrs, inoutAttrs, outputAttrs)) {
    StringRef name = attrs.getAs<StringAttr>("moe.name").getValue();
    if (!names.insert(name).second)
      return function.emitError()
             << "two arguments or results of '" << function.getSymName()
             << "' are named '" << name << "'; give each its own moe.name";
  }
  return success();
}

/// A result that is a reshape of `value` lands in a reshape of the buffer, so
/// that the kernel that makes `value` can write it.
std::pair<Value, Value> Converter::peelReshapes(Value value, Value buffer) {
  while (Operation *op = value.getDefiningOp()) {
    Location loc = op->getLoc();
    if (auto expand = dyn_cast<tensor::ExpandShapeOp>(op)) {
      buffer = memref::CollapseShapeOp::create(
          builder, loc, buffer, expand.getReassociationIndices());
      value = expand.getSrc();
      if (bufferType(value.getType()) != buffer.getType())
        buffer = memref::CastOp::create(builder, loc,
                                        bufferType(value.getType()), buffer);
      continue;
    }
    auto collapse = dyn_cast<tensor::CollapseShapeOp>(op);
    if (!collapse)
      break;
    // A group with one dynamic size: what the static ones leave of the buffer.
    auto source = cast<RankedTensorType>(collapse.getSrcType());
    SmallVector<OpFoldResult> shape =
        getAsIndexOpFoldResult(context, source.getShape());
    bool fits = true;
    for (auto [i, group] :
         llvm::enumerate(collapse.getReassociationIndices())) {
      int64_t known = 1, dynamic = -1;
      for (int64_t dim : group) {
        if (!source.isDynamicDim(dim)) {
          known *= source.getDimSize(dim);
          continue;
        }
        fits &= dynamic < 0;
        dynamic = dim;
      }
      if (dynamic < 0)
        continue;
      fits &= known > 0;
      if (!fits)
        break;
      Value size = memref::DimOp::create(builder, loc, buffer, i);
      if (known != 1)
        size = arith::DivUIOp::create(
            builder, loc, size,
            arith::ConstantIndexOp::create(builder, loc, known));
      shape[dynamic] = size;
    }
    if (!fits)
      break;
    buffer = memref::ExpandShapeOp::create(
        builder, loc, bufferType(source), buffer,
        collapse.getReassociationIndices(), shape);
    value = collapse.getSrc();
  }
  return {value, buffer};
}

void Converter::rewrite() {
  Block &body = function.getBody().front();
  builder.setInsertionPointToStart(&body);
  Location loc = function.getLoc();

  // inputs, inouts, outputs.
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attrs;
  SmallVector<BlockArgument> inoutBuffers, outputBuffers;
  for (auto [i, argAttrs] : llvm::zip_equal(inputs, inputAttrs)) {
    types.push_back(function.getArgumentTypes()[i]);
    attrs.push_back(argAttrs);
  }
  for (auto [i, argAttrs] : llvm::zip_equal(inouts, inoutAttrs)) {
    types.push_back(bufferType(function.getArgumentTypes()[i]));
    attrs.push_back(argAttrs);
    inoutBuffers.push_back(
        body.addArgument(types.back(), function.getArgument(i).getLoc()));
    Value tensor = bufferization::ToTensorOp::create(
        builder, loc, function.getArgument(i).getType(), inoutBuffers.back(),
        /*restrict=*/true, /*writable=*/true);
    function.getArgument(i).replaceAllUsesWith(tensor);
  }
  for (auto [i, argAttrs] : llvm::zip_equal(outputs, outputAttrs)) {
    types.push_back(bufferType(function.getResultTypes()[i]));
    attrs.push_back(argAttrs);
    outputBuffers.push_back(
        body.addArgument(types.back(), terminator.getLoc()));
  }
  llvm::BitVector erased(body.getNumArguments());
  for (unsigned i : inouts)
    erased.set(i);
  body.eraseArguments(erased);

  SmallVector<Value> results(terminator.getOperands());
  auto land = [&](Value value, Value buffer) {
    std::tie(value, buffer) = peelReshapes(value, buffer);
    OpBuilder atEnd(terminator);
    bufferization::MaterializeInDestinationOp::create(
        atEnd, terminator.getLoc(), /*result=*/Type(), value, buffer,
        /*restrict=*/true, /*writable=*/true);
  };
  // Last the buffers whose old values others may return.
  for (auto [i, buffer] : llvm::zip_equal(outputs, outputBuffers))
    land(results[i], buffer);
  for (auto [i, buffer] : llvm::zip_equal(inoutResults, inoutBuffers))
    land(results[i], buffer);
  terminator->setOperands({});

  function.setType(FunctionType::get(context, types, {}));
  function.setAllArgAttrs(attrs);
  function.removeResAttrsAttr();
  Builder b(context);
  for (unsigned i = 0; i < inputs.size(); ++i)
    function.setArgAttr(i,
                        bufferization::BufferizationDialect::kWritableAttrName,
                        b.getBoolAttr(false));
}

LogicalResult Converter::run() {
  if (!llvm::hasSingleElement(function.getBody()))
    return function.emitError() << "public function '" << function.getSymName()
                                << "' has control flow; layers have none";
  terminator = cast<func::ReturnOp>(function.getBody().front().getTerminator());
  if (failed(checkTypes()) || failed(pairInouts()) ||
      failed(dims.unify(function)) || failed(checkResultDims()) ||
      failed(checkSymbolsBound()) || failed(nameParameters()))
    return failure();
  rewrite();
  return success();
}

/// A copy of the tensor.
static Value copyOf(OpBuilder &builder, Location loc, Value tensor) {
  Value empty = tensor::EmptyOp::create(
      builder, loc, tensor::getMixedSizes(builder, loc, tensor),
      getElementTypeOrSelf(tensor));
  return linalg::CopyOp::create(builder, loc, tensor, empty).getResult(0);
}

/// What an op writes over is read by nobody else. Elimination of empty tensors
/// puts the result's buffer there, and does not see that writing the result
/// later takes the value away from another reader; and a table that an
/// assignment packs is read where bufferization does not see it.
static void separateInits(Operation *op) {
  auto ds = dyn_cast<DestinationStyleOpInterface>(op);
  if (!ds || !ds.hasPureTensorSemantics())
    return;
  OpBuilder builder(op);
  auto structured = dyn_cast<linalg::LinalgOp>(op);
  for (OpOperand &init : ds.getDpsInitsMutable()) {
    Value value = init.get();
    Operation *maker = value.getDefiningOp();
    if (!maker || !isa<RankedTensorType>(value.getType()))
      continue;
    if (structured && !isa<tensor::EmptyOp>(maker) &&
        !structured.payloadUsesValueFromOperand(&init)) {
      // convert-elementwise-to-linalg takes an operand.
      init.set(tensor::EmptyOp::create(
          builder, op->getLoc(),
          tensor::getMixedSizes(builder, op->getLoc(), value),
          getElementTypeOrSelf(value)));
    } else if (isa<tensor::EmptyOp, linalg::FillOp>(maker)) {
      // cse makes one of two.
      if (!value.hasOneUse())
        init.set(builder.clone(*maker)->getResult(0));
      separateInits(init.get().getDefiningOp());
    } else if (!value.hasOneUse() || isa<ViewLikeOpInterface>(maker)) {
      init.set(copyOf(builder, op->getLoc(), value));
    }
  }
}

/// Kernels read and write whole rows: what is a part of wider rows is copied.
static void copyPartsOfRows(Operation *op) {
  if (!isa<MoeDialect>(op->getDialect()) ||
      !isa<DestinationStyleOpInterface>(op))
    return;
  OpBuilder builder(op);
  for (OpOperand &operand : op->getOpOperands())
    if (auto slice = operand.get().getDefiningOp<tensor::ExtractSliceOp>())
      operand.set(copyOf(builder, op->getLoc(), slice));
  for (OpResult result : op->getResults())
    for (OpOperand &use : llvm::make_early_inc_range(result.getUses()))
      if (auto insert = dyn_cast<tensor::InsertSliceOp>(use.getOwner());
          insert && insert.getSource() == result) {
        builder.setInsertionPoint(insert);
        use.set(copyOf(builder, op->getLoc(), result));
      }
}

namespace {
struct MoeToDestinationStylePass
    : public moe::impl::MoeToDestinationStyleBase<MoeToDestinationStylePass> {
  void runOnOperation() override {
    WalkResult calls = getOperation().walk([](func::CallOp call) {
      call.emitOpError() << "is left; inline every function into the public "
                            "ones first (a recursive one cannot be)";
      return WalkResult::interrupt();
    });
    if (calls.wasInterrupted())
      return signalPassFailure();
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      if (!function.isPublic() || function.isExternal())
        continue;
      FailureOr<Dimensions> dims = Dimensions::read(function);
      if (failed(dims) || failed(Converter(function, *dims).run()))
        return signalPassFailure();
      for (Operation &op :
           llvm::make_early_inc_range(function.getBody().front())) {
        separateInits(&op);
        copyPartsOfRows(&op);
      }
    }
  }
};
} // namespace
