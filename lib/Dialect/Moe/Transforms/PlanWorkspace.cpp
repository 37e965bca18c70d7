// SPDX-License-Identifier: Apache-2.0
// moe-plan-workspace: every temporary is a view of one workspace argument.
#include "moe/Dialect/Moe/Transforms/Dimensions.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/Support/MathExtras.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPLANWORKSPACE
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Offsets of temporaries in the workspace are multiples of this, as vectors
/// of any CPU like them.
static constexpr int64_t kAlignment = 64;

namespace {

/// One allocation: its size in bytes, and the first and last op (by number in
/// the function) that touch it.
struct Temporary {
  memref::AllocOp alloc;
  LinearExpr bytes;
  unsigned first, last;
};

/// A part of the workspace that temporaries use one after another.
struct Part {
  LinearExpr bytes;
  SmallVector<unsigned> temporaries;
};

class Planner {
public:
  Planner(func::FuncOp function, Dimensions &dims)
      : function(function), dims(dims) {}
  LogicalResult run();

private:
  LogicalResult collect();
  void findLifetime(Temporary &temporary);
  void assignParts();
  LogicalResult rewrite();
  FailureOr<Value> materialize(OpBuilder &b, const LinearExpr &expr);

  func::FuncOp function;
  Dimensions &dims;
  DenseMap<Operation *, unsigned> numbers;
  SmallVector<Temporary> temporaries;
  SmallVector<Part> parts;
};

} // namespace

/// Bytes of a buffer, where they are linear in the symbols.
static std::optional<LinearExpr> bytesOf(Dimensions &dims, Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  std::optional<LinearExpr> bytes =
      llvm::divideCeil(type.getElementTypeBitWidth(), 8);
  for (int64_t i = 0; bytes && i < type.getRank(); ++i) {
    auto size = dims.sizeOf(buffer, i);
    bytes = size ? LinearExpr::mul(*bytes, *size) : std::nullopt;
  }
  return bytes;
}

LogicalResult Planner::collect() {
  unsigned number = 0;
  for (Operation &op : function.getBody().front())
    numbers[&op] = number++;
  SmallVector<memref::AllocOp> allocs;
  function.walk([&](memref::AllocOp alloc) { allocs.push_back(alloc); });
  for (memref::AllocOp alloc : allocs) {
    if (!numbers.count(alloc))
      return alloc.emitOpError()
             << "is in a nested region; a temporary is planned only at the top "
                "level of a function";
    if (!alloc.getType().getLayout().isIdentity())
      return alloc.emitOpError() << "has the layout " << alloc.getType()
                                 << "; only row-major buffers are planned";
    auto bytes = bytesOf(dims, alloc);
    if (!bytes)
      return alloc.emitOpError()
             << "has a size that is not linear in the sizes of the function's "
                "arguments, so the host could not tell the workspace's";
    temporaries.push_back({alloc, *bytes, 0, 0});
    findLifetime(temporaries.back());
  }
  return success();
}

/// The ops that use the buffer, a view of it, or an assignment packed from it.
void Planner::findLifetime(Temporary &temporary) {
  temporary.first = ~0u;
  temporary.last = 0;
  SmallVector<Value> aliases = {temporary.alloc};
  DenseSet<Value> seen;
  while (!aliases.empty()) {
    Value value = aliases.pop_back_val();
    if (!seen.insert(value).second)
      continue;
    for (Operation *user : value.getUsers()) {
      if (isa<ViewLikeOpInterface, PackAssignmentOp>(user)) {
        llvm::append_range(aliases, user->getResults());
        continue;
      }
      Operation *top = function.getBody().front().findAncestorOpInBlock(*user);
      unsigned number = numbers.lookup(top);
      temporary.first = std::min(temporary.first, number);
      temporary.last = std::max(temporary.last, number);
    }
  }
}

/// The value of an expression for a layer of a usual size: sizes are compared
/// by it.
static double nominal(const LinearExpr &expr) {
  double value = expr.getConstant();
  for (auto &[name, coefficient] : expr.getTerms())
    value += double(coefficient) * 4096;
  return value;
}

/// The least linear expression that is at least both for symbols >= 0.
static LinearExpr atLeast(const LinearExpr &a, const LinearExpr &b) {
  LinearExpr bound(std::max(a.getConstant(), b.getConstant()));
  llvm::StringSet<> names;
  for (auto *expr : {&a, &b})
    for (auto &[name, coefficient] : expr->getTerms()) {
      if (!names.insert(name).second)
        continue;
      auto in = [&, name = name](const LinearExpr &e) -> int64_t {
        auto it = e.getTerms().find(name);
        return it == e.getTerms().end() ? 0 : it->second;
      };
      int64_t larger = std::max(in(a), in(b));
      auto term = LinearExpr::mul(LinearExpr::symbol(name), larger);
      bound = *LinearExpr::add(bound, *term);
    }
  return bound;
}

/// Largest first, each goes where it adds least to the workspace.
void Planner::assignParts() {
  SmallVector<unsigned> order(
      llvm::to_vector(llvm::seq<unsigned>(temporaries.size())));
  llvm::sort(order, [&](unsigned a, unsigned b) {
    double sizeA = nominal(temporaries[a].bytes);
    double sizeB = nominal(temporaries[b].bytes);
    return sizeA != sizeB ? sizeA > sizeB : a < b;
  });
  for (unsigned index : order) {
    const Temporary &temporary = temporaries[index];
    Part *best = nullptr;
    double bestGrowth = nominal(temporary.bytes);
    for (Part &part : parts) {
      bool busy = llvm::any_of(part.temporaries, [&](unsigned other) {
        return temporaries[other].first <= temporary.last &&
               temporary.first <= temporaries[other].last;
      });
      double growth =
          nominal(atLeast(part.bytes, temporary.bytes)) - nominal(part.bytes);
      if (busy || growth >= bestGrowth)
        continue;
      best = &part;
      bestGrowth = growth;
    }
    if (!best)
      best = &parts.emplace_back(Part{temporary.bytes, {}});
    best->bytes = atLeast(best->bytes, temporary.bytes);
    best->temporaries.push_back(index);
  }
}

/// The expression as an index, from the arguments that bind its symbols.
FailureOr<Value> Planner::materialize(OpBuilder &b, const LinearExpr &expr) {
  Location loc = function.getLoc();
  Value sum = arith::ConstantIndexOp::create(b, loc, expr.getConstant());
  for (auto &[name, coefficient] : expr.getTerms()) {
    Value symbol;
    for (BlockArgument argument : function.getArguments()) {
      auto type = dyn_cast<MemRefType>(argument.getType());
      for (int64_t i = 0; type && !symbol && i < type.getRank(); ++i)
        if (auto size = dims.sizeOf(argument, i))
          if (auto factor = size->asMultipleOf(name)) {
            symbol = memref::DimOp::create(b, loc, argument, i);
            if (*factor != 1)
              symbol = arith::DivUIOp::create(
                  b, loc, symbol,
                  arith::ConstantIndexOp::create(b, loc, *factor));
          }
    }
    if (!symbol)
      return function.emitError() << "no argument has a dimension that is "
                                  << name << " or a multiple of it";
    Value factor = arith::ConstantIndexOp::create(b, loc, coefficient);
    Value term = arith::MulIOp::create(b, loc, symbol, factor);
    sum = arith::AddIOp::create(b, loc, sum, term);
  }
  return sum;
}

LogicalResult Planner::rewrite() {
  MLIRContext *context = function.getContext();
  Builder attrs(context);
  auto type = MemRefType::get({ShapedType::kDynamic}, attrs.getI8Type());
  unsigned index = function.getNumArguments();
  if (failed(function.insertArgument(
          index, type,
          attrs.getDictionaryAttr(
              {attrs.getNamedAttr("moe.name", attrs.getStringAttr("workspace")),
               attrs.getNamedAttr("moe.role",
                                  attrs.getStringAttr("workspace"))}),
          function.getLoc())))
    return failure();
  Value workspace = function.getArgument(index);

  OpBuilder b = OpBuilder::atBlockBegin(&function.getBody().front());
  Location loc = function.getLoc();
  Value offset = arith::ConstantIndexOp::create(b, loc, 0);
  SmallVector<Attribute> terms;
  for (auto [i, part] : llvm::enumerate(parts)) {
    for (unsigned t : part.temporaries) {
      memref::AllocOp alloc = temporaries[t].alloc;
      OpBuilder at(alloc);
      Value view =
          memref::ViewOp::create(at, alloc.getLoc(), alloc.getType(), workspace,
                                 offset, alloc.getDynamicSizes());
      alloc.replaceAllUsesWith(view);
      alloc.erase();
    }
    SmallVector<NamedAttribute> term = {attrs.getNamedAttr(
        "const", attrs.getI64IntegerAttr(part.bytes.getConstant()))};
    for (auto &[name, coefficient] : part.bytes.getTerms())
      term.push_back(
          attrs.getNamedAttr(name, attrs.getI64IntegerAttr(coefficient)));
    terms.push_back(attrs.getDictionaryAttr(term));
    if (i + 1 == parts.size())
      break;
    // offset += roundup(bytes). The op that followed may be erased by now.
    b.setInsertionPointAfterValue(offset);
    auto bytes = materialize(
        b, *LinearExpr::add(part.bytes, LinearExpr(kAlignment - 1)));
    if (failed(bytes))
      return failure();
    Value mask = arith::ConstantIndexOp::create(b, loc, -kAlignment);
    Value rounded = arith::AndIOp::create(b, loc, *bytes, mask);
    offset = arith::AddIOp::create(b, loc, offset, rounded);
  }
  function->setAttr(
      "moe.workspace",
      attrs.getDictionaryAttr(
          {attrs.getNamedAttr("align", attrs.getI64IntegerAttr(kAlignment)),
           attrs.getNamedAttr("terms", attrs.getArrayAttr(terms))}));
  return success();
}

LogicalResult Planner::run() {
  if (failed(collect()))
    return failure();
  assignParts();
  return rewrite();
}

namespace {
struct MoePlanWorkspacePass
    : public moe::impl::MoePlanWorkspaceBase<MoePlanWorkspacePass> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    if (!function.isPublic() || function.isExternal())
      return;
    if (function->hasAttr("moe.workspace")) {
      function.emitError() << "'" << function.getSymName()
                           << "' has a workspace already";
      return signalPassFailure();
    }
    if (!llvm::hasSingleElement(function.getBody())) {
      function.emitError() << "'" << function.getSymName()
                           << "' has control flow; plan it before loops are "
                              "lowered to branches";
      return signalPassFailure();
    }
    FailureOr<Dimensions> dims = Dimensions::read(function);
    if (failed(dims) || failed(Planner(function, *dims).run()))
      signalPassFailure();
  }
};
} // namespace
