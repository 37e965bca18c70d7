// SPDX-License-Identifier: Apache-2.0
#include "moe/Runtime/Manifest.h"
#include "gtest/gtest.h"

using namespace llvm;
using namespace moe;

static int64_t value(StringRef text, int64_t t, int64_t k) {
  LinearExpr expr;
  int64_t result = INT64_MIN;
  if (!parseLinearExpr(text, {"T", "K"}, expr) ||
      !expr.evaluate({t, k}, result))
    return INT64_MIN;
  return result;
}

static std::string parseError(StringRef json) {
  Expected<Manifest> manifest = Manifest::parse(json);
  return manifest ? "" : toString(manifest.takeError());
}

TEST(ManifestTest, LinearExpressions) {
  EXPECT_EQ(value("12", 5, 7), 12);
  EXPECT_EQ(value("T", 5, 7), 5);
  EXPECT_EQ(value("2*T+1", 5, 7), 11);
  EXPECT_EQ(value("T*2 - 3*K + 4", 5, 7), -7);
  EXPECT_EQ(value("-T", 5, 7), -5);
  EXPECT_EQ(value("T+T", 5, 7), 10);
  for (StringRef bad : {"", "T*K", "2**T", "T+", "U", "T 2", "2.5", "T/2",
                        "99999999999999999999"})
    EXPECT_EQ(value(bad, 5, 7), INT64_MIN) << bad.str();
  EXPECT_EQ(value("4*T", INT64_MAX / 2, 0), INT64_MIN) << "overflow";
}

TEST(ManifestTest, ReadsAnEntry) {
  Expected<Manifest> manifest = Manifest::parse(R"({"abi": 2, "target": "cpu",
    "entries": {"f": {
      "inputs": [{"name": "x", "dtype": "bfloat16", "dims": ["T", 4]}],
      "inouts": [{"name": "g", "dtype": "float32", "dims": []}],
      "outputs": [{"name": "y", "dtype": "bool", "dims": ["2*T"]}],
      "symbols": ["T"], "align": 16,
      "workspace": {"align": 64, "temporaries": [
        {"bytes": "8*T+1", "after": []}, {"bytes": 8, "after": [0]}]}}}})");
  ASSERT_TRUE(bool(manifest)) << toString(manifest.takeError());
  const EntrySpec &entry = manifest->entries["f"];
  EXPECT_EQ(entry.numInputs, 1u);
  EXPECT_EQ(entry.numInOuts, 1u);
  EXPECT_EQ(entry.numOutputs, 1u);
  EXPECT_EQ(entry.tensors[0].shapeText(), "[T, 4]");
  EXPECT_EQ(entry.tensors[0].dtype.code, kDLBfloat);
  EXPECT_EQ(entry.tensors[1].dims.size(), 0u);
  EXPECT_EQ(entry.tensors[2].dtype.code, kDLBool);
  EXPECT_EQ(entry.align, 16);
  ASSERT_EQ(entry.temporaries.size(), 2u);
  EXPECT_EQ(entry.temporaries[0].bytes.constant, 1);
  EXPECT_TRUE(entry.temporaries[0].after.empty());
  EXPECT_EQ(entry.temporaries[1].bytes.constant, 8);
  EXPECT_EQ(ArrayRef(entry.temporaries[1].after), ArrayRef(0u));
}

TEST(ManifestTest, RefusesWhatItCannotTrust) {
  EXPECT_EQ(parseError(R"({"abi": 1})"),
            "the module has ABI version 1, this library runs version 2: "
            "compile it again with this version's moe-compile");
  EXPECT_TRUE(StringRef(parseError("{")).starts_with("malformed manifest: ["));
  auto malformed = [](StringRef json) {
    std::string message = parseError(json);
    StringRef text = message;
    EXPECT_TRUE(text.consume_front("malformed manifest: ")) << text.str();
    EXPECT_TRUE(text.consume_back("; compile the module again")) << text.str();
    return text.str();
  };
  EXPECT_EQ(malformed("[]"), "it is no object");
  EXPECT_EQ(malformed("{}"), "it has no 'abi'");
  EXPECT_EQ(malformed(R"({"abi": 2})"), "it has no 'entries'");
  EXPECT_EQ(malformed(R"({"abi": 2, "entries": {"f": 2}})"),
            "entry 'f' is no object");
  auto entry = [&](StringRef fields) {
    return malformed(
        (R"({"abi": 2, "entries": {"f": {)" + fields + "}}}").str());
  };
  EXPECT_EQ(entry(R"("symbols": ["T"])"),
            "no input of entry 'f' has a dimension that is 'T' or a multiple "
            "of it");
  EXPECT_EQ(entry(R"("symbols": ["2T"])"),
            "a symbol of entry 'f' is no identifier");
  EXPECT_EQ(entry(R"("align": 24)"),
            "the alignment of entry 'f' is 24, no power of two up to 4096");
  EXPECT_EQ(entry(R"("inputs": {})"), "'inputs' of entry 'f' is no list");
  EXPECT_EQ(entry(R"("outputs": [1])"),
            "an item of 'outputs' of entry 'f' is no object");
  EXPECT_EQ(entry(R"("inputs": [{"name": "x", "dtype": "int8"}])"),
            "'x' has no dims");
  EXPECT_EQ(entry(R"("inputs":
                [{"name": "x", "dtype": "complex64", "dims": []}])"),
            "unknown dtype 'complex64' of 'x'");
  EXPECT_EQ(entry(R"("inputs":
                [{"name": "x", "dtype": "int8", "dims": ["U"]}])"),
            "dimension 'U' of 'x' is no linear expression in the entry's "
            "symbols");
  EXPECT_EQ(entry(R"("workspace": {"align": 48, "temporaries": []})"),
            "the workspace's alignment in entry 'f' is 48, no power of two up "
            "to 2^20");
  EXPECT_EQ(entry(R"("workspace": {"terms": []})"),
            "the workspace of entry 'f' has no list 'temporaries'");
  for (StringRef bad :
       {R"(1)", R"({"after": []})", R"({"bytes": "8*U", "after": []})",
        R"({"bytes": "T*T", "after": []})"})
    EXPECT_EQ(entry(R"("workspace": {"temporaries": [)" + bad.str() + "]}"),
              "a temporary of entry 'f' has no linear 'bytes'");
  EXPECT_EQ(entry(R"("workspace": {"temporaries": [{"bytes": 8}]})"),
            "a temporary of entry 'f' has no list 'after'");
  for (StringRef bad : {"0", "-1", "1", "\"x\""})
    EXPECT_EQ(entry(R"("workspace": {"temporaries": [{"bytes": 8, "after": [)" +
                    bad.str() + "]}]}"),
              "temporary 0 of entry 'f' lies after one that does not precede "
              "it");
  EXPECT_EQ(entry(R"("constraints": [{"expr": "T*T"}])"),
            "a constraint of entry 'f' has no linear 'expr'");
}
