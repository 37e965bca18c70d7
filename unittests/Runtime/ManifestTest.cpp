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
  Expected<Manifest> manifest = Manifest::parse(R"({"abi": 1, "target": "cpu",
    "entries": {"f": {
      "inputs": [{"name": "x", "dtype": "bfloat16", "dims": ["T", 4]}],
      "inouts": [{"name": "g", "dtype": "float32", "dims": []}],
      "outputs": [{"name": "y", "dtype": "bool", "dims": ["2*T"]}],
      "symbols": ["T"], "align": 16,
      "workspace": {"align": 64, "terms": [{"const": 1, "T": 8}]}}}})");
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
}

TEST(ManifestTest, RefusesWhatItCannotTrust) {
  EXPECT_NE(parseError("{").find("malformed manifest"), std::string::npos);
  EXPECT_EQ(parseError("[]"), "malformed manifest: it is no object");
  EXPECT_EQ(parseError("{}"), "malformed manifest: it has no 'abi'");
  EXPECT_EQ(parseError(R"({"abi": 2})"),
            "the module has ABI version 2, this library runs version 1: "
            "compile it again with this version's moe-compile");
  EXPECT_EQ(parseError(R"({"abi": 1, "entries": {"f": {"symbols": ["T"]}}})"),
            "malformed manifest: no input of entry 'f' has a dimension that is "
            "'T' or a multiple of it");
  EXPECT_EQ(parseError(R"({"abi": 1, "entries": {"f": {"inputs":
              [{"name": "x", "dtype": "complex64", "dims": []}]}}})"),
            "malformed manifest: unknown dtype 'complex64' of 'x'");
  EXPECT_EQ(parseError(R"({"abi": 1, "entries": {"f": {"inputs":
              [{"name": "x", "dtype": "int8", "dims": ["U"]}]}}})"),
            "malformed manifest: dimension 'U' of 'x' is no linear expression "
            "in the entry's symbols");
  EXPECT_EQ(parseError(R"({"abi": 1, "entries": {"f":
              {"workspace": {"align": 48, "terms": []}}}})"),
            "malformed manifest: workspace alignment is no power of two");
}
