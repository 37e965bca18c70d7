// SPDX-License-Identifier: Apache-2.0
// moe-partition: a joint function cut into forward and backward where the
// fewest bytes cross. See Passes.td.
#include "MinimumCut.h"

#include "moe/Dialect/Moe/Transforms/Differentiation.h"
#include "moe/Dialect/Moe/Transforms/Dimensions.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/IR/LinalgInterfaces.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPARTITION
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// What values and ops cost
//===----------------------------------------------------------------------===//

/// Sizes at a nominal number of tokens.
struct Weights {
  Dimensions &dims;
  int64_t tokens;

  int64_t dynamicSize(Value value, unsigned dim) const {
    std::optional<LinearExpr> size = dims.sizeOf(value, dim);
    if (!size)
      return tokens;
    int64_t number = size->getConstant();
    for (auto &[name, coefficient] : size->getTerms())
      number += coefficient * tokens;
    return number;
  }

  /// Infinite for what cannot be saved.
  int64_t bytes(Value value) const {
    if (auto type = dyn_cast<AssignmentType>(value.getType())) {
      int64_t slots =
          type.hasStaticTokens() ? type.getSlots() : tokens * type.getK();
      return 4 * (2 * slots + 2 * type.getExperts());
    }
    auto type = dyn_cast<RankedTensorType>(value.getType());
    if (!type || !type.getElementType().isIntOrFloat())
      return MinimumCut::kInfinite;
    int64_t bits = type.getElementTypeBitWidth();
    int64_t size = (bits + 7) / 8;
    for (unsigned d = 0; d < type.getRank(); ++d)
      size *= type.isDynamicDim(d) ? dynamicSize(value, d) : type.getDimSize(d);
    return size;
  }

  int64_t flops(Operation *op) const {
    auto elements = [&](Value value) {
      auto type = cast<RankedTensorType>(value.getType());
      return bytes(value) / ((type.getElementTypeBitWidth() + 7) / 8);
    };
    auto width = [](Value value) {
      return cast<ShapedType>(value.getType()).getShape().back();
    };
    if (auto linear = dyn_cast<ParallelLinearOp>(op))
      return 2 * elements(linear.getResult()) * width(linear.getLhs());
    if (auto outer = dyn_cast<WeightGradOp>(op)) {
      AssignmentType type = getAssignmentType(outer.getAssignment());
      int64_t slots =
          type.hasStaticTokens() ? type.getSlots() : tokens * type.getK();
      return 2 * slots * width(outer.getX()) * width(outer.getDy());
    }
    auto product = cast<linalg::LinalgOp>(op);
    int64_t count = 2;
    SmallVector<int64_t> loops = product.getStaticLoopRanges();
    for (int64_t size : loops)
      count *= ShapedType::isDynamic(size) ? tokens : size;
    return count;
  }
};

bool isMatrixProduct(Operation *op) {
  if (isa<ParallelLinearOp, WeightGradOp>(op))
    return true;
  auto structured = dyn_cast<linalg::LinalgOp>(op);
  return structured && linalg::isaContractionOpInterface(structured);
}

/// Which expert a slot goes to is decided once; rows that were counted before
/// need no decision.
bool isDecision(Operation *op) {
  auto assign = dyn_cast<AssignOp>(op);
  return isa<RouteOp>(op) || (assign && !assign.getCounts());
}

/// Costs nothing to do again.
bool isFree(Operation *op) {
  if (isa<arith::ConstantOp, tensor::DimOp, tensor::EmptyOp,
          tensor::CollapseShapeOp, tensor::ExpandShapeOp, tensor::CastOp,
          linalg::FillOp, PackAssignmentOp, UnpackAssignmentOp>(op))
    return true;
  return llvm::none_of(op->getResultTypes(), [](Type type) {
    return isa<ShapedType, AssignmentType>(type);
  });
}

//===----------------------------------------------------------------------===//
// The cut
//===----------------------------------------------------------------------===//

/// A block whose outputs are asked for at two times.
struct Joint {
  Block *block;
  SmallVector<Value> first, second;
  /// Arguments and ops that the first time cannot have.
  DenseSet<Value> lateArguments;
  DenseSet<Operation *> late;
};

/// Ops that `outputs` need.
DenseSet<Operation *> findNeeded(Block *block, ArrayRef<Value> outputs) {
  DenseSet<Operation *> needed;
  for (Value value : outputs)
    if (Operation *op = value.getDefiningOp())
      needed.insert(op);
  for (Operation &op : llvm::reverse(*block))
    if (needed.contains(&op))
      for (Value operand : getReads(&op))
        if (Operation *producer = operand.getDefiningOp())
          needed.insert(producer);
  return needed;
}

/// The values that cross, in the order of their definitions.
SmallVector<Value> findCut(const Joint &joint, const Weights &weights,
                           function_ref<bool(Operation *)> once) {
  MinimumCut graph;
  unsigned source = graph.addNode(), sink = graph.addNode();
  DenseMap<Value, unsigned> entry; // its exit is the next node
  SmallVector<Value> values;
  auto add = [&](Value value, int64_t weight) {
    unsigned in = graph.addNode(), out = graph.addNode();
    entry[value] = in;
    values.push_back(value);
    graph.addEdge(in, out, weight);
  };
  for (BlockArgument argument : joint.block->getArguments())
    if (!joint.lateArguments.contains(argument)) {
      add(argument, 0);
      graph.addEdge(source, entry[argument], MinimumCut::kInfinite);
    }
  DenseSet<Operation *> needed = findNeeded(joint.block, joint.second);
  auto sinkAt = [&](Value value) {
    auto it = entry.find(value);
    if (it != entry.end())
      graph.addEdge(it->second + 1, sink, MinimumCut::kInfinite);
  };
  for (Operation &op : joint.block->without_terminator()) {
    if (joint.late.contains(&op)) {
      if (needed.contains(&op))
        for (Value operand : getReads(&op))
          sinkAt(operand);
      continue;
    }
    for (Value result : op.getResults()) {
      // Among cuts of equal bytes, that of the fewest values, and of rows
      // before they are moved: no kernel has to move them to be kept.
      int64_t bytes = weights.bytes(result);
      add(result, bytes == MinimumCut::kInfinite
                      ? bytes
                      : bytes * 1024 + 1 + isa<GroupOp, ScatterOp>(op));
      if (once(&op)) {
        graph.addEdge(source, entry[result], MinimumCut::kInfinite);
        continue;
      }
      for (Value operand : getReads(&op))
        if (entry.contains(operand))
          graph.addEdge(entry[operand] + 1, entry[result],
                        MinimumCut::kInfinite);
    }
  }
  for (Value value : joint.second)
    sinkAt(value);
  graph.solve(source, sink);
  SmallVector<Value> cut;
  for (Value value : values)
    if (!graph.onSinkSide(entry[value]) && graph.onSinkSide(entry[value] + 1))
      cut.push_back(value);
  return cut;
}

//===----------------------------------------------------------------------===//
// Functions from parts of a block
//===----------------------------------------------------------------------===//

constexpr StringLiteral kTables[] = {"order", "position", "begin", "end"};

/// The four tables of an assignment; else the type itself.
SmallVector<Type> boundaryTypes(Type type) {
  auto assignment = dyn_cast<AssignmentType>(type);
  if (!assignment)
    return {type};
  Type i32 = IntegerType::get(type.getContext(), 32);
  Type slots = RankedTensorType::get({assignment.getSlots()}, i32);
  Type experts = RankedTensorType::get({assignment.getExperts()}, i32);
  return {slots, slots, experts, experts};
}

/// Names of what callers see.
class Boundary {
public:
  explicit Boundary(MLIRContext *context) : context(context) {}

  /// The attributes, with a name that no other value has: `name`, with a number
  /// where it is taken or asked for.
  DictionaryAttr name(DictionaryAttr given, const Twine &name,
                      StringRef kind = "", bool numbered = false) {
    std::string base = name.str(), unique = base;
    for (unsigned n = 0; numbered || !taken.insert(unique).second; ++n) {
      unique = base + std::to_string(n);
      numbered = false;
    }
    NamedAttrList list(sameName(given, unique));
    if (!kind.empty())
      list.set("moe.kind", StringAttr::get(context, kind));
    return list.getDictionary(context);
  }

  /// The attributes, with that name.
  DictionaryAttr sameName(DictionaryAttr given, StringRef name) {
    NamedAttrList list(given ? given : DictionaryAttr::get(context));
    list.set("moe.name", StringAttr::get(context, name));
    return list.getDictionary(context);
  }

private:
  MLIRContext *context;
  llvm::StringSet<> taken;
};

/// A function of `inputs` that computes `outputs`.
class Extraction {
public:
  Extraction(func::FuncOp from, std::string name)
      : from(from), name(std::move(name)) {}

  /// One dictionary of attributes, or one for each table.
  void addInput(Value value, ArrayRef<DictionaryAttr> attributes) {
    inputs.push_back({value, llvm::to_vector(attributes)});
  }
  void addOutput(Value value, ArrayRef<DictionaryAttr> attributes) {
    outputs.push_back({value, llvm::to_vector(attributes)});
  }
  DictionaryAttr outputAttributes(unsigned i) const {
    return outputs[i].attributes.front();
  }

  func::FuncOp build() {
    OpBuilder b(from);
    Location loc = from.getLoc();
    SmallVector<Type> inputTypes, outputTypes;
    SmallVector<Attribute> inputAttributes, outputAttributes;
    auto collect = [&](const Port &port, SmallVector<Type> &types,
                       SmallVector<Attribute> &attributes) {
      if (port.isTables())
        llvm::append_range(types, boundaryTypes(port.value.getType()));
      else
        types.push_back(port.value.getType());
      llvm::append_range(attributes, port.attributes);
    };
    for (const Port &port : inputs)
      collect(port, inputTypes, inputAttributes);
    for (const Port &port : outputs)
      collect(port, outputTypes, outputAttributes);
    auto function = func::FuncOp::create(
        b, loc, name, b.getFunctionType(inputTypes, outputTypes));
    function.setArgAttrsAttr(b.getArrayAttr(inputAttributes));
    function.setResAttrsAttr(b.getArrayAttr(outputAttributes));
    Block *body = function.addEntryBlock();
    b.setInsertionPointToEnd(body);

    IRMapping map;
    unsigned next = 0;
    for (const Port &port : inputs) {
      if (port.isTables()) {
        ValueRange tables = body->getArguments().slice(next, 4);
        map.map(port.value, PackAssignmentOp::create(
                                b, loc, port.value.getType(), tables[0],
                                tables[1], tables[2], tables[3])
                                .getResult());
        next += 4;
      } else {
        map.map(port.value, body->getArgument(next++));
      }
    }
    DenseSet<Operation *> needed;
    auto need = [&](Value value) {
      if (!map.contains(value))
        if (Operation *op = value.getDefiningOp())
          needed.insert(op);
    };
    for (const Port &port : outputs)
      need(port.value);
    Block &block = from.getBody().front();
    for (Operation &op : llvm::reverse(block))
      if (needed.contains(&op))
        for (Value operand : getReads(&op))
          need(operand);
    for (Operation &op : block) {
      if (!needed.contains(&op))
        continue;
      // A multi-result op may be needed for one result while another crossed.
      SmallVector<Value> crossed = llvm::map_to_vector(
          op.getResults(), [&](Value v) { return map.lookupOrNull(v); });
      b.clone(op, map);
      for (auto [result, value] : llvm::zip_equal(op.getResults(), crossed))
        if (value)
          map.map(result, value);
    }
    SmallVector<Value> results;
    for (const Port &port : outputs) {
      Value value = map.lookup(port.value);
      if (port.isTables()) {
        auto unpack = UnpackAssignmentOp::create(
            b, loc, boundaryTypes(value.getType()), value);
        llvm::append_range(results, unpack.getResults());
      } else {
        results.push_back(value);
      }
    }
    func::ReturnOp::create(b, loc, results);
    return function;
  }

private:
  struct Port {
    Value value;
    SmallVector<DictionaryAttr> attributes;
    /// An assignment crosses as its tables; as an argument it is itself.
    bool isTables() const { return attributes.size() == 4; }
  };
  func::FuncOp from;
  std::string name;
  SmallVector<Port> inputs, outputs;
};

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

struct MoePartition : moe::impl::MoePartitionBase<MoePartition> {
  using MoePartitionBase::MoePartitionBase;

  void runOnOperation() override {
    if (failed(run(getOperation())))
      signalPassFailure();
  }

  LogicalResult run(ModuleOp module) {
    if (policy != "save-all" && policy != "recompute-elementwise" &&
        policy != "recompute-all")
      return module.emitError()
             << "policy " << policy
             << " is none of save-all, recompute-elementwise, recompute-all";
    if (tokens < 1)
      return module.emitError() << "wants tokens >= 1, got " << int64_t(tokens);
    if (budgetBytes >= 0 && policy != "recompute-elementwise")
      return module.emitError()
             << "budget-bytes goes with policy=recompute-elementwise, got "
             << policy;
    SmallVector<func::FuncOp> joints;
    for (auto function : module.getOps<func::FuncOp>())
      if (function->hasAttr("moe.joint") &&
          (entry.empty() || function.getSymName() == entry))
        joints.push_back(function);
    if (joints.empty())
      return module.emitError()
             << "has no joint function" << (entry.empty() ? "" : " @") << entry
             << "; run moe-differentiate before";
    for (const std::string &name : splitWeights)
      if (llvm::none_of(joints, [&](func::FuncOp joint) {
            return findArgument(joint, name).has_value();
          }))
        return joints.front().emitError()
               << "split-weights names '" << name
               << "', which is no argument's moe.name or number";
    for (const std::string &name : accumulate)
      if (llvm::none_of(joints, [&](func::FuncOp joint) {
            return hasGradient(joint, name);
          }))
        return joints.front().emitError()
               << "accumulate names '" << name
               << "', which is no argument's moe.name in wrt; add it there";
    for (func::FuncOp joint : joints)
      if (failed(partition(module, joint)))
        return failure();
    return success();
  }

  static bool hasGradient(func::FuncOp joint, StringRef name) {
    auto info = joint->getAttrOfType<DictionaryAttr>("moe.joint");
    auto wrt = info.getAs<DenseI64ArrayAttr>("wrt");
    return wrt && llvm::any_of(wrt.asArrayRef(), [&](int64_t i) {
             return i < joint.getNumArguments() &&
                    argumentName(joint, i) == name;
           });
  }

  LogicalResult partition(ModuleOp module, func::FuncOp function) {
    auto info = function->getAttrOfType<DictionaryAttr>("moe.joint");
    auto number = [&](StringRef name) {
      auto attr = info.getAs<IntegerAttr>(name);
      return attr ? attr.getInt() : -1;
    };
    int64_t numArguments = number("arguments"), numResults = number("results");
    auto wrt = info.getAs<DenseI64ArrayAttr>("wrt");
    auto seeded = info.getAs<DenseI64ArrayAttr>("cotangents");
    auto primal = info.getAs<StringAttr>("primal");
    if (numArguments < 0 || numResults < 0 || !wrt || !seeded || !primal ||
        numArguments + seeded.size() != function.getNumArguments() ||
        numResults + wrt.size() != function.getNumResults() ||
        !function.getBody().hasOneBlock())
      return function.emitError()
             << "has a moe.joint that does not fit it; run moe-differentiate "
                "again";
    SmallVector<int64_t> later; // arguments
    for (const std::string &name : splitWeights) {
      std::optional<unsigned> i = findArgument(function, name);
      if (!i || *i >= numArguments)
        continue; // another joint function's
      if (!llvm::is_contained(wrt.asArrayRef(), *i))
        return function.emitError()
               << "split-weights names argument '" << name
               << "', whose gradient was not asked for in wrt; add it there";
      later.push_back(*i);
    }
    // Forward with residuals takes the function's place.
    if (auto replaced = module.lookupSymbol<func::FuncOp>(primal.getValue())) {
      if (!SymbolTable::symbolKnownUseEmpty(replaced, module))
        return function.emitError()
               << "@" << primal.getValue()
               << " is called elsewhere, and forward takes its place; run "
                  "inline before";
      replaced.erase();
    }
    std::string prefix =
        primal == "forward" ? "" : (primal.getValue() + "_").str();
    for (StringRef suffix :
         {"forward", "backward", "backward_input", "backward_weight"})
      if (module.lookupSymbol(prefix + suffix.str()))
        return function.emitError()
               << "@" << prefix << suffix << " exists already; rename it first";

    Block &block = function.getBody().front();
    Joint joint{&block, {}, {}, {}, {}};
    auto outputs = block.getTerminator()->getOperands();
    joint.first.assign(outputs.begin(), outputs.begin() + numResults);
    joint.second.assign(outputs.begin() + numResults, outputs.end());
    for (BlockArgument argument : block.getArguments().drop_front(numArguments))
      joint.lateArguments.insert(argument);
    DenseSet<Value> tainted = joint.lateArguments;
    for (Operation &op : block.without_terminator())
      if (llvm::any_of(getReads(&op),
                       [&](Value v) { return tainted.contains(v); })) {
        joint.late.insert(&op);
        tainted.insert(op.result_begin(), op.result_end());
      }
    for (Value value : joint.first)
      if (tainted.contains(value))
        return function.emitError()
               << "@" << function.getSymName()
               << " has a result that depends on a cotangent, and forward has "
                  "none; run moe-differentiate again";

    FailureOr<Dimensions> dims = Dimensions::read(function);
    if (failed(dims))
      return failure();
    SmallVector<Value> cut = chooseCut(joint, *dims);

    // Every value that callers see has a name, the same on both sides.
    Boundary boundary(&getContext());
    Extraction forward(function, prefix + "forward");
    Extraction backward(function, prefix + "backward");
    SmallVector<Attribute> cotangents, gradients;
    for (int64_t i = 0; i < numArguments; ++i)
      forward.addInput(
          block.getArgument(i),
          boundary.name(function.getArgAttrDict(i), argumentName(function, i)));
    for (int64_t i = 0; i < numResults; ++i)
      forward.addOutput(outputs[i], boundary.name(function.getResultAttrDict(i),
                                                  resultName(function, i)));
    for (auto [n, i] : llvm::enumerate(seeded.asArrayRef())) {
      backward.addInput(block.getArgument(numArguments + n),
                        boundary.name(function.getArgAttrDict(numArguments + n),
                                      "d_" + resultName(function, i)));
      cotangents.push_back(
          StringAttr::get(&getContext(), resultName(function, i)));
    }
    for (auto [n, i] : llvm::enumerate(wrt.asArrayRef())) {
      backward.addOutput(
          joint.second[n],
          boundary.name(function.getResultAttrDict(numResults + n),
                        "d_" + argumentName(function, i), "gradient"));
      gradients.push_back(
          StringAttr::get(&getContext(), argumentName(function, i)));
    }
    ArrayAttr residuals = connect(cut, joint.first, numResults, function, *dims,
                                  boundary, "saved", forward, backward);
    func::FuncOp first = forward.build(), second = backward.build();
    second->setAttr("moe.residuals", residuals);
    second->setAttr("moe.backward",
                    describe(first.getSymName(), cotangents, gradients));
    first.setVisibility(function.getVisibility());
    second.setVisibility(function.getVisibility());
    function.erase();
    SmallVector<func::FuncOp> parts{second};
    if (!later.empty() && failed(splitBackward(second, prefix, wrt.asArrayRef(),
                                               later, boundary, parts)))
      return failure();
    for (func::FuncOp part : parts)
      accumulateGradients(part);
    return success();
  }

  /// Gradients named in `accumulate` are added to inout arguments.
  void accumulateGradients(func::FuncOp function) {
    auto info = function->getAttrOfType<DictionaryAttr>("moe.backward");
    auto ret = cast<func::ReturnOp>(function.getBody().front().getTerminator());
    OpBuilder b(ret);
    SmallVector<Attribute> given, added;
    for (auto [i, name] :
         llvm::enumerate(info.getAs<ArrayAttr>("gradients").getValue())) {
      if (!llvm::is_contained(accumulate, cast<StringAttr>(name).str())) {
        given.push_back(name);
        continue;
      }
      added.push_back(name);
      auto type = cast<RankedTensorType>(ret.getOperand(i).getType());
      if (accumulateF32 && !type.getElementType().isF64())
        type = type.clone(b.getF32Type());
      NamedAttrList attributes(function.getResultAttrDict(i));
      attributes.erase("moe.kind");
      attributes.set("moe.inout", b.getUnitAttr());
      unsigned last = function.getNumArguments();
      (void)function.insertArgument(last, type,
                                    attributes.getDictionary(&getContext()),
                                    function.getLoc());
      ret.setOperand(
          i, buildSum(b, function.getArgument(last), ret.getOperand(i)));
      attributes.erase("moe.dims");
      attributes.erase("moe.name");
      function.setResultAttrs(i, attributes.getDictionary(&getContext()));
    }
    function.setFunctionType(
        b.getFunctionType(function.getArgumentTypes(), ret.getOperandTypes()));
    NamedAttrList described(info);
    described.set("gradients", b.getArrayAttr(given));
    if (!added.empty())
      described.set("accumulated", b.getArrayAttr(added));
    function->setAttr("moe.backward", described.getDictionary(&getContext()));
  }

  /// buffer + gradient, by the products that the gradient is a sum of.
  Value buildSum(OpBuilder &b, Value buffer, Value gradient) {
    auto type = cast<RankedTensorType>(buffer.getType());
    auto outer = gradient.getDefiningOp<WeightGradOp>();
    if (outer && outer->hasOneUse())
      return WeightGradOp::create(
          b, outer.getLoc(), type, outer.getX(), outer.getDy(),
          outer.getAssignment(),
          outer.getBuffer() ? buildSum(b, buffer, outer.getBuffer()) : buffer,
          outer.getXFrom(), outer.getDyFrom(), outer.getLayout());
    Location loc = gradient.getLoc();
    return arith::AddFOp::create(
        b, loc, buffer, buildCast(b, loc, gradient, type.getElementType()));
  }

  /// What a backward function is the backward of.
  DictionaryAttr describe(StringRef forward, ArrayRef<Attribute> cotangents,
                          ArrayRef<Attribute> gradients) {
    Builder b(&getContext());
    return b.getDictionaryAttr(
        {b.getNamedAttr("cotangents", b.getArrayAttr(cotangents)),
         b.getNamedAttr("forward", b.getStringAttr(forward)),
         b.getNamedAttr("gradients", b.getArrayAttr(gradients))});
  }

  /// Adds the residuals to both sides, and lists them. What producer gives is
  /// called `saved` and a number.
  ArrayAttr connect(ArrayRef<Value> cut, ArrayRef<Value> results,
                    int64_t nextResult, func::FuncOp function, Dimensions &dims,
                    Boundary &boundary, StringRef saved, Extraction &producer,
                    Extraction &consumer) {
    Builder b(&getContext());
    Weights weights{dims, tokens};
    auto withDims = [&](ArrayAttr sizes, DictionaryAttr given = nullptr) {
      NamedAttrList list(given ? given : b.getDictionaryAttr({}));
      if (sizes && !list.get("moe.dims"))
        list.set("moe.dims", sizes);
      return list.getDictionary(&getContext());
    };
    SmallVector<Attribute> list;
    auto add = [&](StringRef kind, int64_t index, DictionaryAttr attributes,
                   int64_t bytes) {
      list.push_back(b.getDictionaryAttr(
          {b.getNamedAttr("bytes", b.getI64IntegerAttr(bytes)),
           b.getNamedAttr("index", b.getI64IntegerAttr(index)),
           b.getNamedAttr("kind", b.getStringAttr(kind)),
           b.getNamedAttr("name", attributes.get("moe.name"))}));
    };
    for (Value value : cut)
      if (auto argument = dyn_cast<BlockArgument>(value)) {
        unsigned i = argument.getArgNumber();
        DictionaryAttr attributes = boundary.sameName(
            function.getArgAttrDict(i), argumentName(function, i));
        add("argument", i, attributes, weights.bytes(value));
        consumer.addInput(value, attributes);
      }
    for (Value value : cut) {
      if (isa<BlockArgument>(value))
        continue;
      const auto *result = llvm::find(results, value);
      if (result != results.end()) {
        int64_t i = result - results.begin();
        DictionaryAttr attributes =
            withDims(dims.boundaryDimsOf(value), producer.outputAttributes(i));
        add("result", i, attributes, weights.bytes(value));
        consumer.addInput(value, attributes);
        continue;
      }
      auto type = dyn_cast<AssignmentType>(value.getType());
      if (!type) {
        DictionaryAttr attributes =
            boundary.name(withDims(dims.boundaryDimsOf(value)), saved, "saved",
                          /*numbered=*/true);
        add("saved", nextResult++, attributes, weights.bytes(value));
        producer.addOutput(value, attributes);
        consumer.addInput(value, attributes);
        continue;
      }
      SmallVector<DictionaryAttr> names;
      SmallVector<Type> tables = boundaryTypes(type);
      for (auto [table, name] : llvm::zip_equal(tables, kTables)) {
        auto tensor = cast<RankedTensorType>(table);
        ArrayAttr sizes =
            tensor.hasStaticShape() ? ArrayAttr() : dims.boundaryDimsOf(value);
        names.push_back(boundary.name(withDims(sizes), name, "table"));
        add("table", nextResult++, names.back(),
            4 * (tensor.hasStaticShape() ? tensor.getNumElements()
                                         : tokens * type.getK()));
      }
      producer.addOutput(value, names);
      consumer.addInput(value, names);
    }
    return b.getArrayAttr(list);
  }

  static int64_t savedBytes(ArrayRef<Value> cut, const Weights &weights) {
    int64_t sum = 0;
    for (Value value : cut)
      if (!isa<BlockArgument>(value))
        sum += weights.bytes(value);
    return sum;
  }

  SmallVector<Value> chooseCut(const Joint &joint, Dimensions &dims) {
    Weights weights{dims, tokens};
    DenseSet<Operation *> again;
    auto once = [&](Operation *op) {
      if (isFree(op) || policy == "recompute-all" || again.contains(op))
        return false;
      return policy == "save-all" || isMatrixProduct(op) || isDecision(op);
    };
    SmallVector<Value> cut = findCut(joint, weights, once);
    if (budgetBytes < 0)
      return cut;
    while (savedBytes(cut, weights) > budgetBytes) {
      int64_t saved = savedBytes(cut, weights), bestSaved = saved;
      Operation *best = nullptr;
      double bestRate = 0;
      for (Operation &op : joint.block->without_terminator()) {
        if (joint.late.contains(&op) || !isMatrixProduct(&op) ||
            again.contains(&op))
          continue;
        again.insert(&op);
        int64_t left = savedBytes(findCut(joint, weights, once), weights);
        again.erase(&op);
        double rate = double(saved - left) / double(weights.flops(&op));
        if (left < saved && rate > bestRate) {
          best = &op;
          bestRate = rate;
          bestSaved = left;
        }
      }
      if (!best) {
        joint.block->getParentOp()->emitWarning()
            << "saves " << saved
            << " bytes, more than budget-bytes=" << int64_t(budgetBytes)
            << "; computing more products again saves nothing: give it as much";
        break;
      }
      best->emitRemark() << "computed again in backward: "
                         << weights.flops(best) << " FLOPs, saves "
                         << saved - bestSaved << " bytes";
      again.insert(best);
      cut = findCut(joint, weights, once);
    }
    return cut;
  }

  /// Backward cut once more: gradients of weights may come later.
  LogicalResult splitBackward(func::FuncOp function, StringRef prefix,
                              ArrayRef<int64_t> wrt, ArrayRef<int64_t> later,
                              Boundary &boundary,
                              SmallVectorImpl<func::FuncOp> &parts) {
    Block &block = function.getBody().front();
    Joint joint{&block, {}, {}, {}, {}};
    Extraction input(function, prefix.str() + "backward_input");
    Extraction weight(function, prefix.str() + "backward_weight");
    auto info = function->getAttrOfType<DictionaryAttr>("moe.backward");
    ArrayRef<Attribute> gradients =
        info.getAs<ArrayAttr>("gradients").getValue();
    SmallVector<Attribute> now, then;
    for (BlockArgument argument : block.getArguments())
      input.addInput(argument,
                     function.getArgAttrDict(argument.getArgNumber()));
    for (auto [i, value] :
         llvm::enumerate(block.getTerminator()->getOperands())) {
      bool isLater = llvm::is_contained(later, wrt[i]);
      (isLater ? joint.second : joint.first).push_back(value);
      (isLater ? then : now).push_back(gradients[i]);
      (isLater ? weight : input)
          .addOutput(value, function.getResultAttrDict(i));
    }
    DenseSet<Operation *> early = findNeeded(&block, joint.first);
    for (Operation &op : block.without_terminator())
      if (!early.contains(&op) && !isFree(&op))
        joint.late.insert(&op);
    FailureOr<Dimensions> dims = Dimensions::read(function);
    if (failed(dims))
      return failure();
    Weights weights{*dims, tokens};
    SmallVector<Value> cut = findCut(joint, weights, [&](Operation *op) {
      return !isFree(op) && (isMatrixProduct(op) || isDecision(op));
    });
    ArrayAttr carried = connect(cut, joint.first, joint.first.size(), function,
                                *dims, boundary, "carried", input, weight);
    func::FuncOp first = input.build(), second = weight.build();
    StringRef forward = info.getAs<StringAttr>("forward").getValue();
    first->setAttr("moe.residuals", function->getAttr("moe.residuals"));
    first->setAttr(
        "moe.backward",
        describe(forward, info.getAs<ArrayAttr>("cotangents").getValue(), now));
    second->setAttr("moe.residuals", carried);
    second->setAttr("moe.backward", describe(first.getSymName(), {}, then));
    for (func::FuncOp half : {first, second}) {
      half.setVisibility(function.getVisibility());
      parts.push_back(half);
    }
    return success();
  }
};

} // namespace
