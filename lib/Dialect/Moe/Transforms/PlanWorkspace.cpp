// SPDX-License-Identifier: Apache-2.0
// moe-plan-workspace: every temporary is a view of one workspace argument.
#include "moe/Dialect/Moe/Transforms/Dimensions.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/ADT/SmallBitVector.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPLANWORKSPACE
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Offsets of temporaries in the workspace are multiples of this, as vectors
/// of any CPU like them.
static constexpr int64_t kAlignment = 64;

/// Temporaries of which pairs are exchanged to find a better order, at most:
/// the time grows with the fourth power.
static constexpr size_t kMostExchanged = 48;

namespace {

/// One allocation: its size in bytes, the first and last op (by number in the
/// function) that touch it, and the temporaries that lie below it.
struct Temporary {
  memref::AllocOp alloc;
  LinearExpr bytes;
  unsigned first, last;
  SmallVector<unsigned> after;

  bool livesWith(const Temporary &other) const {
    return first <= other.last && other.first <= last;
  }
};

class Planner {
public:
  Planner(func::FuncOp function, Dimensions &dims)
      : function(function), dims(dims) {}
  LogicalResult run();

private:
  LogicalResult collect();
  void findLifetime(Temporary &temporary);
  double sizeOf(ArrayRef<unsigned> order) const;
  SmallVector<unsigned> bestOrder() const;
  void layOut();
  LogicalResult rewrite();
  FailureOr<Value> materialize(OpBuilder &b, const LinearExpr &expr);

  func::FuncOp function;
  Dimensions &dims;
  DenseMap<Operation *, unsigned> numbers;
  SmallVector<Temporary> temporaries;
};

} // namespace

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
    auto bytes = dims.bytesOf(alloc);
    if (!bytes)
      return alloc.emitOpError()
             << "has a size that is not linear in the sizes of the function's "
                "arguments, so the host could not tell the workspace's";
    temporaries.push_back({alloc, *bytes, 0, 0, {}});
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

/// Bytes of a workspace in which each temporary of the order lies above all
/// that came before it and live when it does.
double Planner::sizeOf(ArrayRef<unsigned> order) const {
  double size = 0;
  SmallVector<double> ends;
  for (auto [i, index] : llvm::enumerate(order)) {
    double end = 0;
    for (size_t below = 0; below < i; ++below)
      if (temporaries[order[below]].livesWith(temporaries[index]))
        end = std::max(end, ends[below]);
    end += temporaries[index].bytes.nominal();
    ends.push_back(end);
    size = std::max(size, end);
  }
  return size;
}

/// The best of a few orders, then of those with two temporaries exchanged where
/// they are few.
SmallVector<unsigned> Planner::bestOrder() const {
  SmallVector<unsigned> best;
  double least = 0;
  auto consider = [&](SmallVector<unsigned> order) {
    double size = sizeOf(order);
    if (!best.empty() && size >= least)
      return false;
    best = std::move(order);
    least = size;
    return true;
  };
  // Longest life, largest, and first used first.
  using Key = std::pair<double, double>;
  using KeyOf = Key (*)(const Temporary &, double);
  for (KeyOf keyOf : {KeyOf([](const Temporary &t, double bytes) {
                        return Key(t.last - t.first, bytes);
                      }),
                      KeyOf([](const Temporary &t, double bytes) {
                        return Key(bytes, t.last - t.first);
                      }),
                      KeyOf([](const Temporary &t, double bytes) {
                        return Key(-double(t.first), bytes);
                      })}) {
    auto order = llvm::to_vector(llvm::seq<unsigned>(0, temporaries.size()));
    llvm::sort(order, [&](unsigned a, unsigned b) {
      auto key = [&](unsigned i) {
        return keyOf(temporaries[i], temporaries[i].bytes.nominal());
      };
      return key(a) != key(b) ? key(a) > key(b) : a < b;
    });
    consider(order);
  }
  for (bool better = temporaries.size() <= kMostExchanged; better;) {
    better = false;
    for (size_t i = 0; i < best.size(); ++i)
      for (size_t j = i + 1; j < best.size(); ++j) {
        SmallVector<unsigned> order = best;
        std::swap(order[i], order[j]);
        better |= consider(std::move(order));
      }
  }
  return best;
}

/// Puts the temporaries in order, and each above those that live when it does.
void Planner::layOut() {
  SmallVector<Temporary> ordered;
  SmallVector<llvm::SmallBitVector> below;
  for (unsigned index : bestOrder()) {
    Temporary temporary = temporaries[index];
    llvm::SmallBitVector all(temporaries.size());
    // What lies below one of them already is not named again.
    for (unsigned other = ordered.size(); other-- > 0;)
      if (!all[other] && ordered[other].livesWith(temporary)) {
        temporary.after.push_back(other);
        all.set(other);
        all |= below[other];
      }
    llvm::sort(temporary.after);
    ordered.push_back(std::move(temporary));
    below.push_back(all);
  }
  temporaries = std::move(ordered);
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
  SmallVector<Value> offsets, ends(temporaries.size());
  SmallVector<Attribute> list;
  for (auto [i, temporary] : llvm::enumerate(temporaries)) {
    SmallVector<Attribute> after;
    Value offset;
    for (unsigned below : temporary.after) {
      offset = offset ? arith::MaxUIOp::create(b, loc, offset, ends[below])
                      : ends[below];
      after.push_back(attrs.getI64IntegerAttr(below));
    }
    if (!offset)
      offset = arith::ConstantIndexOp::create(b, loc, 0);
    // end = roundup(offset + bytes), where something lies above.
    if (llvm::any_of(temporaries, [&, i = i](const Temporary &other) {
          return llvm::is_contained(other.after, i);
        })) {
      auto bytes = materialize(
          b, *LinearExpr::add(temporary.bytes, LinearExpr(kAlignment - 1)));
      if (failed(bytes))
        return failure();
      Value mask = arith::ConstantIndexOp::create(b, loc, -kAlignment);
      Value rounded = arith::AndIOp::create(b, loc, *bytes, mask);
      ends[i] = arith::AddIOp::create(b, loc, offset, rounded);
    }
    offsets.push_back(offset);
    list.push_back(attrs.getDictionaryAttr(
        {attrs.getNamedAttr("after", attrs.getArrayAttr(after)),
         attrs.getNamedAttr("bytes", temporary.bytes.toAttribute(context))}));
  }
  for (auto [temporary, offset] : llvm::zip_equal(temporaries, offsets)) {
    memref::AllocOp alloc = temporary.alloc;
    OpBuilder at(alloc);
    Value view =
        memref::ViewOp::create(at, alloc.getLoc(), alloc.getType(), workspace,
                               offset, alloc.getDynamicSizes());
    alloc.replaceAllUsesWith(view);
    alloc.erase();
  }
  function->setAttr(
      "moe.workspace",
      attrs.getDictionaryAttr(
          {attrs.getNamedAttr("align", attrs.getI64IntegerAttr(kAlignment)),
           attrs.getNamedAttr("temporaries", attrs.getArrayAttr(list))}));
  return success();
}

LogicalResult Planner::run() {
  if (failed(collect()))
    return failure();
  layOut();
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
