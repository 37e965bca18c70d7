// SPDX-License-Identifier: Apache-2.0
//===- Manifest.cpp - what a compiled module takes and gives --------------===//
#include "moe/Runtime/Manifest.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"

using namespace llvm;
using namespace moe;

namespace {
struct DTypeRow {
  const char *name;
  DLDataType type;
};
constexpr DTypeRow kDTypes[] = {
    {"float64", {kDLFloat, 64, 1}},
    {"float32", {kDLFloat, 32, 1}},
    {"float16", {kDLFloat, 16, 1}},
    {"bfloat16", {kDLBfloat, 16, 1}},
    {"float8_e4m3fn", {kDLFloat8_e4m3fn, 8, 1}},
    {"float8_e5m2", {kDLFloat8_e5m2, 8, 1}},
    {"int64", {kDLInt, 64, 1}},
    {"int32", {kDLInt, 32, 1}},
    {"int16", {kDLInt, 16, 1}},
    {"int8", {kDLInt, 8, 1}},
    {"uint8", {kDLUInt, 8, 1}},
    {"bool", {kDLBool, 8, 1}},
};

Error malformed(const Twine &what) {
  return fail(MOE_LOAD_ERROR,
              "malformed manifest: " + what + "; compile the module again");
}

bool isIdentifier(StringRef s) {
  return !s.empty() && (isAlpha(s[0]) || s[0] == '_') &&
         all_of(s, [](char c) { return isAlnum(c) || c == '_' || c == '.'; });
}

/// An integer or a string: the two ways in which JSON writes an expression.
bool parseExprValue(const json::Value *value, ArrayRef<std::string> symbols,
                    LinearExpr &expr, std::string &text) {
  if (!value)
    return false;
  if (std::optional<int64_t> number = value->getAsInteger()) {
    expr = LinearExpr{*number, {}};
    text = std::to_string(*number);
    return true;
  }
  std::optional<StringRef> string = value->getAsString();
  if (!string)
    return false;
  text = string->str();
  return parseLinearExpr(*string, symbols, expr);
}

Error parseTensors(const json::Object &object, StringRef key,
                   TensorSpec::Role role, EntrySpec &entry, unsigned &count) {
  const json::Array *array = object.getArray(key);
  if (!array) {
    if (object.get(key))
      return malformed("'" + key + "' of entry '" + entry.name +
                       "' is no list");
    return Error::success();
  }
  for (const json::Value &value : *array) {
    const json::Object *tensor = value.getAsObject();
    if (!tensor)
      return malformed("an item of '" + key + "' of entry '" + entry.name +
                       "' is no object");
    TensorSpec spec;
    spec.role = role;
    spec.name = tensor->getString("name").value_or("").str();
    if (spec.name.empty())
      spec.name = (key.drop_back() + Twine(count)).str();
    spec.dtypeName = tensor->getString("dtype").value_or("").str();
    if (!parseDType(spec.dtypeName, spec.dtype))
      return malformed("unknown dtype '" + spec.dtypeName + "' of '" +
                       spec.name + "'");
    const json::Array *dims = tensor->getArray("dims");
    if (!dims)
      return malformed("'" + spec.name + "' has no dims");
    for (const json::Value &dim : *dims) {
      LinearExpr expr;
      std::string text;
      if (!parseExprValue(&dim, entry.symbols, expr, text))
        return malformed("dimension '" + text + "' of '" + spec.name +
                         "' is no linear expression in the entry's symbols");
      spec.dims.push_back(std::move(expr));
      spec.dimText.push_back(std::move(text));
    }
    entry.tensors.push_back(std::move(spec));
    ++count;
  }
  return Error::success();
}

Error parseWorkspace(const json::Object &object, EntrySpec &entry) {
  const json::Object *workspace = object.getObject("workspace");
  if (!workspace)
    return Error::success();
  entry.workspaceAlign = workspace->getInteger("align").value_or(64);
  if (entry.workspaceAlign <= 0 || entry.workspaceAlign > (1 << 20) ||
      !isPowerOf2_64(entry.workspaceAlign))
    return malformed("the workspace's alignment in entry '" + entry.name +
                     "' is " + Twine(entry.workspaceAlign) +
                     ", no power of two up to 2^20");
  const json::Array *temporaries = workspace->getArray("temporaries");
  if (!temporaries)
    return malformed("the workspace of entry '" + entry.name +
                     "' has no list 'temporaries'");
  for (const json::Value &value : *temporaries) {
    const json::Object *item = value.getAsObject();
    Temporary temporary;
    std::string text;
    if (!item || !parseExprValue(item->get("bytes"), entry.symbols,
                                 temporary.bytes, text))
      return malformed("a temporary of entry '" + entry.name +
                       "' has no linear 'bytes'");
    const json::Array *after = item->getArray("after");
    if (!after)
      return malformed("a temporary of entry '" + entry.name +
                       "' has no list 'after'");
    for (const json::Value &below : *after) {
      std::optional<int64_t> number = below.getAsInteger();
      if (!number || *number < 0 ||
          *number >= int64_t(entry.temporaries.size()))
        return malformed("temporary " + Twine(entry.temporaries.size()) +
                         " of entry '" + entry.name +
                         "' lies after one that does not precede it");
      temporary.after.push_back(*number);
    }
    entry.temporaries.push_back(std::move(temporary));
  }
  return Error::success();
}

Error parseConstraints(const json::Object &object, EntrySpec &entry) {
  const json::Array *constraints = object.getArray("constraints");
  if (!constraints)
    return Error::success();
  for (const json::Value &value : *constraints) {
    const json::Object *item = value.getAsObject();
    Constraint constraint;
    if (!item || !parseExprValue(item->get("expr"), entry.symbols,
                                 constraint.expr, constraint.text))
      return malformed("a constraint of entry '" + entry.name +
                       "' has no linear 'expr'");
    constraint.minimum = item->getInteger("min").value_or(INT64_MIN);
    constraint.maximum = item->getInteger("max").value_or(INT64_MAX);
    constraint.message = item->getString("message").value_or("").str();
    entry.constraints.push_back(std::move(constraint));
  }
  return Error::success();
}

/// Every symbol needs an input or inout dimension that is it or a multiple of
/// it: without one a call could not know its value.
Error checkSymbolsBound(const EntrySpec &entry) {
  for (auto [index, symbol] : enumerate(entry.symbols)) {
    bool bound = any_of(entry.tensors, [&, i = index](const TensorSpec &spec) {
      return spec.role != TensorSpec::Role::Output &&
             any_of(spec.dims, [&](const LinearExpr &dim) {
               return dim.asMultiple() == static_cast<int>(i);
             });
    });
    if (!bound)
      return malformed("no input of entry '" + entry.name +
                       "' has a dimension that is '" + symbol +
                       "' or a multiple of it");
  }
  return Error::success();
}
} // namespace

bool moe::parseDType(StringRef name, DLDataType &dtype) {
  for (const DTypeRow &row : kDTypes)
    if (name == row.name) {
      dtype = row.type;
      return true;
    }
  return false;
}

std::string moe::dtypeName(DLDataType dtype) {
  for (const DTypeRow &row : kDTypes)
    if (row.type.code == dtype.code && row.type.bits == dtype.bits &&
        row.type.lanes == dtype.lanes)
      return row.name;
  return ("dlpack(code=" + Twine(unsigned(dtype.code)) +
          ", bits=" + Twine(unsigned(dtype.bits)) +
          ", lanes=" + Twine(unsigned(dtype.lanes)) + ")")
      .str();
}

std::string TensorSpec::shapeText() const {
  return "[" + join(dimText, ", ") + "]";
}

bool LinearExpr::evaluate(ArrayRef<int64_t> symbols, int64_t &value) const {
  value = constant;
  for (auto [symbol, coefficient] : terms) {
    int64_t product;
    if (__builtin_mul_overflow(symbols[symbol], coefficient, &product) ||
        __builtin_add_overflow(value, product, &value))
      return false;
  }
  return true;
}

bool moe::parseLinearExpr(StringRef text, ArrayRef<std::string> symbols,
                          LinearExpr &expr) {
  expr = LinearExpr();
  text = text.trim();
  bool first = true;
  while (first || !text.empty()) {
    int64_t coefficient = 1;
    if (text.consume_front("-"))
      coefficient = -1;
    else if (!text.consume_front("+") && !first)
      return false;
    first = false;
    StringRef term =
        text.take_until([](char c) { return c == '+' || c == '-'; });
    text = text.drop_front(term.size());
    int symbol = -1;
    for (StringRef factor : split(term, '*')) {
      factor = factor.trim();
      int64_t number;
      if (!factor.getAsInteger(10, number)) {
        if (__builtin_mul_overflow(coefficient, number, &coefficient))
          return false;
        continue;
      }
      if (!isIdentifier(factor) || symbol >= 0)
        return false;
      auto *it = find(symbols, factor.str());
      if (it == symbols.end())
        return false;
      symbol = it - symbols.begin();
    }
    if (symbol < 0) {
      if (__builtin_add_overflow(expr.constant, coefficient, &expr.constant))
        return false;
      continue;
    }
    auto *it = find_if(expr.terms, [&](auto &t) {
      return t.first == static_cast<unsigned>(symbol);
    });
    if (it == expr.terms.end())
      expr.terms.push_back({unsigned(symbol), coefficient});
    else if (__builtin_add_overflow(it->second, coefficient, &it->second))
      return false;
  }
  return true;
}

Expected<Manifest> Manifest::parse(StringRef text) {
  Expected<json::Value> value = json::parse(text);
  if (!value)
    return malformed(toString(value.takeError()));
  const json::Object *root = value->getAsObject();
  if (!root)
    return malformed("it is no object");
  std::optional<int64_t> abi = root->getInteger("abi");
  if (!abi)
    return malformed("it has no 'abi'");
  if (*abi != kAbiVersion)
    return fail(MOE_LOAD_ERROR,
                "the module has ABI version " + Twine(*abi) +
                    ", this library runs version " + Twine(kAbiVersion) +
                    ": compile it again with this version's moe-compile");
  Manifest manifest;
  manifest.target = root->getString("target").value_or("").str();
  manifest.compiler = root->getString("compiler").value_or("").str();
  const json::Object *entries = root->getObject("entries");
  if (!entries)
    return malformed("it has no 'entries'");
  for (const auto &[name, body] : *entries) {
    const json::Object *object = body.getAsObject();
    if (!object)
      return malformed("entry '" + StringRef(name) + "' is no object");
    EntrySpec &entry = manifest.entries[StringRef(name)];
    entry.name = StringRef(name).str();
    if (const json::Array *symbols = object->getArray("symbols"))
      for (const json::Value &symbol : *symbols) {
        std::optional<StringRef> string = symbol.getAsString();
        if (!string || !isIdentifier(*string))
          return malformed("a symbol of entry '" + entry.name +
                           "' is no identifier");
        entry.symbols.push_back(string->str());
      }
    entry.align = object->getInteger("align").value_or(1);
    if (entry.align <= 0 || entry.align > 4096 || !isPowerOf2_64(entry.align))
      return malformed("the alignment of entry '" + entry.name + "' is " +
                       Twine(entry.align) + ", no power of two up to 4096");
    if (Error error = parseTensors(*object, "inputs", TensorSpec::Role::Input,
                                   entry, entry.numInputs))
      return std::move(error);
    if (Error error = parseTensors(*object, "inouts", TensorSpec::Role::InOut,
                                   entry, entry.numInOuts))
      return std::move(error);
    if (Error error = parseTensors(*object, "outputs", TensorSpec::Role::Output,
                                   entry, entry.numOutputs))
      return std::move(error);
    if (Error error = parseWorkspace(*object, entry))
      return std::move(error);
    if (Error error = parseConstraints(*object, entry))
      return std::move(error);
    if (Error error = checkSymbolsBound(entry))
      return std::move(error);
  }
  return manifest;
}
