// SPDX-License-Identifier: Apache-2.0
//===- AcceptedInput.cpp - what may be compiled ---------------------------===//
#include "moe/ExecutionEngine/AcceptedInput.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

static constexpr llvm::StringLiteral kAccepted[] = {
    "builtin", "moe", "func", "arith", "math", "tensor", "linalg"};

llvm::ArrayRef<StringRef> moe::acceptedDialects() {
  static const SmallVector<StringRef> list(std::begin(kAccepted),
                                           std::end(kAccepted));
  return list;
}

void moe::loadAcceptedDialects(MLIRContext &context,
                               const DialectRegistry &registry) {
  for (StringRef name : acceptedDialects())
    if (DialectAllocatorFunctionRef load = registry.getDialectAllocator(name))
      load(&context);
}

static bool isAccepted(StringRef dialect) {
  return dialect.empty() ||
         llvm::is_contained(moe::acceptedDialects(), dialect);
}

static InFlightDiagnostic &sayAccepted(InFlightDiagnostic &diag) {
  return diag << "; accepted are " << llvm::join(moe::acceptedDialects(), ", ");
}

/// Attributes on ops and functions may name dialects that no op does.
static LogicalResult checkDiscardable(Operation *op,
                                      ArrayRef<NamedAttribute> attrs,
                                      const llvm::Twine &place) {
  for (NamedAttribute attr : attrs) {
    auto [dialect, rest] = attr.getName().getValue().split('.');
    if (rest.empty() || isAccepted(dialect))
      continue;
    InFlightDiagnostic diag = op->emitError()
                              << "attribute '" << attr.getName().getValue()
                              << "'" << place << " belongs to dialect '"
                              << dialect << "', which is not accepted";
    sayAccepted(diag);
    return failure();
  }
  return success();
}

/// Dialects that accepted ones depend on are loaded with them, so their types
/// and attributes parse.
static LogicalResult checkDialects(Operation *op, AttrTypeWalker &walker) {
  StringRef dialect = op->getName().getDialectNamespace();
  if (!isAccepted(dialect)) {
    InFlightDiagnostic diag =
        op->emitError() << "op '" << op->getName() << "' belongs to dialect '"
                        << dialect << "', which is not accepted";
    sayAccepted(diag);
    return failure();
  }
  if (failed(
          checkDiscardable(op, llvm::to_vector(op->getDiscardableAttrs()), "")))
    return failure();
  auto walk = [&](auto value) {
    if (!walker.walk(value).wasInterrupted())
      return success();
    InFlightDiagnostic diag =
        op->emitError() << "it uses a type or attribute of a dialect that "
                           "is not accepted: "
                        << value;
    sayAccepted(diag);
    return failure();
  };
  for (Type type : op->getResultTypes())
    if (failed(walk(type)))
      return failure();
  for (Region &region : op->getRegions())
    for (Block &block : region)
      for (Type type : block.getArgumentTypes())
        if (failed(walk(type)))
          return failure();
  return walk(Attribute(op->getAttrDictionary()));
}

static LogicalResult checkFunction(FunctionOpInterface function) {
  if (function.isExternal())
    return function.emitError()
           << "function '" << function.getName()
           << "' has no body: compiled code calls no outside functions";
  for (unsigned i = 0, e = function.getNumArguments(); i < e; ++i)
    if (failed(checkDiscardable(function, function.getArgAttrs(i),
                                " of argument " + llvm::Twine(i))))
      return failure();
  for (unsigned i = 0, e = function.getNumResults(); i < e; ++i)
    if (failed(checkDiscardable(function, function.getResultAttrs(i),
                                " of result " + llvm::Twine(i))))
      return failure();
  return success();
}

OwningOpRef<ModuleOp>
moe::parseAccepted(const std::shared_ptr<llvm::SourceMgr> &source,
                   MLIRContext &context) {
  OwningOpRef<ModuleOp> module =
      parseSourceFile<ModuleOp>(source, ParserConfig(&context));
  if (!module) {
    // A dialect outside the list is an unknown one to the parser.
    llvm::errs() << "note: accepted dialects are "
                 << llvm::join(moe::acceptedDialects(), ", ") << "\n";
    return nullptr;
  }
  AttrTypeWalker walker;
  walker.addWalk([](Attribute attr) {
    return isAccepted(attr.getDialect().getNamespace())
               ? WalkResult::advance()
               : WalkResult::interrupt();
  });
  walker.addWalk([](Type type) {
    return isAccepted(type.getDialect().getNamespace())
               ? WalkResult::advance()
               : WalkResult::interrupt();
  });
  bool hasEntry = false;
  WalkResult result = module->walk([&](Operation *op) {
    if (failed(checkDialects(op, walker)))
      return WalkResult::interrupt();
    if (isa<ModuleOp>(op) && op != module->getOperation()) {
      op->emitError("a module within the module: put its functions into the "
                    "outer one");
      return WalkResult::interrupt();
    }
    auto function = dyn_cast<FunctionOpInterface>(op);
    if (!function)
      return WalkResult::advance();
    if (failed(checkFunction(function)))
      return WalkResult::interrupt();
    hasEntry |= function.isPublic();
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return nullptr;
  if (!hasEntry) {
    module->emitError("the module has no public function: nothing could be "
                      "called");
    return nullptr;
  }
  return module;
}
