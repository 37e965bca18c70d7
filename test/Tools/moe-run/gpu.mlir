// A function on a GPU: its arguments are copied there, and its results back. The
// driver is made up, and its kernels do nothing: results stay NaN.
// RUN: rm -rf %t && mkdir %t
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_LOG=%t/log moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 --out %t/y.npy --benchmark=4 | FileCheck %s --check-prefix=TIMES
// RUN: FileCheck %s --check-prefix=LOG --input-file=%t/log
// RUN: moe-run %s --target=cpu --arg %t/y.npy | FileCheck %s --check-prefix=NAN
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_CAPABILITY=86 moe-run %s --target=cuda --opt=ptxas=none --random --dim T=0 | FileCheck %s --check-prefix=EMPTY

// One context; six calls of one kernel on one stream, none waited for before
// the last; all memory freed.
// TIMES: twice: 4 calls, least 500.0 us, median 500.0 us, most 500.0 us
// LOG:       retain 40
// LOG:       allocate 48
// LOG-NEXT:  allocate 48
// LOG-NEXT:  allocate 1
// LOG:       launch twice_map_rows_0 grid 1 block 256 stream 5
// LOG-NEXT:  synchronize 5
// LOG-COUNT-4: launch twice_map_rows_0 grid 1 block 256 stream 5
// LOG-NEXT:  synchronize 5
// LOG-COUNT-3: free
// NAN: out0: float32 (3, 4) sum 0, largest 0, 12 NaN
// EMPTY: out0: float32 (0, 4)

// What is wrong is one line.
// RUN: env MOE_LIBCUDA=/no/such/libcuda.so not moe-run %s --target=sm_90a --random --dim T=3 2>&1 | FileCheck %s --check-prefix=NODRIVER
// RUN: env MOE_LIBCUDA=/no/such/libcuda.so not moe-run %s --target=cuda --random --dim T=3 2>&1 | FileCheck %s --check-prefix=NODRIVER
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_VERSION=11080 not moe-run %s --target=sm_80 --random --dim T=3 2>&1 | FileCheck %s --check-prefix=OLD
// RUN: env MOE_LIBCUDA=%fake_cuda not moe-run %s --target=cuda:7 --random --dim T=3 2>&1 | FileCheck %s --check-prefix=NODEVICE
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_CAPABILITY=80 not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_MEMORY=40 not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=MEMORY
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_REFUSE=twice_map_rows_0 not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=REFUSED
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_FAIL=cuDevicePrimaryCtxRetain not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=CONTEXT
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_FAIL=cuCtxPushCurrent_v2 not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=CONTEXT
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_FAIL=cuStreamCreate not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=STREAM
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_FAIL=cuMemcpyHtoD_v2 not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=THERE
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_FAIL=cuMemcpyDtoH_v2 not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=BACK
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_FAIL=cuStreamSynchronize not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 2>&1 | FileCheck %s --check-prefix=CALL
// RUN: env MOE_LIBCUDA=%fake_cuda FAKE_CUDA_FAIL=cuEventCreate not moe-run %s --target=sm_90a --opt=ptxas=none --random --dim T=3 --benchmark=2 2>&1 | FileCheck %s --check-prefix=EVENT
// RUN: not moe-run %s --target=tpu --random --dim T=3 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// NODRIVER: moe-run: error: target '{{sm_90a|cuda}}' needs a GPU to run: no NVIDIA driver here (/no/such/libcuda.so: {{.*}})
// NODRIVER-NOT: {{.}}
// OLD: moe-run: error: target 'sm_80' needs a GPU to run: the NVIDIA driver supports CUDA 11.8, and 12.0 is the oldest that will do: install a newer driver
// NODEVICE: moe-run: error: target 'cuda:7' needs a GPU to run: cuda:7: the device cannot be used: CUDA_ERROR_OTHER (101)
// OTHER: moe-run: error: the module was compiled for 'sm_90a' as PTX, which runs on sm_90 alone; cuda:0 is sm_80: compile for 'sm_80'
// MEMORY: moe-run: error: cuda:0: 48 bytes of device memory: CUDA_ERROR_OTHER (2)
// REFUSED: moe-run: error: kernel 'twice_map_rows_0' with grid 1x1x1, block 256x1x1 and 0 bytes of dynamic shared memory: CUDA_ERROR_ILLEGAL_ADDRESS (700, an illegal memory access was encountered)
// CONTEXT: moe-run: error: target 'sm_90a' needs a GPU to run: cuda:0: no context: CUDA_ERROR_OTHER (999)
// STREAM: moe-run: error: target 'sm_90a' needs a GPU to run: cuda:0: no stream: CUDA_ERROR_OTHER (999)
// THERE: moe-run: error: cuda:0: copying to the device: CUDA_ERROR_OTHER (999)
// BACK: moe-run: error: cuda:0: copying from the device: CUDA_ERROR_OTHER (999)
// CALL: moe-run: error: cuda:0: the call: CUDA_ERROR_OTHER (999)
// EVENT: moe-run: error: cuda:0: no event: CUDA_ERROR_OTHER (999)
// UNKNOWN: error: target 'tpu' is not built; the targets are cpu, sm_80,

func.func @twice(%x: tensor<?x4xf32> {moe.name = "x", moe.dims = ["T", 4]})
    -> (tensor<?x4xf32> {moe.name = "y"}) {
  %y = moe.rowwise token ins(%x : tensor<?x4xf32> rows)
      outs(tensor<?x4xf32> rows) {
  ^bb0(%v: f32):
    %s = arith.addf %v, %v : f32
    moe.yield %s : f32
  }
  return %y : tensor<?x4xf32>
}
