# SPDX-License-Identifier: Apache-2.0
"""The library in one process with torch, JAX and Triton: import orders, threads, forks.

Each test runs in an interpreter of its own, because what is loaded first and
what has run before is the point. The module is written in the LLVM dialect, so
that the tests are about the runtime and not about the pipeline.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("torch")

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = os.environ.get("MOE_MLIR_LIBRARY", str(ROOT / "build/lib/libmoe_mlir.so"))
COMPILER = os.environ.get("MOE_MLIR_COMPILER", str(ROOT / "build/bin/moe-compile"))

# out[i] = sin(x[i]), one task an element.
MODULE = """
module attributes {moe.manifest = {abi = 2, target = "cpu", compiler = "test",
  entries = {f = {
    inputs = [{name = "x", dtype = "float32", dims = ["T"]}],
    outputs = [{name = "out0", dtype = "float32", dims = ["T"], kind = "result"}],
    symbols = ["T"], workspace = {align = 64, temporaries = []}, align = 4}}}} {
  llvm.func @moe_rt_parallel_for(!llvm.ptr, !llvm.ptr, i64)
  llvm.func @sinf(f32) -> f32
  llvm.func @task(%i: i64, %ctx: !llvm.ptr) {
    %px = llvm.load %ctx : !llvm.ptr -> !llvm.ptr
    %slot = llvm.getelementptr %ctx[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %py = llvm.load %slot : !llvm.ptr -> !llvm.ptr
    %a = llvm.getelementptr %px[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %v = llvm.load %a : !llvm.ptr -> f32
    %r = llvm.call @sinf(%v) : (f32) -> f32
    %b = llvm.getelementptr %py[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    llvm.store %r, %b : f32, !llvm.ptr
    llvm.return
  }
  llvm.func @_mlir_ciface_f(%x: !llvm.ptr, %y: !llvm.ptr, %w: !llvm.ptr) {
    %one = llvm.mlir.constant(1 : i64) : i64
    %ctx = llvm.alloca %one x !llvm.array<2 x ptr> : (i64) -> !llvm.ptr
    %ax = llvm.getelementptr %x[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %px = llvm.load %ax : !llvm.ptr -> !llvm.ptr
    llvm.store %px, %ctx : !llvm.ptr, !llvm.ptr
    %ay = llvm.getelementptr %y[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %py = llvm.load %ay : !llvm.ptr -> !llvm.ptr
    %slot = llvm.getelementptr %ctx[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    llvm.store %py, %slot : !llvm.ptr, !llvm.ptr
    %an = llvm.getelementptr %x[3] : (!llvm.ptr) -> !llvm.ptr, i64
    %n = llvm.load %an : !llvm.ptr -> i64
    %task = llvm.mlir.addressof @task : !llvm.ptr
    llvm.call @moe_rt_parallel_for(%task, %ctx, %n) : (!llvm.ptr, !llvm.ptr, i64) -> ()
    llvm.return
  }
}
"""

# What every child starts with: the C API by ctypes, and numbers of threads.
PRELUDE = """
import ctypes, math, os, signal, sys
signal.alarm(60)

class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32),
                ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.c_void_p), ("byte_offset", ctypes.c_uint64)]

N = 1000
def vector(values):
    data = (ctypes.c_float * N)(*values)
    shape = (ctypes.c_int64 * 1)(N)
    tensor = DLTensor(ctypes.addressof(data), 1, 0, 1, 2, 32, 1, shape, None, 0)
    return data, shape, tensor

def load():
    lib = ctypes.CDLL(os.environ["MOE_MLIR_LIBRARY"])
    lib.moe_last_error.restype = ctypes.c_char_p
    return lib

def compile(lib):
    text = open(os.environ["MOE_TEST_MODULE"], "rb").read()
    module = ctypes.c_void_p()
    status = lib.moe_compile(text, ctypes.c_size_t(len(text)), None, ctypes.byref(module))
    assert status == 0, lib.moe_last_error().decode()
    return module

def call(lib, module):
    x, xs, tx = vector([0.01 * i for i in range(N)])
    y, ys, ty = vector([7.0] * N)
    args = (ctypes.POINTER(DLTensor) * 2)(ctypes.pointer(tx), ctypes.pointer(ty))
    status = lib.moe_invoke(module, b"f", args, ctypes.c_size_t(2), None)
    assert status == 0, lib.moe_last_error().decode()
    assert all(abs(a - math.sin(b)) < 1e-6 for a, b in zip(y, x))
    return bytes(y)

def threads():
    return len(os.listdir("/proc/self/task"))

def in_child(body):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            body()
            os._exit(0)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "the child failed or hung"
"""


def run(tmp_path, body, **environment):
    module = tmp_path / "module.mlir"
    module.write_text(MODULE)
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nexec "{COMPILER}" --start-at-llvm "$@"\n')
    compiler.chmod(0o755)
    env = dict(
        os.environ,
        MOE_MLIR_LIBRARY=LIBRARY,
        MOE_MLIR_COMPILER=str(compiler),
        MOE_MLIR_CACHE=str(tmp_path / "cache"),
        MOE_TEST_MODULE=str(module),
        **environment,
    )
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr


def test_without_torch(tmp_path):
    run(
        tmp_path,
        """
        before = threads()
        lib = load()
        assert threads() == before, "loading starts no thread"
        module = compile(lib)
        assert threads() == before, "compiling leaves no thread"
        call(lib, module)
        assert threads() == before + 2, "three threads: ours and two of the pool"
        """,
        OMP_NUM_THREADS="3",
    )


def test_torch_before_the_library(tmp_path):
    run(
        tmp_path,
        """
        import torch
        torch.set_num_threads(2)
        torch.randn(600, 600) @ torch.randn(600, 600)
        torch.randn(1000000).exp()
        lib = load(); module = compile(lib)
        before = threads()
        call(lib, module)
        assert threads() == before, "torch's threads are used, no second pool"
        """,
    )


def test_torch_after_the_library(tmp_path):
    run(
        tmp_path,
        """
        lib = load(); module = compile(lib)
        alone = call(lib, module)
        import torch
        torch.set_num_threads(2)
        assert call(lib, module) == alone
        torch.randn(600, 600) @ torch.randn(600, 600)
        before = threads()
        assert call(lib, module) == alone
        assert threads() == before
        """,
        OMP_NUM_THREADS="2",
    )


# Each of them brings an LLVM and, in use, compiles with it.
OTHERS = {
    "jax": "import jax; jax.jit(lambda x: jax.numpy.sin(x).sum())(jax.numpy.ones(100000)).block_until_ready()",
    "triton": "import triton.language; from triton._C import libtriton; libtriton.llvm.init_targets()",
}


@pytest.mark.parametrize("first", ["the other", "ours"])
@pytest.mark.parametrize("name", OTHERS)
def test_beside_another_llvm(tmp_path, name, first):
    if not importlib.util.find_spec(name):
        pytest.skip(f"{name} is not installed")
    use = OTHERS[name]
    run(
        tmp_path,
        f"""
        {use if first == "the other" else "pass"}
        lib = load(); module = compile(lib)
        alone = call(lib, module)
        {use}
        assert call(lib, module) == alone
        """,
    )


def test_results_do_not_depend_on_the_number_of_threads(tmp_path):
    run(
        tmp_path,
        """
        import torch
        lib = load(); module = compile(lib)
        results = set()
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            results.add(call(lib, module))
        assert len(results) == 1
        """,
    )


def test_fork_after_torch_and_the_library_ran(tmp_path):
    run(
        tmp_path,
        """
        import torch
        torch.set_num_threads(2)
        torch.randn(1000000).exp()
        lib = load(); module = compile(lib)
        expected = call(lib, module)
        def body():
            assert call(lib, module) == expected
            assert compile(lib)
        in_child(body)
        in_child(lambda: in_child(body))
        assert call(lib, module) == expected
        """,
    )


def test_fork_when_only_torch_had_run(tmp_path):
    run(
        tmp_path,
        """
        import torch
        torch.set_num_threads(2)
        torch.randn(1000000).exp()
        lib = load()
        def body():
            call(lib, compile(lib))
        in_child(body)
        """,
    )


def test_many_python_threads(tmp_path):
    run(
        tmp_path,
        """
        import threading, torch
        torch.set_num_threads(2)
        lib = load()
        results = []
        def work():
            module = compile(lib)
            for _ in range(20):
                results.append(call(lib, module))
        workers = [threading.Thread(target=work) for _ in range(6)]
        [w.start() for w in workers]
        [w.join() for w in workers]
        assert len(results) == 120 and len(set(results)) == 1
        """,
    )
