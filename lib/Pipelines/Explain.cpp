// SPDX-License-Identifier: Apache-2.0
// moe-explain: what a module's functions become. A copy of the module goes
// through the passes that every target shares; the kernels and buffers of what
// comes out are counted, and the remarks of fusion are listed.
#include "Stages.h"
#include "moe/Conversion/MoeToNVTile/Passes.h"
#include "moe/Dialect/Moe/Transforms/Dimensions.h"
#include "moe/Runtime/GPUTarget.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/Remarks.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/ToolOutputFile.h"

#include <mutex>

using namespace mlir;
using namespace mlir::moe;
using llvm::json::Array;
using llvm::json::Object;
using Json = llvm::json::Value;

namespace {

struct Said {
  bool made;
  std::string function, pass, what, reason, buffer;
  int64_t bytesPerToken = 0;
};

/// Collects remarks; passes on several functions may speak at once.
struct Listener : remark::detail::MLIRRemarkStreamerBase {
  explicit Listener(std::vector<Said> &heard) : heard(heard) {}
  void streamOptimizationRemark(const remark::detail::Remark &remark) override {
    Said said{remark.getRemarkType() == llvm::remarks::Type::Passed,
              remark.getFunction().str(),
              remark.getRemarkName().str(),
              "",
              "",
              ""};
    for (const auto &arg : remark.getArgs()) {
      if (arg.key == "Remark")
        said.what = arg.val;
      else if (arg.key == "Reason")
        said.reason = arg.val;
      else if (arg.key == "Buffer")
        said.buffer = arg.val;
      else if (arg.key == "BytesPerToken")
        StringRef(arg.val).getAsInteger(10, said.bytesPerToken);
    }
    std::lock_guard<std::mutex> guard(lock);
    heard.push_back(std::move(said));
  }
  std::vector<Said> &heard;
  std::mutex lock;
};

/// Bytes or operations as a function of T, at a number of tokens where one is
/// given.
struct Amount {
  int64_t constant = 0;
  std::map<std::string, int64_t> terms;

  Amount() = default;
  Amount(const LinearExpr &expr, int64_t factor)
      : constant(expr.getConstant() * factor) {
    for (auto &[name, coefficient] : expr.getTerms())
      terms[name] = coefficient * factor;
  }
  void operator+=(const Amount &other) {
    constant += other.constant;
    for (auto &[name, coefficient] : other.terms)
      terms[name] += coefficient;
  }
  /// Whatever the sizes are.
  bool atMost(const Amount &other) const {
    return constant <= other.constant && llvm::all_of(terms, [&](auto &term) {
             auto it = other.terms.find(term.first);
             return term.second <= (it == other.terms.end() ? 0 : it->second);
           });
  }
  std::optional<int64_t> at(int64_t tokens) const {
    int64_t sum = constant;
    for (auto &[name, coefficient] : terms) {
      if (name != "T" || tokens < 0)
        return std::nullopt;
      sum += coefficient * tokens;
    }
    return sum;
  }
  Json json(int64_t tokens) const {
    if (tokens >= 0)
      if (std::optional<int64_t> number = at(tokens))
        return *number;
    Object object{{"const", constant}};
    for (auto &[name, coefficient] : terms)
      object[name] = coefficient;
    return object;
  }
};

/// A report's sizes for people: "768 T + 4096", or a number with separators.
std::string text(const Json &amount) {
  if (std::optional<int64_t> number = amount.getAsInteger()) {
    std::string digits = llvm::itostr(*number);
    for (int64_t at = int64_t(digits.size()) - 3; at > 0; at -= 3)
      digits.insert(at, ",");
    return digits;
  }
  std::string sum;
  if (const Array *amounts = amount.getAsObject()->getArray("max")) {
    for (const Json &each : *amounts)
      sum += (sum.empty() ? "" : ", ") + text(each);
    return "max(" + sum + ")";
  }
  for (auto &[name, coefficient] : *amount.getAsObject())
    if (name != "const" && *coefficient.getAsInteger())
      sum += (sum.empty() ? "" : " + ") +
             llvm::itostr(*coefficient.getAsInteger()) + " " + name.str();
  int64_t constant = *amount.getAsObject()->getInteger("const");
  if (constant || sum.empty())
    sum += (sum.empty() ? "" : " + ") + llvm::itostr(constant);
  return sum;
}

class Explainer {
public:
  Explainer(func::FuncOp function, Dimensions dims, int64_t tokens, bool onGPU)
      : function(function), dims(std::move(dims)), tokens(tokens),
        onGPU(onGPU) {}

  Object explain(DictionaryAttr entry) {
    nameValues();
    Array kernels;
    Amount flops;
    function.walk([&](DestinationStyleOpInterface op) {
      kernels.push_back(explainKernel(op, flops));
    });
    Object result{{"name", function.getName()},
                  {"kernels", std::move(kernels)},
                  {"flops", flops.json(tokens)},
                  {"buffers", explainBuffers()}};
    if (entry) {
      result["workspace"] = workspaceOf(entry, tokens);
      if (auto backward = entry.getAs<DictionaryAttr>("backward"))
        result["residuals"] =
            explainResiduals(backward.getAs<ArrayAttr>("residuals"));
    }
    return result;
  }

private:
  void nameValues() {
    for (BlockArgument argument : function.getArguments()) {
      auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                        "moe.name");
      names[argument] =
          name ? name.str() : ("arg" + Twine(argument.getArgNumber())).str();
    }
    unsigned number = 0;
    function.walk([&](memref::ViewOp view) {
      if (isRead(view))
        names[view.getResult()] = ("buffer" + Twine(number++)).str();
    });
  }

  /// The buffer behind collapsed or expanded shapes.
  static Value baseOf(Value value) {
    while (Operation *op = value.getDefiningOp()) {
      if (!isa<memref::CollapseShapeOp, memref::ExpandShapeOp, memref::CastOp>(
              op))
        break;
      value = op->getOperand(0);
    }
    return value;
  }

  static bool isRead(memref::ViewOp view) {
    return !view->use_empty() &&
           !cast<MemRefType>(view.getType()).getElementType().isInteger(8);
  }

  std::string nameOf(Value value) {
    auto it = names.find(baseOf(value));
    return it == names.end() ? "?" : it->second;
  }

  Amount bytesOf(Value value) {
    std::optional<LinearExpr> bytes = dims.bytesOf(value);
    return bytes ? Amount(*bytes, 1) : Amount();
  }

  /// T*K.
  std::optional<LinearExpr> slotsOf(Value assignment) {
    auto pack = assignment.getDefiningOp<PackAssignmentOp>();
    return pack ? dims.sizeOf(pack.getOrder(), 0) : std::nullopt;
  }

  Amount flopsOf(Operation *op) {
    auto widthOf = [](Value rows) {
      return cast<MemRefType>(rows.getType()).getDimSize(1);
    };
    if (auto matmul = dyn_cast<GroupedMatmulOp>(op)) {
      Amount sum;
      std::optional<LinearExpr> slots = slotsOf(matmul.getAssignment());
      for (Value lhs : matmul.getLhs())
        if (slots)
          sum += Amount(*slots, 2 * widthOf(lhs) * matmul.getWidth() *
                                    matmul.getColumns().getCount());
      return sum;
    }
    if (auto outer = dyn_cast<GroupedOuterOp>(op))
      if (std::optional<LinearExpr> slots = slotsOf(outer.getAssignment()))
        return Amount(*slots,
                      2 * widthOf(outer.getX()) * widthOf(outer.getDy()));
    return {};
  }

  Object explainKernel(DestinationStyleOpInterface op, Amount &total) {
    Amount flops = flopsOf(op);
    total += flops;
    Array reads, writes;
    Amount read, written;
    unsigned number = numbers.size();
    numbers[op] = number;
    for (OpOperand &operand : op->getOpOperands()) {
      if (!isa<MemRefType>(operand.get().getType()))
        continue;
      bool out = op.isDpsInit(&operand);
      Amount bytes = bytesOf(operand.get());
      (out ? written : read) += bytes;
      (out ? writes : reads)
          .push_back(Object{{"value", nameOf(operand.get())},
                            {"bytes", bytes.json(tokens)}});
    }
    Object kernel{{"number", number},
                  {"op", op->getName().getStringRef()},
                  {"flops", flops.json(tokens)},
                  {"bytes_read", read.json(tokens)},
                  {"bytes_written", written.json(tokens)},
                  {"reads", std::move(reads)},
                  {"writes", std::move(writes)}};
    if (onGPU)
      kernel["variants"] = explainVariants(op);
    return kernel;
  }

  /// What the kernel is on a GPU. One that is no matrix product has one way.
  static Array explainVariants(Operation *op) {
    auto config = op->getAttrOfType<ConfigAttr>("moe.config");
    if (!config)
      return Array{Object{{"structure", stringifyStructure(Structure::Simt)}}};
    Array variants;
    for (VariantAttr variant : config.getVariants()) {
      Object object{{"structure", stringifyStructure(variant.getStructure())},
                    {"reduction", variant.getReductionOrder()}};
      if (variant.hasTile())
        object["tile"] = Array{variant.getTileRows(), variant.getTileColumns()};
      if (variant.getStages())
        object["stages"] = variant.getStages();
      if (variant.getBuffers())
        object["buffers"] = variant.getBuffers();
      if (variant.getParts())
        object["parts"] = variant.getParts();
      if (variant.hasGuard())
        object["from"] = Object{
            {stringifyHostValue(variant.getGuard()), variant.getAtLeast()}};
      if (StringAttr reason = variant.getReason())
        object["reason"] = reason.getValue();
      variants.push_back(std::move(object));
    }
    return variants;
  }

  /// Why a reader needs the rows in memory.
  static StringRef reasonOf(Operation *reader, Value value) {
    if (auto matmul = dyn_cast<GroupedMatmulOp>(reader)) {
      if (llvm::is_contained(matmul.getLhs(), value))
        return "a product reads the whole row for each of its columns";
      return "a product's epilogue reads what another product made";
    }
    if (isa<GroupedOuterOp>(reader))
      return "a weight gradient sums over rows, another kernel made them";
    if (isa<CombineRowsOp>(reader))
      return "a combine sums rows of several experts";
    if (isa<ReduceExpertsOp>(reader))
      return "a sum over an expert's rows";
    if (isa<FoldPartialsOp, MapRowsOp>(reader))
      return "it is complete only when the kernel that makes it has ended";
    if (isa<PackAssignmentOp>(reader))
      return "a table of the assignment, read by every kernel";
    return "another kernel reads it";
  }

  Array explainBuffers() {
    Array buffers;
    function.walk([&](memref::ViewOp view) {
      if (!isRead(view))
        return;
      Array writers, readers;
      std::string why;
      SmallVector<Value> same = {view.getResult()};
      for (size_t i = 0; i < same.size(); ++i)
        for (OpOperand &use : same[i].getUses()) {
          Operation *user = use.getOwner();
          if (isa<memref::CollapseShapeOp, memref::ExpandShapeOp,
                  memref::CastOp>(user)) {
            same.push_back(user->getResult(0));
            continue;
          }
          auto kernel = dyn_cast<DestinationStyleOpInterface>(user);
          if (kernel && kernel.isDpsInit(&use)) {
            writers.push_back(numbers.lookup(user));
            continue;
          }
          if (kernel)
            readers.push_back(numbers.lookup(user));
          if (kernel || isa<PackAssignmentOp>(user)) {
            std::string reason = reasonOf(user, use.get()).str();
            if (!StringRef(why).contains(reason))
              why += (why.empty() ? "" : "; ") + reason;
          }
        }
      std::string type;
      llvm::raw_string_ostream(type) << view.getType();
      buffers.push_back(Object{{"name", names[view.getResult()]},
                               {"type", type},
                               {"bytes", bytesOf(view).json(tokens)},
                               {"written_by", std::move(writers)},
                               {"read_by", std::move(readers)},
                               {"why", why}});
    });
    return buffers;
  }

  /// The largest end of a temporary: a number, an amount, or the amounts of
  /// which it is the largest.
  static Json workspaceOf(DictionaryAttr entry, int64_t tokens) {
    auto workspace = entry.getAs<DictionaryAttr>("workspace");
    std::vector<Amount> largest;
    auto add = [](std::vector<Amount> &amounts, const Amount &amount) {
      if (llvm::any_of(amounts, [&](const Amount &other) {
            return amount.atMost(other);
          }))
        return;
      llvm::erase_if(amounts,
                     [&](const Amount &other) { return other.atMost(amount); });
      amounts.push_back(amount);
    };
    std::vector<std::vector<Amount>> ends;
    for (auto item : workspace.getAs<ArrayAttr>("temporaries")
                         .getAsRange<DictionaryAttr>()) {
      std::vector<Amount> begins;
      for (Attribute below : item.getAs<ArrayAttr>("after"))
        for (const Amount &end : ends[cast<IntegerAttr>(below).getInt()])
          add(begins, end);
      if (begins.empty())
        begins.emplace_back();
      for (Amount &begin : begins) {
        begin += Amount(*LinearExpr::fromAttribute(item.get("bytes")), 1);
        add(largest, begin);
      }
      ends.push_back(std::move(begins));
    }
    if (largest.empty())
      largest.emplace_back();
    std::optional<int64_t> most = 0;
    for (const Amount &amount : largest) {
      std::optional<int64_t> bytes = amount.at(tokens);
      most =
          most && bytes ? std::optional(std::max(*most, *bytes)) : std::nullopt;
    }
    if (most)
      return *most;
    if (largest.size() == 1)
      return largest.front().json(-1);
    Array amounts;
    for (const Amount &amount : largest)
      amounts.push_back(amount.json(-1));
    return Object{{"max", std::move(amounts)}};
  }

  Object explainResiduals(ArrayAttr residuals) {
    std::map<std::string, Amount> byKind{
        {"argument", {}}, {"saved", {}}, {"table", {}}, {"result", {}}};
    Array list;
    for (Attribute attr : residuals) {
      auto residual = cast<DictionaryAttr>(attr);
      StringRef name = residual.getAs<StringAttr>("name").getValue();
      StringRef kind = residual.getAs<StringAttr>("kind").getValue();
      Amount bytes;
      for (BlockArgument argument : function.getArguments())
        if (names[argument] == name)
          bytes = bytesOf(argument);
      byKind[kind.str()] += bytes;
      list.push_back(Object{
          {"name", name}, {"kind", kind}, {"bytes", bytes.json(tokens)}});
    }
    Object result{{"list", std::move(list)}};
    for (auto &[kind, bytes] : byKind)
      result[kind] = bytes.json(tokens);
    return result;
  }

  func::FuncOp function;
  Dimensions dims;
  int64_t tokens;
  bool onGPU;
  DenseMap<Value, std::string> names;
  DenseMap<Operation *, unsigned> numbers;
};

/// "cooperative tile 128x256 stages 4 buffers 2 from 4096 rows", and how it
/// adds.
std::string variantText(const Object &variant) {
  std::string text = variant.getString("structure")->str();
  llvm::raw_string_ostream os(text);
  if (const Array *tile = variant.getArray("tile"))
    os << " tile " << *(*tile)[0].getAsInteger() << "x"
       << *(*tile)[1].getAsInteger();
  for (StringRef number : {"stages", "buffers", "parts"})
    if (auto value = variant.getInteger(number))
      os << " " << number << " " << *value;
  if (const Object *from = variant.getObject("from"))
    for (auto &[name, bound] : *from)
      os << " from " << *bound.getAsInteger() << " " << name.str();
  if (auto reduction = variant.getString("reduction"))
    os << ", adds " << *reduction;
  if (auto reason = variant.getString("reason"))
    os << ": " << *reason;
  return text;
}

void printText(const Object &report, raw_ostream &os) {
  StringRef target = *report.getString("target");
  for (const Json &each : *report.getArray("functions")) {
    const Object &function = *each.getAsObject();
    os << "@" << *function.getString("name") << "\n";
    os << llvm::formatv("  {0,3} {1,-22} {2,-22} {3,-24} {4,-24} {5}\n", "#",
                        "kernel", "FLOPs", "bytes read", "bytes written",
                        "reads -> writes");
    for (const Json &each : *function.getArray("kernels")) {
      const Object &kernel = *each.getAsObject();
      auto list = [&](StringRef key) {
        return llvm::join(
            llvm::map_range(
                *kernel.getArray(key),
                [](const Json &value) {
                  return value.getAsObject()->getString("value")->str();
                }),
            ", ");
      };
      os << llvm::formatv(
          "  {0,3} {1,-22} {2,-22} {3,-24} {4,-24} {5} -> {6}\n",
          *kernel.getInteger("number"), *kernel.getString("op"),
          text(*kernel.get("flops")), text(*kernel.get("bytes_read")),
          text(*kernel.get("bytes_written")), list("reads"), list("writes"));
    }
    if (target != "cpu")
      os << "  kernels on " << target << ":\n";
    for (const Json &each : *function.getArray("kernels"))
      if (const Array *variants = each.getAsObject()->getArray("variants"))
        for (const Json &variant : *variants)
          os << llvm::formatv("  {0,3} {1}\n",
                              *each.getAsObject()->getInteger("number"),
                              variantText(*variant.getAsObject()));
    os << "  buffers kept:\n";
    for (const Json &each : *function.getArray("buffers")) {
      const Object &buffer = *each.getAsObject();
      os << llvm::formatv("    {0,-10} {1,-20} bytes: {2,-18} {3}\n",
                          *buffer.getString("name"), *buffer.getString("type"),
                          text(*buffer.get("bytes")), *buffer.getString("why"));
    }
    if (const Json *workspace = function.get("workspace"))
      os << "  workspace: " << text(*workspace)
         << " bytes (each buffer rounded up to 64; buffers share it)\n";
    if (const Object *residuals = function.getObject("residuals")) {
      os << "  residuals: " << text(*residuals->get("saved"))
         << " bytes saved by forward, " << text(*residuals->get("argument"))
         << " in arguments passed again, " << text(*residuals->get("table"))
         << " in row tables\n";
      for (const Json &each : *residuals->getArray("list")) {
        const Object &one = *each.getAsObject();
        os << llvm::formatv("    {0,-10} {1,-10} bytes: {2}\n",
                            *one.getString("name"), *one.getString("kind"),
                            text(*one.get("bytes")));
      }
    }
    os << "\n";
  }
  auto remarks = [&](StringRef key, StringRef title) {
    os << title << "\n";
    for (const Json &each : *report.getArray(key)) {
      const Object &remark = *each.getAsObject();
      os << "  @" << *remark.getString("function") << " "
         << *remark.getString("pass") << ": " << *remark.getString("what");
      if (auto reason = remark.getString("reason"))
        os << ": " << *reason;
      if (const Json *bytes = remark.get("bytes"))
        os << " (" << text(*bytes) << " bytes)";
      os << "\n";
    }
  };
  remarks("fused", "fusions, with the bytes of the buffers they removed:");
  remarks("refused", "fusions that were not made, and why:");
}

struct MoeExplain : PassWrapper<MoeExplain, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(MoeExplain)

  explicit MoeExplain(const ::moe::MoeExplainOptions &given)
      : options(std::make_shared<::moe::MoeExplainOptions>()),
        pipeline("builtin.module") {
    options->copyOptionValuesFrom(given);
    ::moe::buildMoeToKernelsPipeline(
        pipeline, options->gradients, options->target, 1,
        [](StringRef, OpPassManager &) {},
        [&](OpPassManager &pm) {
          if (options->target != "cpu")
            pm.addPass(createMoeSelectConfig({options->target}));
        });
  }
  MoeExplain(const MoeExplain &other) = default;

  StringRef getArgument() const override { return "moe-explain"; }
  StringRef getDescription() const override {
    return "say which kernels and buffers a module's functions become, and why";
  }
  void getDependentDialects(DialectRegistry &registry) const override {
    pipeline.getDependentDialects(registry);
  }

  void runOnOperation() override {
    if (options->target != "cpu" && !::moe::findGPUTarget(options->target)) {
      getOperation().emitError()
          << "target is '" << options->target.getValue()
          << "', expected cpu or one of " << ::moe::gpuTargetNames();
      return signalPassFailure();
    }
    MLIRContext *context = &getContext();
    std::vector<Said> heard;
    // In place of an engine that is there already: one context has one.
    remark::RemarkCategories categories;
    categories.passed = categories.missed = "moe-fuse";
    if (failed(remark::enableOptimizationRemarks(
            *context, std::make_unique<Listener>(heard),
            std::make_unique<remark::RemarkEmittingPolicyAll>(), categories)))
      return signalPassFailure();
    ModuleOp copy = getOperation().clone();
    getOperation().push_back(copy);
    LogicalResult ran = runPipeline(pipeline, copy);
    context->setRemarkEngine(nullptr);
    FailureOr<Object> report = failure();
    if (succeeded(ran))
      report = explain(copy, heard);
    copy.erase();
    if (failed(report) || failed(write(*report)))
      signalPassFailure();
  }

private:
  FailureOr<Object> explain(ModuleOp module, ArrayRef<Said> heard) {
    int64_t tokens = options->at;
    auto manifest = module->getAttrOfType<DictionaryAttr>("moe.manifest");
    auto entries =
        manifest ? manifest.getAs<DictionaryAttr>("entries") : DictionaryAttr();
    Array functions, fused, refused;
    for (func::FuncOp function : module.getOps<func::FuncOp>()) {
      FailureOr<Dimensions> dims = Dimensions::read(function);
      if (failed(dims))
        return failure();
      functions.push_back(Explainer(function, std::move(*dims), tokens,
                                    options->target != "cpu")
                              .explain(entries ? entries.getAs<DictionaryAttr>(
                                                     function.getName())
                                               : DictionaryAttr()));
      // In the order of functions, whichever spoke first.
      for (const Said &said : heard) {
        if (said.function != function.getName())
          continue;
        Object remark{{"function", said.function},
                      {"pass", said.pass},
                      {"what", said.what}};
        if (!said.made)
          remark["reason"] = said.reason;
        if (!said.buffer.empty()) {
          Amount bytes;
          bytes.terms["T"] = said.bytesPerToken;
          remark["buffer"] = said.buffer;
          remark["bytes"] = bytes.json(tokens);
        }
        (said.made ? fused : refused).push_back(std::move(remark));
      }
    }
    return Object{{"target", options->target.getValue()},
                  {"functions", std::move(functions)},
                  {"fused", std::move(fused)},
                  {"refused", std::move(refused)}};
  }

  LogicalResult write(const Object &report) {
    std::string message;
    std::error_code error;
    llvm::ToolOutputFile file(options->output, error, llvm::sys::fs::OF_Text);
    if (error)
      return getOperation().emitError()
             << "cannot write the report to '" << options->output.getValue()
             << "': " << error.message();
    if (options->json)
      file.os() << llvm::formatv("{0:2}\n", Json(Object(report)));
    else
      printText(report, file.os());
    file.keep();
    return success();
  }

  std::shared_ptr<::moe::MoeExplainOptions> options;
  OpPassManager pipeline;
};

} // namespace

namespace moe {
std::unique_ptr<mlir::Pass> createMoeExplain(const MoeExplainOptions &options) {
  return std::make_unique<MoeExplain>(options);
}
} // namespace moe
