// SPDX-License-Identifier: Apache-2.0
#include "Arguments.h"
#include "Random.h"

#include "llvm/ADT/StringExtras.h"

#include <unistd.h>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::run;

llvm::Error mlir::moe::run::makeError(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

//===----------------------------------------------------------------------===//
// The entry
//===----------------------------------------------------------------------===//

/// `x` of `%x` at the place where an argument was parsed, if it was spelled.
static std::string spelledName(Location location,
                               const llvm::SourceMgr &sources) {
  auto place = dyn_cast<FileLineColLoc>(location);
  if (!place || sources.getNumBuffers() == 0)
    return {};
  const llvm::MemoryBuffer *buffer =
      sources.getMemoryBuffer(sources.getMainFileID());
  if (buffer->getBufferIdentifier() != place.getFilename().getValue())
    return {};
  StringRef text = buffer->getBuffer();
  for (unsigned line = 1; line < place.getLine(); ++line)
    text = text.split('\n').second;
  text = text.substr(place.getColumn() - 1);
  if (!text.consume_front("%"))
    return {};
  return text
      .take_while([](char c) {
        return llvm::isAlnum(c) || c == '_' || c == '$' || c == '.' || c == '-';
      })
      .str();
}

static llvm::Expected<func::FuncOp> findFunction(ModuleOp module,
                                                 StringRef name) {
  std::vector<std::string> known;
  func::FuncOp only;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (!function.isPublic() || function.isExternal())
      continue;
    if (function.getName() == name)
      return function;
    known.push_back(function.getName().str());
    only = function;
  }
  if (name.empty() && known.size() == 1)
    return only;
  std::string list = known.empty() ? "none" : llvm::join(known, ", ");
  if (name.empty())
    return makeError("say which entry to run with --entry; the module has " +
                     list);
  return makeError("no entry '" + name + "'; the module has " + list);
}

llvm::Expected<Entry>
mlir::moe::run::findEntry(ModuleOp module, StringRef name,
                          const llvm::SourceMgr &sources) {
  llvm::Expected<func::FuncOp> function = findFunction(module, name);
  if (!function)
    return function.takeError();
  Entry entry{*function, {}};
  for (BlockArgument argument : function->getArguments()) {
    unsigned index = argument.getArgNumber();
    Parameter parameter;
    if (auto attr = function->getArgAttrOfType<StringAttr>(index, "moe.name"))
      parameter.name = attr.getValue().str();
    else
      parameter.name = spelledName(argument.getLoc(), sources);
    if (parameter.name.empty() || llvm::isDigit(parameter.name[0]))
      parameter.name = "arg" + std::to_string(index);
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    std::optional<DType> dtype =
        type ? getDType(type.getElementType()) : std::nullopt;
    if (!dtype || type.getElementType().isIndex()) {
      std::string text;
      llvm::raw_string_ostream(text) << argument.getType();
      return makeError("argument " + parameter.name + " of @" +
                       function->getName() + " is " + text +
                       "; an entry takes tensors of f64, f32, f16, bf16, i64, "
                       "i32, i16, i8 or i1");
    }
    parameter.dtype = *dtype;
    auto names = function->getArgAttrOfType<ArrayAttr>(index, "moe.dims");
    for (auto [d, size] : llvm::enumerate(type.getShape())) {
      StringAttr symbol = names ? dyn_cast<StringAttr>(names[d]) : nullptr;
      if (!ShapedType::isDynamic(size))
        parameter.dims.push_back(std::to_string(size));
      else if (symbol)
        parameter.dims.push_back(symbol.getValue().str());
      else
        parameter.dims.push_back("d" + std::to_string(index) + "_" +
                                 std::to_string(d));
    }
    parameter.value = argument;
    entry.parameters.push_back(std::move(parameter));
  }
  return entry;
}

//===----------------------------------------------------------------------===//
// Dimensions
//===----------------------------------------------------------------------===//

using Sizes = llvm::StringMap<int64_t>;

/// The value of sums and products of names and integers; none where a name has
/// no size yet, which `unknown` then is.
static std::optional<int64_t> evaluate(StringRef expression, const Sizes &sizes,
                                       StringRef &unknown) {
  int64_t sum = 0;
  SmallVector<StringRef> terms;
  expression.split(terms, '+');
  for (StringRef term : terms) {
    int64_t product = 1;
    SmallVector<StringRef> factors;
    term.split(factors, '*');
    for (StringRef factor : factors) {
      factor = factor.trim();
      int64_t number;
      if (factor.getAsInteger(10, number)) {
        auto it = sizes.find(factor);
        if (it == sizes.end()) {
          unknown = factor;
          return std::nullopt;
        }
        number = it->second;
      }
      product *= number;
    }
    sum += product;
  }
  return sum;
}

static bool isName(StringRef expression) {
  return !expression.empty() && !llvm::isDigit(expression[0]) &&
         expression.find_first_of("+* ") == StringRef::npos;
}

static std::string wanted(const Parameter &parameter) {
  return (getDTypeName(parameter.dtype) + " (" +
          llvm::join(parameter.dims, ", ") +
          (parameter.dims.size() == 1 ? ",)" : ")"))
      .str();
}

static llvm::Error parseDims(ArrayRef<std::string> options, Sizes &sizes) {
  for (StringRef option : options) {
    auto [name, value] = option.split('=');
    int64_t size;
    if (name.empty() || value.getAsInteger(10, size) || size < 0)
      return makeError("--dim " + option +
                       ": wants NAME=SIZE, as in --dim T=16");
    sizes[name] = size;
  }
  return llvm::Error::success();
}

/// Random arrays are of sizes that somebody typed.
static llvm::Error checkFits(const Parameter &parameter,
                             ArrayRef<int64_t> shape) {
  // The oracle's numbers are doubles, whatever an element is.
  uint64_t bytes = sizeof(double);
  uint64_t memory = uint64_t(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  auto grow = [&](int64_t dim) {
    return !__builtin_mul_overflow(bytes, uint64_t(dim), &bytes);
  };
  if (llvm::is_contained(shape, 0) ||
      (llvm::all_of(shape, grow) && bytes <= memory))
    return llvm::Error::success();
  return makeError("argument " + parameter.name + " is " +
                   describe(parameter.dtype, shape) +
                   ", more than this machine's memory: give smaller --dim");
}

/// Names that stand alone get their sizes from the array; the rest must agree.
static llvm::Error bindShape(const Parameter &parameter, StringRef file,
                             const NDArray &array, Sizes &sizes) {
  auto mismatch = [&](const Twine &why) {
    return makeError("argument " + parameter.name + ": " + file + " holds " +
                     describe(array.dtype(), array.shape()) + ", wanted " +
                     wanted(parameter) + why);
  };
  if (array.rank() != static_cast<int64_t>(parameter.dims.size()))
    return mismatch("");
  for (auto [dim, size] : llvm::zip_equal(parameter.dims, array.shape())) {
    if (isName(dim))
      sizes.try_emplace(dim, size);
    StringRef unknown;
    std::optional<int64_t> expected = evaluate(dim, sizes, unknown);
    if (expected && *expected != size)
      return mismatch(isName(dim)
                          ? " with " + dim + " = " + std::to_string(*expected)
                          : std::string());
  }
  return llvm::Error::success();
}

//===----------------------------------------------------------------------===//
// Arguments
//===----------------------------------------------------------------------===//

static std::string namesOf(const Entry &entry) {
  std::vector<std::string> names;
  for (const Parameter &parameter : entry.parameters)
    names.push_back(parameter.name);
  return names.empty() ? "none" : llvm::join(names, ", ");
}

/// The file of each argument, empty where it has none.
static llvm::Expected<std::vector<std::string>>
assignFiles(const Entry &entry, ArrayRef<std::string> options) {
  std::vector<std::string> files(entry.parameters.size());
  size_t next = 0;
  for (StringRef option : options) {
    auto [name, file] = option.split('=');
    auto it = llvm::find_if(entry.parameters, [name = name](const auto &p) {
      return p.name == name;
    });
    if (!file.empty() && it != entry.parameters.end()) {
      files[it - entry.parameters.begin()] = file.str();
      continue;
    }
    if (!file.empty())
      return makeError("no argument '" + name + "' in @" +
                       func::FuncOp(entry.function).getName() + "; it has " +
                       namesOf(entry));
    if (next == files.size())
      return makeError("--arg " + option + " is one too many: @" +
                       func::FuncOp(entry.function).getName() + " takes " +
                       Twine(files.size()) + " (" + namesOf(entry) + ")");
    files[next++] = option.str();
  }
  return files;
}

llvm::Expected<std::vector<NDArray>>
mlir::moe::run::makeArguments(const Entry &entry,
                              const ArgumentOptions &options) {
  Sizes sizes;
  if (llvm::Error error = parseDims(options.dims, sizes))
    return error;
  llvm::Expected<std::vector<std::string>> files =
      assignFiles(entry, options.files);
  if (!files)
    return files.takeError();
  std::vector<NDArray> arrays(entry.parameters.size());
  for (auto [parameter, file, array] :
       llvm::zip_equal(entry.parameters, *files, arrays)) {
    if (file.empty()) {
      if (!options.seed)
        return makeError("argument " + parameter.name + " has no value: give " +
                         wanted(parameter) + " with --arg " + parameter.name +
                         "=FILE.npy, or --random");
      continue;
    }
    llvm::Expected<NDArray> read = readNpy(file, parameter.dtype);
    if (!read)
      return makeError("argument " + parameter.name + ": " +
                       llvm::toString(read.takeError()));
    if (llvm::Error error = bindShape(parameter, file, *read, sizes))
      return error;
    array = std::move(*read);
  }
  if (!options.seed)
    return arrays;
  // Random arrays come last: files may have said what T is.
  RandomArrays random(*options.seed, options.sentinels);
  for (auto [parameter, file, array] :
       llvm::zip_equal(entry.parameters, *files, arrays)) {
    if (!file.empty())
      continue;
    SmallVector<int64_t> shape;
    for (const std::string &dim : parameter.dims) {
      StringRef unknown;
      std::optional<int64_t> size = evaluate(dim, sizes, unknown);
      if (!size)
        return makeError("argument " + parameter.name + " is " +
                         wanted(parameter) + ": say how large with --dim " +
                         unknown + "=SIZE");
      shape.push_back(*size);
    }
    if (llvm::Error error = checkFits(parameter, shape))
      return error;
    array = random.draw(parameter.value, parameter.dtype, shape);
  }
  return arrays;
}

llvm::Error mlir::moe::run::writeResults(ArrayRef<NDArray> results,
                                         ArrayRef<std::string> files) {
  size_t next = 0;
  for (StringRef option : files) {
    if (option.ends_with("/")) {
      for (auto [index, result] : llvm::enumerate(results))
        if (llvm::Error error = writeNpy(
                (option + "out" + Twine(index) + ".npy").str(), result))
          return error;
      continue;
    }
    auto [name, file] = option.split('=');
    size_t index = next;
    if (file.empty()) {
      file = option;
      ++next;
    } else {
      name.consume_front("out");
      if (name.getAsInteger(10, index))
        return makeError("--out " + option +
                         ": wants FILE.npy, or out0=FILE.npy for result 0");
    }
    if (index >= results.size())
      return makeError("--out " + option + ": there is no result " +
                       Twine(index) + ", the entry has " +
                       Twine(results.size()));
    if (llvm::Error error = writeNpy(file, results[index]))
      return error;
  }
  return llvm::Error::success();
}
