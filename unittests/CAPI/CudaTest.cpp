// SPDX-License-Identifier: Apache-2.0
//===- CudaTest.cpp - the host side of GPU modules, on a fake driver ------===//
//
// The driver is opened once a process, so each case is a child of its own. The
// module doubles its input in one kernel.
//
//===----------------------------------------------------------------------===//
#include "moe/Runtime/Cuda.h"
#include "Fixture.h"

namespace {
const char kModule[] = R"(
func.func @twice(%x: tensor<?x4xf32> {moe.name = "x", moe.dims = ["T", 4]})
    -> (tensor<?x4xf32> {moe.name = "y"}) {
  %y = moe.rowwise token ins(%x : tensor<?x4xf32> rows)
      outs(tensor<?x4xf32> rows) {
  ^bb0(%v: f32):
    %s = arith.addf %v, %v : f32
    moe.yield %s : f32
  }
  return %y : tensor<?x4xf32>
})";

struct Tensor {
  int64_t shape[2];
  DLTensor tensor;
  Tensor(void *data, int64_t rows, int device, DLDeviceType type = kDLCUDA)
      : shape{rows, 4},
        tensor{data, {type, device}, 2, {kDLFloat, 32, 1}, shape, nullptr, 0} {}
};

class CudaTest : public moe_test::CompileTest {
protected:
  void SetUp() override {
    CompileTest::SetUp();
    useCompiler("exec " MOE_TEST_COMPILER " \"$@\"\n");
    setenv("MOE_LIBCUDA", MOE_TEST_LIBCUDA, 1);
    setenv("MOE_PTXAS", MOE_TEST_PTXAS, 1);
    setenv("FAKE_CUDA_LOG", (folder / "cuda").c_str(), 1);
    for (const char *unset :
         {"FAKE_CUDA_VERSION", "FAKE_CUDA_CAPABILITY", "FAKE_CUDA_REFUSE",
          "FAKE_CUDA_FAIL", "FAKE_CUDA"})
      unsetenv(unset);
  }

  /// A call on a GPU of this capability; its status.
  int callOn(const char *capability, const char *target,
             const char *options = nullptr) {
    setenv("FAKE_CUDA_CAPABILITY", capability, 1);
    return callInChild(4, 0, nullptr, 1, target, options);
  }
  bool wasFor(const std::string &target) const {
    return moe_test::readFile(folder / "manifest")
               .find("\"target\":\"" + target + "\"") != std::string::npos;
  }

  std::string log() const { return moe_test::readFile(folder / "cuda"); }

  /// Compiles and calls in a child; its status, with the message in `message`.
  int callInChild(int64_t rows, int device = 0, void *stream = nullptr,
                  int calls = 1, const char *target = "sm_90a",
                  const char *given = nullptr) {
    auto text = folder / "message";
    int status = moe_test::finish(moe_test::start([&] {
      alignas(16) static float x[16], y[16];
      moe_options options{sizeof(moe_options), target, given};
      moe_module *module = nullptr;
      moe_status status =
          moe_compile(kModule, sizeof(kModule) - 1, &options, &module);
      moe_test::writeFile(folder / "manifest", moe_module_manifest(module));
      Tensor in(x, rows, device), out(y, rows, device);
      const DLTensor *arguments[] = {&in.tensor, &out.tensor};
      for (int i = 0; !status && i < calls; ++i)
        status = moe_invoke(module, "twice", arguments, 2, stream);
      moe_test::writeFile(text, status ? moe_last_error() : "");
      moe_module_release(module);
      return int(status);
    }));
    message = moe_test::readFile(text);
    return status;
  }

  std::string said() const override { return message; }
  std::string message;
};

TEST_F(CudaTest, LoadsOnceAndLaunchesOnTheStream) {
  auto stream = reinterpret_cast<void *>(77);
  ASSERT_EQ(callInChild(4, 1, stream, 2), MOE_OK) << message;
  // One context for the device, kept; kernels loaded once, from the cubin that
  // ptxas wrote; the context of the tensors' device for each launch.
  std::string launch = "launch twice_map_rows_0 grid 1 block 256 stream 77";
  std::string all = log();
  EXPECT_EQ(all.find("retain 41\nload CUBIN\n" + launch), 0u) << all;
  EXPECT_NE(all.find("device 41\n" + launch), std::string::npos) << all;
  EXPECT_NE(all.find("unload CUBIN"), std::string::npos) << all;
}

TEST_F(CudaTest, LaunchesNothingForNoRows) {
  ASSERT_EQ(callInChild(0), MOE_OK) << message;
  EXPECT_EQ(log(), "retain 40\nload CUBIN\nunload CUBIN\n");
}

TEST_F(CudaTest, NamesTheKernelThatWasRefused) {
  setenv("FAKE_CUDA_REFUSE", "twice_map_rows_0", 1);
  EXPECT_TRUE(
      refuses(callInChild(4), MOE_DEVICE_ERROR,
              "kernel 'twice_map_rows_0' with grid 1x1x1, block 256x1x1"));
  EXPECT_TRUE(says("CUDA_ERROR_ILLEGAL_ADDRESS"));
}

TEST_F(CudaTest, SaysWhatTheDriverRefused) {
  for (auto [function, status, expected] :
       {std::tuple("cuInit", MOE_LOAD_ERROR,
                   "the NVIDIA driver does not start: CUDA_ERROR_OTHER (999, "
                   "other); see what nvidia-smi says"),
        {"cuDevicePrimaryCtxRetain", MOE_DEVICE_ERROR,
         "device cuda:0 gives no context: CUDA_ERROR_OTHER"},
        {"cuCtxPushCurrent_v2", MOE_DEVICE_ERROR,
         "the context of cuda:0 cannot be used: CUDA_ERROR_OTHER"},
        {"cuLibraryLoadData", MOE_DEVICE_ERROR,
         "kernel 'twice_map_rows_0' for target 'sm_90a' cannot be loaded: "
         "CUDA_ERROR_OTHER"},
        {"cuLibraryGetKernel", MOE_DEVICE_ERROR,
         "kernel 'twice_map_rows_0' is not in its binary: "
         "CUDA_ERROR_OTHER"}}) {
    setenv("FAKE_CUDA_FAIL", function, 1);
    EXPECT_TRUE(refuses(callInChild(4), status, expected)) << function;
  }
}

TEST_F(CudaTest, RefusesALibraryThatIsNoDriver) {
  setenv("MOE_LIBCUDA", "libm.so.6", 1);
  EXPECT_TRUE(
      refuses(callInChild(4), MOE_LOAD_ERROR,
              "'libm.so.6' does not say its version, as an NVIDIA driver "
              "does: install one, or set MOE_LIBCUDA"));
  setenv("MOE_LIBCUDA", MOE_TEST_OLD_LIBCUDA, 1);
  EXPECT_TRUE(
      refuses(callInChild(4), MOE_LOAD_ERROR,
              "the NVIDIA driver has no cuTensorMapEncodeTiled: install a "
              "newer driver"));
}

TEST_F(CudaTest, RefusesLaunchesBeforeTheDriverDoes) {
  // What the host part of compiled code may ask, in a call without a module.
  auto ask = [&](auto body) {
    moe_test::finish(moe_test::start([&] {
      moe::KernelEntry kernel{"image", 5, "k"};
      moe::GPUKernels kernels(kernel, 13000, *moe::findGPUTarget("sm_90a"));
      llvm::Error error = kernels.call(0, nullptr, body);
      moe_test::writeFile(folder / "message", llvm::toString(std::move(error)));
      return 0;
    }));
    message = moe_test::readFile(folder / "message");
  };
  ask([] { moe_rt_launch(0, int64_t(1) << 31, 1, 1, 32, 1, 1, 0, nullptr); });
  EXPECT_TRUE(says("kernel 'k' with grid 2147483648x1x1, block 32x1x1 and 0 "
                   "bytes of dynamic shared memory"));
  setenv("FAKE_CUDA_FAIL", "cuKernelSetAttribute", 1);
  ask([] { moe_rt_launch(0, 1, 1, 1, 32, 1, 1, 1 << 20, nullptr); });
  EXPECT_TRUE(says("1048576 bytes of dynamic shared memory: CUDA_ERROR_OTHER"));
  unsetenv("FAKE_CUDA_FAIL");
  ask([] {
    int64_t dims[6] = {8, 7}, strides[6] = {}, box[6] = {4, 2};
    alignas(64) char map[128];
    moe_rt_tensor_map(map, 256, 0, 6, dims, strides, box, 0);
    moe_rt_launch(0, 1, 1, 1, 32, 1, 1, 0, nullptr); // Not after a failure.
  });
  EXPECT_TRUE(says("a tensor map of rank 6, sizes/box 8/4x7/2x0/0x0/0x0/0, at "
                   "address 100 cannot be made: CUDA_ERROR_OTHER"));
}

TEST_F(CudaTest, RefusesADriverThatIsTooOld) {
  setenv("FAKE_CUDA_VERSION", "12040", 1);
  EXPECT_TRUE(
      refuses(callInChild(4), MOE_LOAD_ERROR,
              "assembled for CUDA 13.0, the NVIDIA driver supports 12.4: "
              "install a newer driver"));
  // With an assembler of that version it works.
  setenv("FAKE_CUDA", "12.4", 1);
  std::filesystem::remove_all(cache());
  EXPECT_EQ(callInChild(4), MOE_OK) << message;
}

TEST_F(CudaTest, RefusesADriverWithoutWhatIsCalled) {
  setenv("FAKE_CUDA_VERSION", "11080", 1);
  EXPECT_TRUE(refuses(callInChild(4), MOE_LOAD_ERROR,
                      "the NVIDIA driver supports CUDA 11.8, and 12.0 is the "
                      "oldest that will do: install a newer driver"));
}

TEST_F(CudaTest, RefusesPTXThatTheDriverDoesNotKnow) {
  setenv("FAKE_CUDA_VERSION", "12040", 1);
  EXPECT_TRUE(
      refuses(callOn("120", "sm_120", "ptxas=none"), MOE_LOAD_ERROR,
              "the module is PTX for 'sm_120', which needs a driver for "
              "CUDA 12.8; the NVIDIA driver supports 12.4"));
  EXPECT_EQ(callOn("120", "sm_80", "ptxas=none"), MOE_OK) << message;
}

TEST_F(CudaTest, BinariesRunWithinAMajorVersion) {
  EXPECT_EQ(callOn("80", "sm_80"), MOE_OK) << message;
  EXPECT_EQ(callOn("89", "sm_80"), MOE_OK) << message;
  EXPECT_EQ(callOn("121", "sm_120"), MOE_OK) << message;
  EXPECT_TRUE(
      refuses(callOn("90", "sm_80"), MOE_LOAD_ERROR,
              "compiled for 'sm_80', which runs on sm_80 to sm_89; cuda:0 "
              "is sm_90: compile for 'sm_90a'"));
  EXPECT_TRUE(refuses(callOn("80", "sm_86"), MOE_LOAD_ERROR,
                      "cuda:0 is sm_80: compile for 'sm_80'"));
  EXPECT_TRUE(refuses(callOn("75", "sm_80"), MOE_LOAD_ERROR,
                      "cuda:0 is sm_75: compile for 'cpu'"));
}

TEST_F(CudaTest, PTXRunsOnAllThatIsNewer) {
  EXPECT_EQ(callOn("90", "sm_80", "ptxas=none"), MOE_OK) << message;
  EXPECT_NE(log().find("load //"), std::string::npos) << log();
  EXPECT_EQ(callOn("110", "sm_100", "ptxas=none"), MOE_OK) << message;
  EXPECT_TRUE(refuses(callOn("80", "sm_90", "ptxas=none"), MOE_LOAD_ERROR,
                      "compiled for 'sm_90' as PTX, which runs on sm_90 and "
                      "later; cuda:0 is sm_80: compile for 'sm_80'"));
}

TEST_F(CudaTest, WhatIsOfOneArchitectureRunsThereAlone) {
  for (const char *options : {"", "ptxas=none"}) {
    EXPECT_EQ(callOn("90", "sm_90a", options), MOE_OK) << message;
    EXPECT_TRUE(
        refuses(callOn("100", "sm_90a", options), MOE_LOAD_ERROR,
                "which runs on sm_90 alone; cuda:0 is sm_100: compile for "
                "'sm_100'"));
  }
}

TEST_F(CudaTest, TheTargetCudaIsThisMachinesGPU) {
  for (auto [capability, target] : {std::pair("80", "sm_80"),
                                    {"87", "sm_86"},
                                    {"89", "sm_89"},
                                    {"90", "sm_90a"},
                                    {"103", "sm_100"},
                                    {"121", "sm_120"}}) {
    EXPECT_EQ(callOn(capability, "cuda"), MOE_OK) << message;
    EXPECT_TRUE(wasFor(target)) << capability;
    EXPECT_EQ(log().find("load //"), std::string::npos) << capability;
  }
  EXPECT_EQ(callOn("90", "cuda:1"), MOE_OK) << message;
  // No binary runs on it: PTX, which its driver assembles.
  EXPECT_EQ(callOn("110", "cuda"), MOE_OK) << message;
  EXPECT_TRUE(wasFor("sm_100"));
  EXPECT_NE(log().find("load //"), std::string::npos) << log();

  EXPECT_TRUE(refuses(callOn("75", "cuda"), MOE_UNSUPPORTED,
                      "target 'cuda' is sm_75 on this machine; sm_80 is the "
                      "oldest that is built: compile for 'cpu'"));
  EXPECT_TRUE(refuses(callOn("90", "cuda:7"), MOE_DEVICE_ERROR,
                      "device cuda:7 cannot be used"));
  EXPECT_EQ(callOn("90", "cuda:x"), MOE_UNSUPPORTED);
  setenv("MOE_LIBCUDA", "/nonexistent/libcuda.so", 1);
  EXPECT_TRUE(
      refuses(callOn("90", "cuda"), MOE_LOAD_ERROR, "no NVIDIA driver here"));
}

TEST_F(CudaTest, TakesTheNewestAssemblerThatTheDriverSupports) {
  // Versions that no assembler on this machine has.
  auto install = [&](const std::string &version) {
    std::filesystem::path bin = folder / version / "bin";
    std::filesystem::create_directories(bin);
    moe_test::writeFile(bin / "ptxas",
                        "#!/bin/sh\n[ \"$1\" = --version ] || echo " + version +
                            " >>" + (folder / "used").string() +
                            "\nFAKE_CUDA=" + version +
                            " exec " MOE_TEST_PTXAS " \"$@\"\n");
    std::filesystem::permissions(bin / "ptxas",
                                 std::filesystem::perms::owner_all);
    return bin;
  };
  std::string path = getenv("PATH");
  unsetenv("MOE_PTXAS");
  setenv("CUDA_HOME", (folder / "12.98").c_str(), 1);
  setenv("MOE_PTXAS_FALLBACK", (install("12.99") / "ptxas").c_str(), 1);
  setenv("PATH", (install("98.1").string() + ":" + path).c_str(), 1);
  install("12.98");
  auto used = [&](const char *driver) {
    std::filesystem::remove(folder / "used");
    setenv("FAKE_CUDA_VERSION", driver, 1);
    EXPECT_EQ(callInChild(4), MOE_OK) << message;
    return moe_test::readFile(folder / "used");
  };
  EXPECT_EQ(used("12040"), "12.99\n");
  EXPECT_EQ(used("98000"), "98.1\n") << "what is in the cache is of 12.99";
  EXPECT_EQ(used("12080"), "") << "the entry of 12.99 serves any driver of 12";
  EXPECT_EQ(entries().size(), 2u);
  // Without an assembler for it, PTX; the driver is then part of the key.
  for (const char *name : {"12.98", "12.99", "98.1"})
    std::filesystem::remove_all(folder / name);
  setenv("MOE_PTXAS", "none", 1);
  EXPECT_EQ(used("12040"), "");
  EXPECT_EQ(used("98000"), "");
  EXPECT_EQ(entries().size(), 4u);
  EXPECT_NE(log().find("load //"), std::string::npos) << log();
  setenv("PATH", path.c_str(), 1);
  for (const char *unset : {"CUDA_HOME", "MOE_PTXAS_FALLBACK"})
    unsetenv(unset);
}

TEST_F(CudaTest, RefusesAnAssemblerWithoutTheArchitecture) {
  setenv("FAKE_CUDA", "12.4", 1);
  EXPECT_TRUE(
      refuses(callOn("120", "sm_120"), MOE_COMPILE_ERROR,
              "is of CUDA 12.4 and does not know 'sm_120'; install CUDA "
              "12.8 or later"));
}

TEST_F(CudaTest, SaysThatThereIsNoDriver) {
  setenv("MOE_LIBCUDA", "/nonexistent/libcuda.so", 1);
  EXPECT_TRUE(refuses(callInChild(4), MOE_LOAD_ERROR,
                      "needs a GPU: no NVIDIA driver here"));
}

TEST_F(CudaTest, SaysThatThereIsNoDevice) {
  EXPECT_TRUE(refuses(callInChild(4, 7), MOE_DEVICE_ERROR,
                      "device cuda:7 cannot be used"));
}

TEST_F(CudaTest, ChecksWhereTensorsLie) {
  moe_options options{sizeof(moe_options), "sm_90a", nullptr};
  moe_module *module = nullptr;
  ASSERT_EQ(moe_compile(kModule, sizeof(kModule) - 1, &options, &module),
            MOE_OK)
      << moe_last_error();
  alignas(16) static float x[20], y[16];
  Tensor host(x, 4, 0, kDLCPU), one(x, 4, 0), other(y, 4, 1), odd(x + 1, 4, 0);
  auto call = [&](Tensor &in, Tensor &out) {
    const DLTensor *arguments[] = {&in.tensor, &out.tensor};
    EXPECT_EQ(moe_invoke(module, "twice", arguments, 2, nullptr),
              MOE_INVALID_ARGUMENT);
    return std::string(moe_last_error());
  };
  EXPECT_NE(call(host, one).find("runs on a GPU: copy it to one"),
            std::string::npos);
  EXPECT_NE(call(one, other).find("copy all to one device"), std::string::npos);
  EXPECT_NE(call(odd, other).find("not aligned to 16 bytes"),
            std::string::npos);
  moe_module_release(module);
}
} // namespace
