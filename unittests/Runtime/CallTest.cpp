// SPDX-License-Identifier: Apache-2.0
#include "moe/Runtime/Call.h"
#include "gtest/gtest.h"

using namespace llvm;
using namespace moe;

namespace {
/// A DLPack tensor over memory of its own.
struct Tensor {
  Tensor(std::vector<int64_t> dims, DLDataType type = {kDLFloat, 32, 1})
      : shape(std::move(dims)) {
    size_t bytes = type.bits / 8;
    for (int64_t dim : shape)
      bytes *= std::max<int64_t>(dim, 1);
    memory.resize(bytes + 256);
    tensor.data = reinterpret_cast<void *>(
        (reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t(63));
    tensor.device = {kDLCPU, 0};
    tensor.ndim = shape.size();
    tensor.dtype = type;
    tensor.shape = shape.data();
    tensor.strides = nullptr;
    tensor.byte_offset = 0;
  }
  std::vector<int64_t> shape, strides;
  std::vector<char> memory;
  DLTensor tensor;
};

/// f(x: f32[T, 4], ids: i64[T], acc: f32[4] inout) -> y: f32[2*T], workspace.
class CallTest : public testing::Test {
protected:
  void SetUp() override {
    Expected<Manifest> parsed = Manifest::parse(R"({"abi": 2, "entries": {"f": {
      "inputs": [{"name": "x", "dtype": "float32", "dims": ["T", 4]},
                 {"name": "ids", "dtype": "int64", "dims": ["T"]}],
      "inouts": [{"name": "acc", "dtype": "float32", "dims": [4]}],
      "outputs": [{"name": "y", "dtype": "float32", "dims": ["2*T"]}],
      "symbols": ["T"], "align": 16,
      "constraints": [{"expr": "2*T", "max": 2147483647, "message":
                       "slots are counted in 32 bits"}],
      "workspace": {"align": 64, "temporaries": [{"bytes": "8*T+1", "after": []},
                    {"bytes": "64*T", "after": [0]}, {"bytes": "80*T", "after": []}]}
      }}})");
    ASSERT_TRUE(bool(parsed)) << toString(parsed.takeError());
    manifest = std::move(*parsed);
    for (Tensor *tensor : {&x, &ids, &acc, &y, &workspace})
      args.push_back(&tensor->tensor);
  }

  std::string call() {
    PackedCall packed;
    return toString(packed.prepare(manifest.entries["f"], args));
  }

  Manifest manifest;
  Tensor x{{3, 4}}, ids{{3}, {kDLInt, 64, 1}}, acc{{4}}, y{{6}},
      workspace{{256}, {kDLInt, 8, 1}};
  std::vector<const DLTensor *> args;
};
} // namespace

TEST_F(CallTest, KeepsEmptyTensorsAwayFromZeroOnGPUs) {
  Tensor *tensors[] = {&x, &ids, &acc, &y, &workspace};
  for (Tensor *tensor : {&x, &ids, &y}) {
    tensor->shape[0] = 0;
    tensor->tensor.data = nullptr;
  }
  for (bool gpu : {false, true}) {
    for (Tensor *tensor : tensors)
      tensor->tensor.device = {gpu ? kDLCUDA : kDLCPU, 0};
    PackedCall packed(gpu);
    Error error = packed.prepare(manifest.entries["f"], args);
    ASSERT_FALSE(bool(error)) << toString(std::move(error));
    for (int empty : {0, 1, 3}) {
      auto *words = static_cast<int64_t *>(packed.data()[empty]);
      EXPECT_EQ(words[1], gpu ? reinterpret_cast<intptr_t>(acc.tensor.data) : 0)
          << "argument " << empty;
      EXPECT_EQ(words[3], 0);
    }
  }
}

TEST_F(CallTest, PacksDescriptors) {
  PackedCall packed;
  Error error = packed.prepare(manifest.entries["f"], args);
  ASSERT_FALSE(bool(error)) << toString(std::move(error));
  auto *words = static_cast<int64_t *>(packed.data()[0]);
  EXPECT_EQ(words[1], reinterpret_cast<intptr_t>(x.tensor.data));
  EXPECT_EQ(words[2], 0);
  EXPECT_EQ(std::vector<int64_t>(words + 3, words + 7),
            (std::vector<int64_t>{3, 4, 4, 1}));
  auto *last = static_cast<int64_t *>(packed.data()[4]);
  EXPECT_EQ(last[3], 256);
}

TEST_F(CallTest, HonoursByteOffset) {
  x.tensor.byte_offset = 16;
  PackedCall packed;
  ASSERT_EQ(toString(packed.prepare(manifest.entries["f"], args)), "");
  EXPECT_EQ(static_cast<int64_t *>(packed.data()[0])[1],
            reinterpret_cast<intptr_t>(x.tensor.data) + 16);
}

TEST_F(CallTest, WorkspaceSizeIsTheLargestEnd) {
  Expected<uint64_t> bytes = workspaceBytes(manifest.entries["f"], {3});
  ASSERT_TRUE(bool(bytes));
  EXPECT_EQ(*bytes, 64u + 192u);
  bytes = workspaceBytes(manifest.entries["f"], {8}); // 128 + 512, or 640.
  ASSERT_TRUE(bool(bytes));
  EXPECT_EQ(*bytes, 640u);
  bytes = workspaceBytes(manifest.entries["f"], {80}); // 704 + 5120, or 6400.
  ASSERT_TRUE(bool(bytes));
  EXPECT_EQ(*bytes, 6400u);
  bytes = workspaceBytes(manifest.entries["f"], {INT64_MAX / 32});
  EXPECT_EQ(toString(bytes.takeError()),
            "entry 'f': the workspace size passes 63 bits: use fewer rows");
}

TEST_F(CallTest, Count) {
  args.resize(2);
  EXPECT_EQ(call(), "entry 'f' takes 5 arguments (2 inputs, 1 inouts, 1 "
                    "outputs, workspace), got 2");
}

TEST_F(CallTest, NullTensor) {
  args[1] = nullptr;
  EXPECT_EQ(call(), "entry 'f', argument 'ids': the tensor is a null pointer");
}

TEST_F(CallTest, NoShape) {
  x.tensor.shape = nullptr;
  EXPECT_EQ(call(), "entry 'f', argument 'x': the tensor has no shape");
}

TEST_F(CallTest, CountForTheWorkspace) {
  SmallVector<int64_t> symbols;
  Error error = bindSymbols(manifest.entries["f"], {&x.tensor}, symbols);
  EXPECT_EQ(toString(std::move(error)),
            "entry 'f' takes 3 inputs and inouts, got 1");
}

TEST_F(CallTest, DType) {
  ids.tensor.dtype = {kDLInt, 32, 1};
  EXPECT_EQ(call(), "entry 'f', argument 'ids': dtype is int32, expected "
                    "int64: convert it");
}

TEST_F(CallTest, Rank) {
  x.tensor.ndim = 1;
  EXPECT_EQ(call(), "entry 'f', argument 'x': shape is [3] of rank 1, expected "
                    "[T, 4] of rank 2");
}

TEST_F(CallTest, StaticDimension) {
  x.shape[1] = 5;
  EXPECT_EQ(call(), "entry 'f', argument 'x': dimension 1 is 5, expected 4 "
                    "(shape [3, 5], expected [T, 4])");
}

TEST_F(CallTest, SymbolOfTwoInputs) {
  ids.shape[0] = 2;
  EXPECT_EQ(call(), "entry 'f', argument 'ids': dimension 0 is 2, expected T = "
                    "3, where T = 3 from 'x' (shape [2], expected [T])");
}

TEST_F(CallTest, OutputShape) {
  y.shape[0] = 5;
  EXPECT_EQ(call(), "entry 'f', argument 'y': dimension 0 is 5, expected 2*T = "
                    "6, where T = 3 from 'x' (shape [5], expected [2*T])");
}

TEST_F(CallTest, SymbolOfAMultiple) {
  Expected<Manifest> parsed = Manifest::parse(R"({"abi": 2, "entries": {"f": {
      "inputs": [{"name": "h", "dtype": "float32", "dims": ["2*T"]}],
      "outputs": [{"name": "y", "dtype": "float32", "dims": ["T"]}],
      "symbols": ["T"]}}})");
  ASSERT_TRUE(bool(parsed)) << toString(parsed.takeError());
  Tensor even{{6}}, odd{{7}}, out{{3}};
  auto check = [&](Tensor &h) {
    PackedCall packed;
    return toString(
        packed.prepare(parsed->entries["f"], {&h.tensor, &out.tensor}));
  };
  EXPECT_EQ(check(even), "");
  EXPECT_EQ(check(odd), "entry 'f', argument 'h': dimension 0 is 7, expected "
                        "2*T = 6, where T = 3 from 'h' (shape [7], expected "
                        "[2*T])");
}

TEST_F(CallTest, NegativeDimension) {
  x.shape[0] = -1;
  EXPECT_EQ(call(), "entry 'f', argument 'x': dimension 0 is -1, which is "
                    "negative");
}

TEST_F(CallTest, Device) {
  x.tensor.device = {kDLCUDA, 1};
  EXPECT_EQ(call(), "entry 'f', argument 'x': it is on DLPack device (2, 1), "
                    "the module runs on the CPU: copy it to the CPU");
}

TEST_F(CallTest, Strides) {
  x.strides = {1, 3};
  x.tensor.strides = x.strides.data();
  EXPECT_EQ(call(), "entry 'f', argument 'x': strides [1, 3] of shape [3, 4] "
                    "are not row-major contiguous: pass a contiguous copy");
  x.strides = {4, 1};
  EXPECT_EQ(call(), "");
}

TEST_F(CallTest, StridesOfSizeOneAreFree) {
  x.shape[0] = ids.shape[0] = 1;
  y.shape[0] = 2;
  x.strides = {77, 1};
  x.tensor.strides = x.strides.data();
  EXPECT_EQ(call(), "");
}

TEST_F(CallTest, ZeroTokensNeedNoMemory) {
  x.shape[0] = ids.shape[0] = y.shape[0] = 0;
  x.tensor.data = ids.tensor.data = y.tensor.data = nullptr;
  EXPECT_EQ(call(), "");
}

TEST_F(CallTest, NullData) {
  x.tensor.data = nullptr;
  EXPECT_EQ(call(), "entry 'f', argument 'x': the data pointer is null, 48 "
                    "bytes are needed");
}

TEST_F(CallTest, Alignment) {
  x.tensor.byte_offset = 4;
  EXPECT_EQ(call(), "entry 'f', argument 'x': the data is not aligned to 16 "
                    "bytes: pass a copy in aligned memory");
}

TEST_F(CallTest, Overlap) {
  y.tensor.data = static_cast<char *>(x.tensor.data) + 32;
  EXPECT_EQ(call(), "entry 'f': 'x' and 'y' overlap in memory, and the call "
                    "writes one of them: give each its own buffer");
  y.tensor.data = workspace.tensor.data;
  EXPECT_EQ(call(), "entry 'f': 'y' and 'workspace' overlap in memory, and the "
                    "call writes one of them: give each its own buffer");
}

TEST_F(CallTest, InputsMayOverlap) {
  ids.tensor.data = x.tensor.data;
  EXPECT_EQ(call(), "");
}

TEST_F(CallTest, Workspace) {
  workspace.shape[0] = 255;
  EXPECT_EQ(call(), "entry 'f': the workspace has 255 bytes, 256 are needed "
                    "for these shapes: ask moe_workspace_size");
  workspace.shape[0] = 256;
  workspace.tensor.byte_offset = 16;
  EXPECT_EQ(call(), "entry 'f': the workspace is not aligned to 64 bytes");
  workspace.tensor.byte_offset = 0;
  workspace.shape[0] = -1;
  EXPECT_EQ(call(), "entry 'f', argument 'workspace': dimension 0 is -1, which "
                    "is negative");
  workspace.shape[0] = 256;
  workspace.tensor.dtype = {kDLFloat, 32, 1};
  EXPECT_EQ(call(), "entry 'f', argument 'workspace': it is float32 [256], "
                    "expected one dimension of int8 or uint8");
  args.pop_back();
  EXPECT_EQ(call(), "entry 'f': the workspace has 0 bytes, 256 are needed for "
                    "these shapes: ask moe_workspace_size");
}

TEST_F(CallTest, Constraint) {
  // Nothing of this size is allocated: the check comes before the memory's.
  x.shape[0] = ids.shape[0] = int64_t(1) << 30;
  y.shape[0] = int64_t(1) << 31;
  EXPECT_EQ(call(), "entry 'f' needs 2*T <= 2147483647, T = 1073741824: slots "
                    "are counted in 32 bits");
  manifest.entries["f"].constraints[0].minimum = 2;
  EXPECT_EQ(call(), "entry 'f' needs 2*T >= 2 and <= 2147483647, T = "
                    "1073741824: slots are counted in 32 bits");
}

TEST_F(CallTest, BytesThatOverflow) {
  manifest.entries["f"].constraints.clear();
  x.shape[0] = ids.shape[0] = int64_t(1) << 60;
  y.shape[0] = int64_t(1) << 61;
  EXPECT_EQ(call(), "entry 'f', argument 'x': the size of shape "
                    "[1152921504606846976, 4] passes 63 bits: use fewer rows");
}

TEST_F(CallTest, SizesThatOverflow) {
  x.shape[0] = ids.shape[0] = INT64_MAX / 2 + 1;
  EXPECT_EQ(call(), "entry 'f', argument 'y': dimension '2*T' passes 63 bits: "
                    "use fewer rows");
}
