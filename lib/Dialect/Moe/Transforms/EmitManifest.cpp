// SPDX-License-Identifier: Apache-2.0
// moe-emit-manifest: what a caller has to know, as an attribute of the module.
#include "moe/Dialect/Moe/Transforms/Dimensions.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEEMITMANIFEST
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// The manifest's format; the runtime's kAbiVersion.
static constexpr int64_t kManifestAbi = 2;

/// NumPy's names.
static StringRef dtypeName(Type type) {
  if (type.isF64())
    return "float64";
  if (type.isF32())
    return "float32";
  if (type.isF16())
    return "float16";
  if (type.isBF16())
    return "bfloat16";
  if (type.isInteger(64))
    return "int64";
  if (type.isInteger(32))
    return "int32";
  if (type.isInteger(8))
    return "int8";
  if (type.isInteger(1))
    return "bool";
  return "";
}

namespace {

/// Builds the entry of one function.
class Entry {
public:
  Entry(func::FuncOp function, int64_t align)
      : function(function), align(align), b(function.getContext()) {}
  FailureOr<DictionaryAttr> build();

private:
  FailureOr<DictionaryAttr> describe(BlockArgument argument);
  LogicalResult addConstraints(Dimensions &dims);
  void describeBackward(SmallVectorImpl<NamedAttribute> &entry);
  void describeKernels(SmallVectorImpl<NamedAttribute> &entry);

  func::FuncOp function;
  int64_t align;
  Builder b;
  SmallVector<Attribute> inputs, inouts, outputs, symbols, constraints;
};

} // namespace

FailureOr<DictionaryAttr> Entry::describe(BlockArgument argument) {
  unsigned index = argument.getArgNumber();
  auto type = dyn_cast<MemRefType>(argument.getType());
  StringRef dtype = type ? dtypeName(type.getElementType()) : StringRef();
  auto name = function.getArgAttrOfType<StringAttr>(index, "moe.name");
  auto dims = function.getArgAttrOfType<ArrayAttr>(index, "moe.dims");
  if (dtype.empty() || !name || !dims)
    return function.emitError()
           << "argument #" << index << " of '" << function.getSymName() << "', "
           << argument.getType()
           << ", cannot be described; moe-to-destination-style gives arguments "
              "names and dims, bufferization makes them memrefs";
  SmallVector<NamedAttribute> entry = {
      b.getNamedAttr("name", name),
      b.getNamedAttr("dtype", b.getStringAttr(dtype)),
      b.getNamedAttr("dims", dims)};
  auto kind = function.getArgAttrOfType<StringAttr>(index, "moe.kind");
  auto role = function.getArgAttrOfType<StringAttr>(index, "moe.role");
  if (role && role.getValue() == "output")
    entry.push_back(
        b.getNamedAttr("kind", kind ? kind : b.getStringAttr("result")));
  // Symbols in the order in which they are bound.
  for (Attribute dim : dims) {
    std::optional<LinearExpr> size = LinearExpr::fromAttribute(dim);
    if (!size)
      return function.emitError()
             << "moe.dims of argument #" << index << " of '"
             << function.getSymName() << "' has " << dim
             << ", which is no linear expression of names, such as \"2*T\"";
    for (auto &[symbol, coefficient] : size->getTerms())
      if (Attribute attr = b.getStringAttr(symbol);
          !llvm::is_contained(symbols, attr))
        symbols.push_back(attr);
  }
  return b.getDictionaryAttr(entry);
}

/// Slots are counted in 32 bits.
LogicalResult Entry::addConstraints(Dimensions &dims) {
  WalkResult result = function.walk([&](PackAssignmentOp pack) {
    auto slots = dims.sizeOf(pack.getOrder(), 0);
    if (!slots) {
      pack.emitOpError() << "has a number of slots that does not follow from "
                            "the sizes of the function's arguments; make "
                            "tables as large as the ids say";
      return WalkResult::interrupt();
    }
    if (slots->asConstant())
      return WalkResult::advance();
    Attribute constraint = b.getDictionaryAttr(
        {b.getNamedAttr("expr", b.getStringAttr(slots->str())),
         b.getNamedAttr("min", b.getI64IntegerAttr(0)),
         b.getNamedAttr("max", b.getI64IntegerAttr(INT32_MAX)),
         b.getNamedAttr("message",
                        b.getStringAttr("slots are counted in 32 bits"))});
    if (!llvm::is_contained(constraints, constraint))
      constraints.push_back(constraint);
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

/// What a backward function is the backward of, and where its inputs come from.
void Entry::describeBackward(SmallVectorImpl<NamedAttribute> &entry) {
  auto info = function->getAttrOfType<DictionaryAttr>("moe.backward");
  auto list = function->getAttrOfType<ArrayAttr>("moe.residuals");
  if (!info || !list)
    return;
  SmallVector<Attribute> residuals;
  for (auto residual : list.getAsRange<DictionaryAttr>())
    residuals.push_back(
        b.getDictionaryAttr({b.getNamedAttr("name", residual.get("name")),
                             b.getNamedAttr("kind", residual.get("kind"))}));
  NamedAttrList attributes(info);
  attributes.set("residuals", b.getArrayAttr(residuals));
  entry.push_back(
      b.getNamedAttr("backward", attributes.getDictionary(b.getContext())));
}

/// The products that a target has no good kernel for, and why.
void Entry::describeKernels(SmallVectorImpl<NamedAttribute> &entry) {
  SetVector<Attribute> reasons;
  function.walk([&](Operation *op) {
    auto config = op->getAttrOfType<ConfigAttr>("moe.config");
    if (!config || !multipliesHalves(op))
      return;
    for (VariantAttr variant : config.getVariants())
      if (StringAttr reason = variant.getReason())
        reasons.insert(b.getStringAttr(op->getName().stripDialect() + ": " +
                                       reason.getValue()));
  });
  if (!reasons.empty())
    entry.push_back(
        b.getNamedAttr("simt", b.getArrayAttr(reasons.getArrayRef())));
}

FailureOr<DictionaryAttr> Entry::build() {
  for (BlockArgument argument : function.getArguments()) {
    auto role = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                      "moe.role");
    StringRef known = role ? role.getValue() : StringRef();
    if (known == "workspace")
      continue;
    auto described = describe(argument);
    if (failed(described))
      return failure();
    if (known != "input" && known != "inout" && known != "output")
      return function.emitError()
             << "argument #" << argument.getArgNumber() << " of '"
             << function.getSymName()
             << "' has no moe.role; run moe-to-destination-style first";
    (known == "input"   ? inputs
     : known == "inout" ? inouts
                        : outputs)
        .push_back(*described);
  }
  auto workspace = function->getAttrOfType<DictionaryAttr>("moe.workspace");
  if (!workspace)
    return function.emitError()
           << "'" << function.getSymName()
           << "' has no workspace; run moe-plan-workspace first";
  FailureOr<Dimensions> dims = Dimensions::read(function);
  if (failed(dims) || failed(addConstraints(*dims)))
    return failure();
  SmallVector<NamedAttribute> entry = {
      b.getNamedAttr("inputs", b.getArrayAttr(inputs)),
      b.getNamedAttr("inouts", b.getArrayAttr(inouts)),
      b.getNamedAttr("outputs", b.getArrayAttr(outputs)),
      b.getNamedAttr("symbols", b.getArrayAttr(symbols)),
      b.getNamedAttr("constraints", b.getArrayAttr(constraints)),
      b.getNamedAttr("workspace", workspace),
      b.getNamedAttr("align", b.getI64IntegerAttr(align))};
  describeBackward(entry);
  describeKernels(entry);
  return b.getDictionaryAttr(entry);
}

namespace {
struct MoeEmitManifestPass
    : public moe::impl::MoeEmitManifestBase<MoeEmitManifestPass> {
  using MoeEmitManifestBase::MoeEmitManifestBase;
  void runOnOperation() override {
    ModuleOp module = getOperation();
    Builder b(&getContext());
    SmallVector<NamedAttribute> entries;
    for (auto function : module.getOps<func::FuncOp>()) {
      if (!function.isPublic() || function.isExternal())
        continue;
      FailureOr<DictionaryAttr> entry = Entry(function, align).build();
      if (failed(entry))
        return signalPassFailure();
      entries.push_back(b.getNamedAttr(function.getSymName(), *entry));
    }
    module->setAttr(
        "moe.manifest",
        b.getDictionaryAttr(
            {b.getNamedAttr("abi", b.getI64IntegerAttr(kManifestAbi)),
             b.getNamedAttr("target", b.getStringAttr(target)),
             b.getNamedAttr("compiler", b.getStringAttr(MOE_VERSION)),
             b.getNamedAttr("entries", b.getDictionaryAttr(entries))}));
  }
};
} // namespace
