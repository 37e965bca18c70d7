// SPDX-License-Identifier: Apache-2.0
// moe-fuse-row-moves, moe-fuse-row-scales, moe-fuse-single-choice: rows are
// read and written where they lie.
#include "Fusion.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Analysis/TopologicalSortUtils.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEFUSEROWMOVES
#define GEN_PASS_DEF_MOEFUSEROWSCALES
#define GEN_PASS_DEF_MOEFUSESINGLECHOICE
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

Type elementOf(Value value) {
  return cast<ShapedType>(value.getType()).getElementType();
}

//===----------------------------------------------------------------------===//
// Moves
//===----------------------------------------------------------------------===//

/// A map over slots that changes nothing but the order of rows.
bool isMove(MapRowsOp map) {
  if (!map.getAssignment() || !map.hasPureTensorSemantics() ||
      map.getIns().size() != 1 || map.getOuts().size() != 1)
    return false;
  PortAttr in = map.inPort(0), out = map.outPort(0);
  if (in.getKind() != out.getKind() || in.getCount() != 1 ||
      out.getCount() != 1 ||
      (in.getKind() != PortKind::Rows && in.getKind() != PortKind::Scalar))
    return false;
  Block &block = map.getBody().front();
  auto yield = cast<YieldOp>(block.getTerminator());
  return yield.getOperand(0) == block.getArgument(0);
}

/// Reads the moved rows at this use where they lay before. Null, or why not.
const char *readInPlace(OpOperand &use, MapRowsOp move) {
  Operation *user = use.getOwner();
  Value rows = move.getIns()[0];
  RowOrder from = move.inPort(0).getOrder(), to = move.outPort(0).getOrder();
  if (!getAssignment(user))
    return "its reader is no kernel over slots";
  if (getAssignment(user) != move.getAssignment())
    return "its reader runs over rows of another assignment";
  bool product = isa<GroupedOuterOp>(user);
  if (auto matmul = dyn_cast<GroupedMatmulOp>(user))
    product = use.getOperandNumber() < 1 + matmul.getLhs().size();
  if (product && elementOf(rows) != elementOf(use.get()))
    return "the product reads rows of another element type";
  MLIRContext *context = user->getContext();
  if (auto outer = dyn_cast<GroupedOuterOp>(user)) {
    bool x = use.getOperandNumber() == outer.getXMutable().getOperandNumber();
    if ((x ? outer.getXFrom() : outer.getDyFrom()) != to)
      return "its reader expects another order";
    use.set(rows);
    x ? outer.setXFrom(from) : outer.setDyFrom(from);
    return nullptr;
  }
  auto matmul = dyn_cast<GroupedMatmulOp>(user);
  if (matmul && product) {
    unsigned pair = use.getOperandNumber() - 1;
    if (matmul.lhsOrder(pair) != to)
      return "its reader expects another order";
    SmallVector<Attribute> orders(matmul.getLhsOrders().getValue());
    orders[pair] = RowOrderAttr::get(context, from);
    use.set(rows);
    matmul.setLhsOrdersAttr(ArrayAttr::get(context, orders));
    return nullptr;
  }
  if (!isRowKernel(user))
    return "its reader is no kernel with a rowwise region";
  return llvm::TypeSwitch<Operation *, const char *>(user)
      .Case<GroupedMatmulOp, MapRowsOp, CombineRowsOp, ReduceExpertsOp>(
          [&](auto kernel) -> const char * {
            MutableOperandRange ins = kernel.getInsMutable();
            for (unsigned i = 0; i < ins.size(); ++i) {
              if (ins[i].getOperandNumber() != use.getOperandNumber())
                continue;
              PortAttr port = kernel.inPort(i);
              if (port.getOrder() != to ||
                  port.getKind() != move.outPort(0).getKind())
                return "its reader expects another order";
              SmallVector<Attribute> ports(kernel.getInPorts().getValue());
              ports[i] = port.withOrder(from);
              use.set(rows);
              kernel.setInPortsAttr(ArrayAttr::get(context, ports));
              return nullptr;
            }
            return "it is not rows that its reader reads";
          })
      .Default("its reader is no kernel with a rowwise region");
}

/// The kernel that makes the rows writes them in the order of the move.
const char *writeInPlace(MapRowsOp move, IRRewriter &rewriter) {
  auto result = dyn_cast<OpResult>(move.getIns()[0]);
  if (!result || !isa<GroupedMatmulOp, MapRowsOp>(result.getOwner()) ||
      !isRowKernel(result.getOwner()) ||
      getAssignment(result.getOwner()) != move.getAssignment())
    return "what makes its rows is no kernel that could write them in this "
           "order";
  if (!result.hasOneUse())
    return "its rows have other readers, in the order they lie in now";
  if (dependsThroughOthers(result.getOwner(), move))
    return "it needs the kernel that makes its rows through a third one";
  RowKernel kernel(result.getOwner());
  RowKernel::Out &out = kernel.outs[result.getResultNumber()];
  if (out.port.getOrder() != move.inPort(0).getOrder())
    return "its rows are not written in the order that it reads";
  out = {move.getOuts()[0], out.port.withOrder(move.outPort(0).getOrder()),
         move.getResults()[0]};
  kernel.commit(rewriter, move.getOperation());
  return nullptr;
}

struct MoeFuseRowMoves : moe::impl::MoeFuseRowMovesBase<MoeFuseRowMoves> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    IRRewriter rewriter(&getContext());
    SmallVector<MapRowsOp> moves;
    function.walk([&](MapRowsOp map) {
      if (isMove(map))
        moves.push_back(map);
    });
    for (MapRowsOp move : moves) {
      const char *why = nullptr;
      for (OpOperand &use :
           llvm::make_early_inc_range(move.getResults()[0].getUses()))
        if (const char *refused = readInPlace(use, move))
          why = refused;
      std::string what = describe(move);
      Type buffer = move.getResults()[0].getType();
      RowOrder order = move.outPort(0).getOrder();
      if (!move.getResults()[0].use_empty()) {
        // Still read by somebody else: the caller, another assignment.
        buffer = move.getIns()[0].getType();
        order = move.inPort(0).getOrder();
        if (const char *refused = writeInPlace(move, rewriter)) {
          remarkRefused(move, getArgument(), what + " stays a copy of rows",
                        Twine(why) + "; " + refused);
          continue;
        }
        remarkFused(&function.front().front(), getArgument(),
                    what + " is written in its order at once", buffer, order);
        continue;
      }
      remarkFused(move, getArgument(), what + " is read in place", buffer,
                  order);
      rewriter.eraseOp(move);
    }
  }
};

//===----------------------------------------------------------------------===//
// Row scalars move past a product
//===----------------------------------------------------------------------===//

/// rows * scalar, and nothing else.
bool isScale(MapRowsOp map, unsigned &rows, unsigned &scalar) {
  if (!map || !map.getAssignment() || !map.hasPureTensorSemantics() ||
      map.getIns().size() != 2 || map.getOuts().size() != 1 ||
      map.outPort(0).getKind() != PortKind::Rows ||
      map.outPort(0).getCount() != 1)
    return false;
  rows = map.inPort(0).getKind() == PortKind::Rows ? 0 : 1;
  scalar = 1 - rows;
  if (map.inPort(rows).getKind() != PortKind::Rows ||
      map.inPort(rows).getCount() != 1 ||
      map.inPort(scalar).getKind() != PortKind::Scalar)
    return false;
  Block &block = map.getBody().front();
  auto product =
      block.getTerminator()->getOperand(0).getDefiningOp<arith::MulFOp>();
  return product && llvm::range_size(block) == 2 &&
         ((product.getLhs() == block.getArgument(0) &&
           product.getRhs() == block.getArgument(1)) ||
          (product.getLhs() == block.getArgument(1) &&
           product.getRhs() == block.getArgument(0)));
}

/// (gate * x) W -> gate * (x W). Only asks whether it can be without `make`.
const char *scaleAccumulator(GroupedMatmulOp matmul, MapRowsOp scale,
                             unsigned rows, unsigned scalar,
                             IRRewriter &rewriter, bool make) {
  if (matmul.getLhs().size() != 1)
    return "the product sums two pairs, of which one is not scaled";
  if (elementOf(scale.getIns()[rows]) != elementOf(matmul.getLhs()[0]))
    return "the product reads rows of another element type";
  if (!make)
    return nullptr;
  RowKernel kernel(matmul);
  kernel.lhs[0] = scale.getIns()[rows];
  kernel.lhsOrders[0] =
      RowOrderAttr::get(matmul.getContext(), scale.inPort(rows).getOrder());
  Value gate =
      kernel.read(scale.getIns()[scalar], scale.inPort(scalar)).front();
  OpBuilder b(matmul.getContext());
  b.setInsertionPointToStart(&kernel.block());
  for (Value accumulator : kernel.accumulators()) {
    auto product = arith::MulFOp::create(b, scale.getLoc(), gate, accumulator);
    accumulator.replaceAllUsesExcept(product, product);
  }
  kernel.commit(rewriter);
  return nullptr;
}

/// sum of dy x (gate * x) -> sum of (gate * dy) x x, or the other way round.
const char *scaleOtherSide(GroupedOuterOp outer, MapRowsOp scale, unsigned rows,
                           unsigned scalar, IRRewriter &rewriter, bool make) {
  bool isX = outer.getX() == scale.getResults()[0];
  Value other = isX ? outer.getDy() : outer.getX();
  RowOrder otherOrder = isX ? outer.getDyFrom() : outer.getXFrom();
  if (other == scale.getResults()[0])
    return "both sides of the product are scaled";
  if (elementOf(scale.getIns()[rows]) != elementOf(other))
    return "the product reads rows of another element type";
  // The scaled copy moves to where a kernel writes rows anyway.
  auto maker = other.getDefiningOp();
  if (otherOrder == RowOrder::Token ||
      !isa_and_present<GroupedMatmulOp, MapRowsOp>(maker) ||
      getAssignment(maker) != outer.getAssignment())
    return "no kernel writes the rows of the other side, so that a scaled copy "
           "of them would cost as much";
  auto narrow = cast<ShapedType>(other.getType()).getDimSize(1);
  auto wide = cast<ShapedType>(scale.getResults()[0].getType()).getDimSize(1);
  if (narrow > 2 * wide)
    return "a scaled copy of the other side is larger";
  if (!make)
    return nullptr;
  Location loc = outer.getLoc();
  rewriter.setInsertionPoint(outer);
  auto init = cast<OpResult>(other);
  Value out = cast<DestinationStyleOpInterface>(maker)
                  .getDpsInitOperand(init.getResultNumber())
                  ->get();
  MLIRContext *context = outer.getContext();
  PortAttr port = PortAttr::get(context, PortKind::Rows, otherOrder);
  auto map = MapRowsOp::create(
      rewriter, loc, other.getType(), otherOrder, outer.getAssignment(),
      ValueRange{other, scale.getIns()[scalar]}, ValueRange(out),
      rewriter.getArrayAttr({port, scale.inPort(scalar)}),
      rewriter.getArrayAttr({port}));
  {
    OpBuilder::InsertionGuard guard(rewriter);
    FloatType compute =
        cast<FloatType>(scale.getBody().front().getArgument(0).getType());
    Block *block = rewriter.createBlock(&map.getBody(), {}, {compute, compute},
                                        {loc, loc});
    Value product = arith::MulFOp::create(rewriter, loc, block->getArgument(0),
                                          block->getArgument(1));
    YieldOp::create(rewriter, loc, product);
  }
  rewriter.modifyOpInPlace(outer, [&] {
    (isX ? outer.getXMutable() : outer.getDyMutable())
        .assign(scale.getIns()[rows]);
    (isX ? outer.getDyMutable() : outer.getXMutable())
        .assign(map.getResults()[0]);
    RowOrder order = scale.inPort(rows).getOrder();
    isX ? outer.setXFrom(order) : outer.setDyFrom(order);
  });
  return nullptr;
}

struct MoeFuseRowScales : moe::impl::MoeFuseRowScalesBase<MoeFuseRowScales> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    IRRewriter rewriter(&getContext());
    SmallVector<MapRowsOp> scales;
    unsigned rows, scalar;
    function.walk([&](MapRowsOp map) {
      // Rows that are grouped already are scaled where they are written.
      if (isScale(map, rows, scalar) &&
          map.inPort(rows).getOrder() != RowOrder::Grouped)
        scales.push_back(map);
    });
    for (MapRowsOp scale : scales) {
      isScale(scale, rows, scalar);
      Value result = scale.getResults()[0];
      std::string why;
      auto users = llvm::to_vector(result.getUsers());
      // All or nothing: a copy that stays is read by all.
      for (Operation *user : users) {
        auto matmul = dyn_cast<GroupedMatmulOp>(user);
        if (!isa<GroupedMatmulOp, GroupedOuterOp>(user) ||
            getAssignment(user) != scale.getAssignment() ||
            (matmul && !llvm::is_contained(matmul.getLhs(), result)))
          why = "a reader is no product by the same assignment";
      }
      llvm::SmallPtrSet<Operation *, 4> distinct(users.begin(), users.end());
      if (distinct.size() != users.size())
        why = "a reader reads it twice";
      for (bool make : {false, true})
        for (Operation *user : users) {
          if (!why.empty())
            break;
          const char *refused = nullptr;
          if (auto matmul = dyn_cast<GroupedMatmulOp>(user))
            refused =
                scaleAccumulator(matmul, scale, rows, scalar, rewriter, make);
          else
            refused = scaleOtherSide(cast<GroupedOuterOp>(user), scale, rows,
                                     scalar, rewriter, make);
          if (refused)
            why = refused;
        }
      if (!why.empty()) {
        remarkRefused(scale, getArgument(),
                      describe(scale) + " stays a scaled copy of rows", why);
        continue;
      }
      remarkFused(scale, getArgument(),
                  describe(scale) + " is scaled after the product",
                  result.getType(), scale.outPort(0).getOrder());
      rewriter.eraseOp(scale);
    }
  }
};

//===----------------------------------------------------------------------===//
// K = 1
//===----------------------------------------------------------------------===//

struct MoeFuseSingleChoice
    : moe::impl::MoeFuseSingleChoiceBase<MoeFuseSingleChoice> {
  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    SmallVector<CombineRowsOp> combines;
    getOperation().walk([&](CombineRowsOp op) { combines.push_back(op); });
    for (CombineRowsOp op : combines) {
      if (!op.hasPureTensorSemantics() ||
          getAssignmentType(op.getAssignment()).getK() != 1)
        continue;
      if (!op.getAddends().empty() || !op.getFolds().empty()) {
        remarkRefused(op, getArgument(), describe(op) + " stays a sum",
                      "it has addends or folds");
        continue;
      }
      SmallVector<Attribute> outPorts;
      for (Attribute port : op.getOutPorts())
        outPorts.push_back(cast<PortAttr>(port).withOrder(RowOrder::Slot));
      rewriter.setInsertionPoint(op);
      auto map = MapRowsOp::create(rewriter, op.getLoc(), op.getResultTypes(),
                                   RowOrder::Slot, op.getAssignment(),
                                   op.getIns(), op.getOuts(), op.getInPorts(),
                                   rewriter.getArrayAttr(outPorts));
      map.getBody().takeBody(op.getBody());
      remarkFused(map, getArgument(), "the sum over one slot becomes a map");
      rewriter.replaceOp(op, map);
    }
  }
};

} // namespace
