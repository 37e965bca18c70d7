// SPDX-License-Identifier: Apache-2.0
// Sizes as linear expressions, and what the ops of a function say about them.
#include "moe/Dialect/Moe/Transforms/Dimensions.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/StringExtras.h"

#include <numeric>

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// LinearExpr
//===----------------------------------------------------------------------===//

LinearExpr LinearExpr::symbol(StringRef name) {
  LinearExpr expr;
  expr.terms[name.str()] = 1;
  return expr;
}

std::optional<LinearExpr> LinearExpr::add(const LinearExpr &a,
                                          const LinearExpr &b) {
  LinearExpr sum = a;
  if (__builtin_add_overflow(a.constant, b.constant, &sum.constant))
    return std::nullopt;
  for (auto &[name, coefficient] : b.terms) {
    int64_t &mine = sum.terms[name];
    if (__builtin_add_overflow(mine, coefficient, &mine))
      return std::nullopt;
    if (mine == 0)
      sum.terms.erase(name);
  }
  return sum;
}

std::optional<LinearExpr> LinearExpr::sub(const LinearExpr &a,
                                          const LinearExpr &b) {
  std::optional<LinearExpr> minus = mul(b, -1);
  return minus ? add(a, *minus) : std::nullopt;
}

std::optional<LinearExpr> LinearExpr::mul(const LinearExpr &a,
                                          const LinearExpr &b) {
  std::optional<int64_t> factor = b.asConstant();
  if (!factor)
    return a.asConstant() ? mul(b, a) : std::nullopt;
  LinearExpr product;
  if (*factor == 0)
    return product;
  if (__builtin_mul_overflow(a.constant, *factor, &product.constant))
    return std::nullopt;
  for (auto &[name, coefficient] : a.terms)
    if (__builtin_mul_overflow(coefficient, *factor, &product.terms[name]))
      return std::nullopt;
  return product;
}

std::optional<LinearExpr> LinearExpr::div(const LinearExpr &a,
                                          const LinearExpr &b) {
  std::optional<int64_t> divisor = b.asConstant();
  if (!divisor || *divisor <= 0 || a.constant % *divisor)
    return std::nullopt;
  LinearExpr quotient(a.constant / *divisor);
  for (auto &[name, coefficient] : a.terms) {
    if (coefficient % *divisor)
      return std::nullopt;
    quotient.terms[name] = coefficient / *divisor;
  }
  return quotient;
}

std::optional<int64_t> LinearExpr::asConstant() const {
  return terms.empty() ? std::optional<int64_t>(constant) : std::nullopt;
}

std::optional<StringRef> LinearExpr::asSymbol() const {
  if (constant != 0 || terms.size() != 1 || terms.begin()->second != 1)
    return std::nullopt;
  return StringRef(terms.begin()->first);
}

std::optional<int64_t> LinearExpr::asMultipleOf(StringRef name) const {
  if (constant != 0 || terms.size() != 1 || terms.begin()->first != name ||
      terms.begin()->second < 1)
    return std::nullopt;
  return terms.begin()->second;
}

/// A symbol's name; the manifest has another use for "const".
static bool isName(StringRef text) {
  return !text.empty() && text != "const" &&
         (llvm::isAlpha(text[0]) || text[0] == '_') &&
         llvm::all_of(text,
                      [](char c) { return llvm::isAlnum(c) || c == '_'; });
}

/// "2*T": a product of integers and at most one name.
static std::optional<LinearExpr> parseProduct(StringRef text) {
  std::optional<LinearExpr> product = LinearExpr(1);
  for (StringRef factor : llvm::split(text, '*')) {
    factor = factor.trim();
    int64_t number;
    if (!factor.getAsInteger(10, number))
      product = LinearExpr::mul(*product, number);
    else if (isName(factor))
      product = LinearExpr::mul(*product, LinearExpr::symbol(factor));
    else
      return std::nullopt;
    if (!product)
      return std::nullopt;
  }
  return product;
}

std::optional<LinearExpr> LinearExpr::parse(StringRef text) {
  std::optional<LinearExpr> sum = LinearExpr();
  for (StringRef rest = text.trim(); !rest.empty();) {
    bool minus = rest.consume_front("-");
    StringRef term =
        rest.take_until([](char c) { return c == '+' || c == '-'; });
    rest = rest.drop_front(term.size());
    std::optional<LinearExpr> product = parseProduct(term);
    if (!product)
      return std::nullopt;
    sum = minus ? sub(*sum, *product) : add(*sum, *product);
    if (!sum)
      return std::nullopt;
    if (rest.consume_front("+") && rest.trim().empty())
      return std::nullopt;
  }
  return text.trim().empty() ? std::nullopt : sum;
}

double LinearExpr::nominal() const {
  double value = constant;
  for (auto &[name, coefficient] : terms)
    value += double(coefficient) * 4096;
  return value;
}

std::string LinearExpr::str() const {
  std::string text;
  for (auto &[name, coefficient] : terms) {
    if (!text.empty() && coefficient > 0)
      text += '+';
    if (coefficient == -1)
      text += '-';
    else if (coefficient != 1)
      text += std::to_string(coefficient) + '*';
    text += name;
  }
  if (terms.empty())
    return std::to_string(constant);
  if (constant)
    text += (constant > 0 ? "+" : "") + std::to_string(constant);
  return text;
}

Attribute LinearExpr::toAttribute(MLIRContext *context) const {
  if (terms.empty())
    return IntegerAttr::get(IntegerType::get(context, 64), constant);
  return StringAttr::get(context, str());
}

std::optional<LinearExpr> LinearExpr::fromAttribute(Attribute attr) {
  if (auto number = dyn_cast<IntegerAttr>(attr))
    return LinearExpr(number.getInt());
  if (auto text = dyn_cast<StringAttr>(attr))
    return parse(text.getValue());
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Reading sizes
//===----------------------------------------------------------------------===//

FailureOr<Dimensions> Dimensions::read(func::FuncOp function) {
  Dimensions dims;
  for (BlockArgument argument : function.getArguments()) {
    auto type = dyn_cast<ShapedType>(argument.getType());
    if (!type || !type.hasRank())
      continue;
    unsigned index = argument.getArgNumber();
    auto given = function.getArgAttrOfType<ArrayAttr>(index, "moe.dims");
    SmallVector<LinearExpr> sizes;
    for (auto [dim, size] : llvm::enumerate(type.getShape())) {
      if (!ShapedType::isDynamic(size)) {
        sizes.push_back(size);
        continue;
      }
      if (!given) {
        std::string name =
            "d" + std::to_string(index) + "_" + std::to_string(dim);
        dims.ours.insert(name);
        sizes.push_back(LinearExpr::symbol(name));
        continue;
      }
      std::optional<LinearExpr> expr = LinearExpr::fromAttribute(given[dim]);
      if (!expr)
        return function.emitError()
               << "moe.dims of argument #" << index << " says " << given[dim]
               << " for dimension " << dim
               << "; a dimension is a linear expression of names, such as "
                  "\"T\" or \"2*T\"";
      sizes.push_back(*expr);
    }
    dims.arguments[argument] = std::move(sizes);
  }
  return dims;
}

LinearExpr Dimensions::resolve(const LinearExpr &expr) const {
  for (auto &[name, coefficient] : expr.getTerms()) {
    auto it = known.find(name);
    if (it == known.end())
      continue;
    // expr - coefficient * name + coefficient * value
    auto swap = LinearExpr::sub(it->second, LinearExpr::symbol(name));
    auto scaled = swap ? LinearExpr::mul(*swap, coefficient) : std::nullopt;
    auto result = scaled ? LinearExpr::add(expr, *scaled) : std::nullopt;
    return result ? resolve(*result) : expr;
  }
  return expr;
}

/// a / b. A number of slots is a multiple of K: T gets a name where only the
/// slots had one.
std::optional<LinearExpr> Dimensions::divide(const LinearExpr &a,
                                             const LinearExpr &b) {
  if (auto quotient = LinearExpr::div(a, b))
    return quotient;
  std::optional<StringRef> slots = a.asSymbol();
  if (!slots || !ours.contains(*slots))
    return std::nullopt;
  for (auto &[count, k] : slotCounts) {
    if (resolve(count) != a || b != LinearExpr(k))
      continue;
    std::string name = (*slots + "_tokens").str();
    ours.insert(name);
    known[slots->str()] = *LinearExpr::mul(LinearExpr::symbol(name), b);
    return LinearExpr::symbol(name);
  }
  return std::nullopt;
}

std::optional<LinearExpr> Dimensions::sizeOf(Value shaped, unsigned dim) {
  std::optional<LinearExpr> size = compute(shaped, dim);
  return size ? std::optional(resolve(*size)) : std::nullopt;
}

std::optional<LinearExpr> Dimensions::valueOf(OpFoldResult value) {
  if (auto constant = getConstantIntValue(value))
    return LinearExpr(*constant);
  return isa<Value>(value) ? valueOf(cast<Value>(value)) : std::nullopt;
}

/// An affine expression of values that are linear.
static std::optional<LinearExpr>
evaluate(AffineExpr expr, ArrayRef<std::optional<LinearExpr>> operands,
         unsigned numDims) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return LinearExpr(constant.getValue());
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return operands[dim.getPosition()];
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return operands[numDims + symbol.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  auto lhs = evaluate(binary.getLHS(), operands, numDims);
  auto rhs = evaluate(binary.getRHS(), operands, numDims);
  if (!lhs || !rhs)
    return std::nullopt;
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return LinearExpr::add(*lhs, *rhs);
  case AffineExprKind::Mul:
    return LinearExpr::mul(*lhs, *rhs);
  case AffineExprKind::FloorDiv:
  case AffineExprKind::CeilDiv:
    return LinearExpr::div(*lhs, *rhs);
  default:
    return std::nullopt;
  }
}

std::optional<LinearExpr> Dimensions::bytesOf(Value shaped) {
  auto type = cast<ShapedType>(shaped.getType());
  std::optional<LinearExpr> bytes =
      llvm::divideCeil(type.getElementTypeBitWidth(), 8);
  for (int64_t i = 0; bytes && i < type.getRank(); ++i) {
    auto size = sizeOf(shaped, i);
    bytes = size ? LinearExpr::mul(*bytes, *size) : std::nullopt;
  }
  return bytes;
}

std::optional<LinearExpr> Dimensions::valueOf(Value index) {
  if (auto constant = getConstantIntValue(index))
    return LinearExpr(*constant);
  Operation *op = index.getDefiningOp();
  if (!op)
    return std::nullopt;
  if (isa<tensor::DimOp, memref::DimOp>(op)) {
    auto dim = getConstantIntValue(op->getOperand(1));
    auto type = cast<ShapedType>(op->getOperand(0).getType());
    if (!dim || !type.hasRank() || *dim < 0 || *dim >= type.getRank())
      return std::nullopt;
    return sizeOf(op->getOperand(0), *dim);
  }
  if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
    auto operands = llvm::map_to_vector(
        apply.getMapOperands(), [&](Value value) { return valueOf(value); });
    return evaluate(apply.getAffineMap().getResult(0), operands,
                    apply.getAffineMap().getNumDims());
  }
  if (op->getNumOperands() != 2 || op->getNumResults() != 1)
    return std::nullopt;
  auto lhs = valueOf(op->getOperand(0)), rhs = valueOf(op->getOperand(1));
  if (!lhs || !rhs)
    return std::nullopt;
  if (isa<arith::AddIOp>(op))
    return LinearExpr::add(*lhs, *rhs);
  if (isa<arith::SubIOp>(op))
    return LinearExpr::sub(*lhs, *rhs);
  if (isa<arith::MulIOp>(op))
    return LinearExpr::mul(*lhs, *rhs);
  if (isa<arith::DivUIOp, arith::DivSIOp, arith::FloorDivSIOp,
          arith::CeilDivUIOp, arith::CeilDivSIOp>(op))
    return divide(*lhs, *rhs);
  return std::nullopt;
}

std::optional<LinearExpr> Dimensions::compute(Value shaped, unsigned dim) {
  auto type = dyn_cast<ShapedType>(shaped.getType());
  if (!type || !type.hasRank() || dim >= type.getRank())
    return std::nullopt;
  if (!type.isDynamicDim(dim))
    return LinearExpr(type.getDimSize(dim));
  if (auto argument = arguments.find(shaped); argument != arguments.end())
    return argument->second[dim];
  Operation *op = shaped.getDefiningOp();
  if (!op)
    return std::nullopt;
  if (auto kernel = dyn_cast<DestinationStyleOpInterface>(op))
    return sizeOf(kernel.getTiedOpOperand(cast<OpResult>(shaped))->get(), dim);
  return TypeSwitch<Operation *, std::optional<LinearExpr>>(op)
      .Case<tensor::EmptyOp>(
          [&](auto empty) { return valueOf(empty.getDynamicSize(dim)); })
      .Case<memref::AllocOp, memref::ViewOp>([&](auto alloc) {
        OperandRange sizes = [&] {
          if constexpr (std::is_same_v<decltype(alloc), memref::AllocOp>)
            return alloc.getDynamicSizes();
          else
            return alloc.getSizes();
        }();
        return valueOf(sizes[type.getDynamicDimIndex(dim)]);
      })
      .Case<tensor::CastOp, memref::CastOp>(
          [&](auto cast) { return sizeOf(cast.getSource(), dim); })
      .Case<bufferization::ToTensorOp, bufferization::ToBufferOp>(
          [&](auto) { return sizeOf(op->getOperand(0), dim); })
      .Case<tensor::ExpandShapeOp, memref::ExpandShapeOp>([&](auto expand) {
        return valueOf(expand.getMixedOutputShape()[dim]);
      })
      .Case<tensor::CollapseShapeOp, memref::CollapseShapeOp>(
          [&](auto collapse) {
            std::optional<LinearExpr> product = LinearExpr(1);
            SmallVector<ReassociationIndices> groups =
                collapse.getReassociationIndices();
            for (int64_t i : groups[dim]) {
              auto size = sizeOf(collapse.getSrc(), i);
              product = product && size ? LinearExpr::mul(*product, *size)
                                        : std::nullopt;
            }
            return product;
          })
      .Case<tensor::ExtractSliceOp, memref::SubViewOp>(
          [&](auto slice) -> std::optional<LinearExpr> {
            SmallVector<OpFoldResult> sizes;
            llvm::SmallBitVector dropped = slice.getDroppedDims();
            for (auto [i, size] : llvm::enumerate(slice.getMixedSizes()))
              if (!dropped.test(i))
                sizes.push_back(size);
            return valueOf(sizes[dim]);
          })
      .Case<tensor::SplatOp>([&](tensor::SplatOp splat) {
        return valueOf(splat.getDynamicSizes()[type.getDynamicDimIndex(dim)]);
      })
      .Case([&](UnpackAssignmentOp unpack) {
        return slotsOf(unpack.getAssignment());
      })
      .Default([&](Operation *) -> std::optional<LinearExpr> {
        if (OpTrait::hasElementwiseMappableTraits(op))
          for (Value operand : op->getOperands())
            if (auto other = dyn_cast<ShapedType>(operand.getType());
                other && other.getRank() == type.getRank())
              return sizeOf(operand, dim);
        std::optional<RowCount> rows = getRowCount(cast<OpResult>(shaped));
        auto size = rows ? sizeOf(rows->source, 0) : std::nullopt;
        auto product =
            size ? LinearExpr::mul(*size, rows->times) : std::nullopt;
        return product ? LinearExpr::div(*product, rows->over) : std::nullopt;
      });
}

std::optional<LinearExpr> Dimensions::slotsOf(Value assignment) {
  if (auto pack = assignment.getDefiningOp<PackAssignmentOp>())
    return sizeOf(pack.getOrder(), 0);
  auto assign = assignment.getDefiningOp<AssignOp>();
  if (!assign)
    return std::nullopt;
  auto tokens =
      assign.getIds() ? sizeOf(assign.getIds(), 0) : valueOf(assign.getRows());
  return tokens ? LinearExpr::mul(*tokens, getAssignmentType(assignment).getK())
                : std::nullopt;
}

ArrayAttr Dimensions::dimsOf(Value shaped) {
  SmallVector<Attribute> dims;
  for (int64_t i = 0, e = cast<ShapedType>(shaped.getType()).getRank(); i < e;
       ++i) {
    std::optional<LinearExpr> size = sizeOf(shaped, i);
    if (!size)
      return {};
    // A number stands beside a static size only; here it may have been found.
    bool dynamic = cast<ShapedType>(shaped.getType()).isDynamicDim(i);
    dims.push_back(dynamic ? StringAttr::get(shaped.getContext(), size->str())
                           : size->toAttribute(shaped.getContext()));
  }
  return ArrayAttr::get(shaped.getContext(), dims);
}

ArrayAttr Dimensions::boundaryDimsOf(Value value) {
  MLIRContext *context = value.getContext();
  SmallVector<std::optional<LinearExpr>> sizes;
  if (isa<AssignmentType>(value.getType()))
    sizes.push_back(slotsOf(value));
  else
    for (int64_t i = 0, e = cast<ShapedType>(value.getType()).getRank(); i < e;
         ++i)
      sizes.push_back(sizeOf(value, i));
  bool says = false;
  SmallVector<Attribute> dims;
  for (std::optional<LinearExpr> &size : sizes) {
    if (!size)
      return {};
    if (!size->asConstant()) {
      StringRef name = size->getTerms().begin()->first;
      if (ours.contains(name) || !size->asMultipleOf(name))
        return {};
      says = true;
    }
    dims.push_back(size->toAttribute(context));
  }
  return says ? ArrayAttr::get(context, dims) : ArrayAttr();
}

//===----------------------------------------------------------------------===//
// What the ops demand
//===----------------------------------------------------------------------===//

LogicalResult Dimensions::equate(Operation *op, StringRef what,
                                 std::optional<LinearExpr> a,
                                 std::optional<LinearExpr> b) {
  if (!a || !b)
    return op->emitOpError()
           << "has " << what << " whose size does not follow from the sizes of "
           << "the function's arguments";
  LinearExpr lhs = resolve(*a), rhs = resolve(*b);
  std::optional<LinearExpr> difference = LinearExpr::sub(lhs, rhs);
  if (difference && *difference == LinearExpr())
    return success();
  auto refuse = [&]() -> LogicalResult {
    return op->emitOpError()
           << "wants " << what << " to have size " << rhs.str() << ", got "
           << lhs.str()
           << "; say in moe.dims of the arguments which sizes are equal";
  };
  if (!difference || difference->getTerms().empty())
    return refuse();
  int64_t divisor = std::abs(difference->getConstant());
  for (auto &[name, coefficient] : difference->getTerms())
    divisor = std::gcd(divisor, std::abs(coefficient));
  difference = LinearExpr::div(*difference, divisor);
  for (auto &[name, coefficient] : difference->getTerms()) {
    if (!ours.contains(name) || std::abs(coefficient) != 1)
      continue;
    // coefficient * name + rest = 0
    auto rest = LinearExpr::sub(
        *difference, *LinearExpr::mul(LinearExpr::symbol(name), coefficient));
    known[name] = *LinearExpr::mul(*rest, -coefficient);
    return success();
  }
  return refuse();
}

LogicalResult Dimensions::unifyRows(Operation *op, StringRef what, Value rows,
                                    RowOrder order, Value assignment,
                                    bool scalar) {
  auto pack = assignment.getDefiningOp<PackAssignmentOp>();
  if (!pack)
    return op->emitOpError() << "wants its assignment to come from "
                                "moe.pack_assignment; run "
                                "moe-expand-assignment first";
  auto size = sizeOf(rows, 0);
  if (size && (order == RowOrder::Token || (scalar && order == RowOrder::Slot)))
    size = LinearExpr::mul(*size, getAssignmentType(assignment).getK());
  return equate(op, what, size, sizeOf(pack.getOrder(), 0));
}

LogicalResult Dimensions::unifyPorts(Operation *op, StringRef what,
                                     ValueRange values, ArrayAttr ports,
                                     Value assignment) {
  for (auto [i, value, attr] : llvm::enumerate(values, ports)) {
    auto port = cast<PortAttr>(attr);
    std::string name = (what + " #" + Twine(i)).str();
    if (port.getKind() == PortKind::Expert)
      continue;
    if (!assignment) {
      if (failed(equate(op, name, sizeOf(value, 0), sizeOf(values[0], 0))))
        return failure();
      continue;
    }
    bool scalar =
        port.getKind() == PortKind::Scalar || port.getKind() == PortKind::Sum;
    if (failed(unifyRows(op, name, value, port.getOrder(), assignment, scalar)))
      return failure();
  }
  return success();
}

/// Sizes of one loop of a linalg op, in all operands that it walks alone.
static LogicalResult unifyLinalg(Dimensions &dims, linalg::LinalgOp op) {
  DenseMap<unsigned, LinearExpr> loops;
  for (OpOperand &operand : op->getOpOperands()) {
    AffineMap map = op.getMatchingIndexingMap(&operand);
    for (auto [i, expr] : llvm::enumerate(map.getResults())) {
      auto loop = dyn_cast<AffineDimExpr>(expr);
      auto size = dims.sizeOf(operand.get(), i);
      if (!loop || !size)
        continue;
      auto [it, first] = loops.try_emplace(loop.getPosition(), *size);
      if (!first &&
          failed(dims.equate(op,
                             ("dimension " + Twine(i) + " of operand #" +
                              Twine(operand.getOperandNumber()))
                                 .str(),
                             size, it->second)))
        return failure();
    }
  }
  return success();
}

LogicalResult Dimensions::unifyOp(Operation *op) {
  auto first = [&](StringRef what, Value a, Value b) {
    return equate(op, what, sizeOf(a, 0), sizeOf(b, 0));
  };
  return TypeSwitch<Operation *, LogicalResult>(op)
      .Case<SortSlotsOp>([&](SortSlotsOp sort) -> LogicalResult {
        Value order = sort.getOuts()[0];
        if (failed(first("position", sort.getOuts()[1], order)))
          return failure();
        if (!sort.getIds())
          return success();
        auto size = sizeOf(sort.getIds(), 0);
        int64_t k = cast<ShapedType>(sort.getIds().getType()).getDimSize(1);
        return equate(op, "ids", size ? LinearExpr::mul(*size, k) : size,
                      sizeOf(order, 0));
      })
      .Case<PackAssignmentOp>([&](PackAssignmentOp pack) {
        if (auto slots = sizeOf(pack.getOrder(), 0))
          slotCounts.push_back(
              {*slots, getAssignmentType(pack.getAssignment()).getK()});
        return first("position", pack.getPosition(), pack.getOrder());
      })
      .Case<RouteRowsOp>([&](RouteRowsOp route) -> LogicalResult {
        for (Value value : {Value(route.getMask()), Value(route.getGivenIds())})
          if (value && failed(first("an operand", value, route.getLogits())))
            return failure();
        for (Value out : route.getOuts())
          if (failed(first("an out", out, route.getLogits())))
            return failure();
        return success();
      })
      .Case<RouteGradRowsOp>([&](RouteGradRowsOp route) -> LogicalResult {
        for (Value value :
             {Value(route.getIds()), Value(route.getDGates()),
              Value(route.getDScores()), Value(route.getDLogsumexp()),
              Value(route.getOuts()[0])})
          if (value && failed(first("an operand", value, route.getLogits())))
            return failure();
        return success();
      })
      .Case<GroupedMatmulOp>([&](GroupedMatmulOp matmul) -> LogicalResult {
        Value assignment = matmul.getAssignment();
        for (auto [i, lhs] : llvm::enumerate(matmul.getLhs()))
          if (failed(unifyRows(op, "lhs", lhs, matmul.lhsOrder(i), assignment,
                               false)))
            return failure();
        if (failed(unifyPorts(op, "operand", matmul.getIns(),
                              matmul.getInPorts(), assignment)))
          return failure();
        return unifyPorts(op, "out", matmul.getOuts(), matmul.getOutPorts(),
                          assignment);
      })
      .Case<GroupedOuterOp>([&](GroupedOuterOp outer) -> LogicalResult {
        Value assignment = outer.getAssignment();
        if (failed(unifyRows(op, "x", outer.getX(), outer.getXFrom(),
                             assignment, false)))
          return failure();
        return unifyRows(op, "dy", outer.getDy(), outer.getDyFrom(), assignment,
                         false);
      })
      .Case<MapRowsOp, CombineRowsOp, ReduceExpertsOp>(
          [&](auto kernel) -> LogicalResult {
            Value assignment = kernel.getAssignment();
            SmallVector<Value> values(kernel.getIns());
            llvm::append_range(values, kernel.getOuts());
            SmallVector<Attribute> ports(kernel.getInPorts().getValue());
            llvm::append_range(ports, kernel.getOutPorts().getValue());
            if (failed(unifyPorts(op, "operand", values,
                                  ArrayAttr::get(op->getContext(), ports),
                                  assignment)))
              return failure();
            if constexpr (std::is_same_v<decltype(kernel), CombineRowsOp>) {
              for (Value addend : kernel.getAddends())
                if (failed(unifyRows(op, "an addend", addend, RowOrder::Token,
                                     assignment, false)))
                  return failure();
              for (Value fold : kernel.getFolds())
                if (failed(unifyRows(op, "partials to fold", fold,
                                     RowOrder::Grouped, assignment, false)))
                  return failure();
            }
            return success();
          })
      .Case<FoldPartialsOp>([&](FoldPartialsOp fold) -> LogicalResult {
        Value assignment = fold.getAssignment();
        if (failed(unifyRows(op, "partials", fold.getPartials(),
                             RowOrder::Grouped, assignment, false)))
          return failure();
        return unifyRows(op, "the out", fold.getOuts()[0], fold.getTo(),
                         assignment, true);
      })
      .Case<linalg::LinalgOp>([&](linalg::LinalgOp linalgOp) {
        return unifyLinalg(*this, linalgOp);
      })
      .Case<tensor::CastOp>([&](tensor::CastOp cast) -> LogicalResult {
        auto type = dyn_cast<RankedTensorType>(cast.getType());
        if (!type)
          return success();
        for (auto [i, size] : llvm::enumerate(type.getShape()))
          if (!ShapedType::isDynamic(size) &&
              failed(equate(op, "dimension " + std::to_string(i),
                            sizeOf(cast.getSource(), i), LinearExpr(size))))
            return failure();
        return success();
      })
      .Case<tensor::ExpandShapeOp>([&](tensor::ExpandShapeOp expand) {
        for (auto [i, group] :
             llvm::enumerate(expand.getReassociationIndices())) {
          std::optional<LinearExpr> product = LinearExpr(1);
          for (int64_t dim : group) {
            auto size = sizeOf(expand, dim);
            product = product && size ? LinearExpr::mul(*product, *size)
                                      : std::nullopt;
          }
          if (product && failed(equate(op, "dimension " + std::to_string(i),
                                       sizeOf(expand.getSrc(), i), product)))
            return failure();
        }
        return success();
      })
      .Default([&](Operation *) -> LogicalResult {
        if (!OpTrait::hasElementwiseMappableTraits(op))
          return success();
        Value like;
        for (Value operand : op->getOperands()) {
          auto type = dyn_cast<RankedTensorType>(operand.getType());
          if (!type)
            continue;
          if (!like)
            like = operand;
          for (int64_t i = 0; i < type.getRank(); ++i)
            if (failed(equate(op, "dimension " + std::to_string(i),
                              sizeOf(operand, i), sizeOf(like, i))))
              return failure();
        }
        return success();
      });
}

LogicalResult Dimensions::unify(func::FuncOp function) {
  for (Operation &op : function.getBody().getOps())
    if (failed(unifyOp(&op)))
      return failure();
  return success();
}
