# SPDX-License-Identifier: Apache-2.0
"""Calling compiled modules: no copies, clear errors, threads, pickles."""

import concurrent.futures
import copy
import ctypes
import gc
import os
import pickle
import re
import subprocess
import sys
import weakref

import moe_mlir
import numpy as np
import pytest
import torch
from moe_mlir import _arrays, _native, layers

T, D, N, E, K = 6, 16, 8, 4, 2
LAYER = layers.GatedMLP(d_model=D, d_expert=N, experts=E, top_k=K)


@pytest.fixture(scope="module")
def module():
    return LAYER.compile()


@pytest.fixture
def arguments():
    torch.manual_seed(0)
    return [torch.randn(T, D), torch.randint(E, (T, K)), torch.rand(T, K), torch.randn(E, 2 * N, D),
            torch.randn(E, D, N)]


# ---- nothing is copied ----------------------------------------------------------


class Recorded:
    """The library, noting the data pointers of each call."""

    def __init__(self, library):
        self._library, self.pointers = library, []

    def __getattr__(self, name):
        return getattr(self._library, name)

    def moe_invoke(self, handle, entry, packed, count, stream):
        tensors = (ctypes.POINTER(ctypes.c_uint64) * count).from_address(packed)
        self.pointers = [tensor[0] for tensor in tensors]
        return self._library.moe_invoke(handle, entry, packed, count, stream)


def test_tensors_are_used_where_they_are(module, arguments, monkeypatch):
    recorded = Recorded(module._library)
    monkeypatch.setattr(module, "_library", recorded)
    # The rows from 1 on of a larger tensor are contiguous, and start inside it.
    arguments[0] = torch.randn(T + 1, D)[1:]
    out, workspace = torch.empty(T, D), torch.empty(4096, dtype=torch.int8)
    assert module(*arguments, out=out, workspace=workspace) is out
    assert recorded.pointers == [a.data_ptr() for a in [*arguments, out, workspace]]
    arrays = [a.numpy() for a in arguments]
    result = module(*arrays)
    assert recorded.pointers[:6] == [a.ctypes.data for a in [*arrays, result]]


def test_a_thread_keeps_its_workspace(module, arguments, monkeypatch):
    recorded = Recorded(module._library)
    monkeypatch.setattr(module, "_library", recorded)

    def workspace():
        module(*arguments)
        return recorded.pointers[-1]

    first = workspace()
    others = [torch.empty(4096, dtype=torch.uint8) for _ in range(9)]  # in the place of one that was freed
    assert workspace() == first
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        assert other.submit(workspace).result() != first
    kept = _arrays.workspace(0, 64, others[0])
    larger = _arrays.workspace(kept.nbytes + 1, 64, others[0])
    assert larger.nbytes == kept.nbytes + 1
    assert _arrays.workspace(0, 64, others[0]) is larger
    monkeypatch.setattr(_arrays, "KEPT_BYTES", 0)
    assert workspace() != larger.data_ptr()


class OnlyDLPack:
    """An array of another library."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **keywords):
        return self.tensor.numpy().__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def test_arrays_that_speak_dlpack(module, arguments, monkeypatch):
    expected = module(*arguments)
    recorded = Recorded(module._library)
    monkeypatch.setattr(module, "_library", recorded)
    result = module(*map(OnlyDLPack, arguments))
    assert recorded.pointers[:5] == [a.data_ptr() for a in arguments]
    assert torch.equal(torch.from_numpy(result), expected)


def test_inputs_are_not_written(module, arguments):
    before = [a.clone() for a in arguments]
    module(*arguments)
    assert all(map(torch.equal, arguments, before))


def test_results_are_of_the_callers_kind(module, arguments):
    assert isinstance(module(*arguments), torch.Tensor)
    assert isinstance(module(*(a.numpy() for a in arguments)), np.ndarray)
    assert isinstance(module(arguments[0].numpy(), *arguments[1:]), torch.Tensor)
    both = layers.Router(experts=4, top_k=2).compile()(torch.randn(3, 4))
    assert isinstance(both, tuple) and [b.dtype for b in both] == [torch.float32, torch.int64]


def test_what_does_not_matter_is_accepted(module, arguments):
    expected = module(*arguments)
    read_only = arguments[0].numpy().copy()
    read_only.flags.writeable = False
    assert torch.equal(module(read_only, *arguments[1:]), expected)
    parameter = torch.nn.Parameter(arguments[3])
    with torch.no_grad():
        assert torch.equal(module(*arguments[:3], parameter, arguments[4]), expected)
    with torch.inference_mode():
        assert torch.equal(module(*arguments), expected)
    assert torch.equal(module(*arguments[:3], parameter.detach(), arguments[4]), expected)
    # Strides of dimensions of size 1 mean nothing; inputs may overlap.
    one = torch.randn(D, 1).T
    assert not one.stride() == (D, 1)
    module(one, *(a[:1] for a in arguments[1:3]), *arguments[3:])
    square = layers.GatedMLP(d_model=8, d_expert=4, experts=2, top_k=1).compile()
    weights = torch.randn(2, 8, 8)
    square(weights[0], torch.zeros(8, 1, dtype=torch.int64), torch.ones(8, 1), weights, torch.randn(2, 8, 4))


# ---- what is refused --------------------------------------------------------------


def replaced(index, value):
    return lambda a: (a[:index] + [value] + a[index + 1 :], {})


def misaligned():
    raw = np.zeros(T * D * 4 + 8, np.uint8)
    start = 1 + -raw.ctypes.data % 4
    return np.frombuffer(raw.data, np.float32, T * D, start).reshape(T, D)


def aliased_workspace(a):
    raw = torch.zeros(8192, dtype=torch.uint8)
    raw = raw[-raw.data_ptr() % 64 :]
    return [raw[: T * D * 4].view(torch.float32).view(T, D), *a[1:]], {"workspace": raw}


def read_only():
    array = np.zeros((T, D), np.float32)
    array.flags.writeable = False
    return array


def negated():
    return torch.complex(torch.zeros(T, D), torch.ones(T, D)).conj().imag


BAD_CALLS = {
    "count": (lambda a: (a[:4], {}), r"forward takes 5 arguments \(x, ids, gates, w1, w2\), got 4"),
    "dtype": (replaced(0, torch.zeros(T, D).double()), "'x': dtype is float64, expected float32: convert it"),
    "id width": (replaced(1, torch.zeros(T, K).int()), "'ids': dtype is int32, expected int64"),
    "rank": (replaced(0, torch.zeros(T * D)), r"'x': shape is \[96\] of rank 1, expected \[T, 16\]"),
    "rank 0": (replaced(0, torch.zeros(())), r"'x': shape is \[\] of rank 0, expected \[T, 16\]"),
    "shape": (replaced(0, torch.zeros(T, D + 1)), "'x': dimension 1 is 17, expected 16"),
    "tokens": (replaced(1, torch.zeros(T + 1, K).long()), "'ids': dimension 0 is 7, expected T = 6"),
    "experts": (replaced(4, torch.zeros(E + 1, D, N)), "'w2': dimension 0 is 5, expected 4"),
    "transposed": (replaced(3, torch.zeros(E, D, 2 * N).mT), "'w1': strides .* not row-major contiguous"),
    "every other": (replaced(0, torch.zeros(T, 2 * D)[:, ::2]), "'x': strides .* not row-major contiguous"),
    "expanded": (replaced(0, torch.zeros(1, D).expand(T, D)), r"'x': strides \[0, 1\] .* pass a contiguous copy"),
    "reversed": (replaced(0, np.zeros((T, D), np.float32)[::-1]), r"'x': strides \[-16, 1\] .* not row-major"),
    "misaligned": (replaced(0, misaligned()), "'x': the data is not aligned to 4 bytes"),
    "device": (replaced(0, torch.zeros(T, D, device="meta")), r"x is on meta; move it with .to\('cpu'\)"),
    "sparse": (replaced(0, torch.zeros(T, D).to_sparse()), "x has the layout torch.sparse_coo.*to_dense"),
    "negated": (replaced(0, negated()), "x is a view that negates what is in memory"),
    "complex": (replaced(0, torch.zeros(T, D, dtype=torch.complex64)), "x has the dtype complex64, which is not"),
    "unsigned": (replaced(1, np.zeros((T, K), np.uint64)), "ids has the dtype uint64, which is not among"),
    "objects": (replaced(0, np.zeros((T, D), object)), "x has the dtype object, which is not among"),
    "records": (replaced(0, np.zeros((T, D), [("a", "f4")])), "x has the dtype void32, which is not among"),
    "byte order": (replaced(0, np.zeros((T, D), ">f4")), "x is not in this machine's byte order"),
    "odd strides": (replaced(0, np.zeros((T, D), [("a", "f4"), ("b", "i1")])["a"]), "strides of x are no multiples"),
    "gradient": (replaced(3, torch.zeros(E, 2 * N, D, requires_grad=True)), r"w1 of forward requires grad .*no_grad"),
    "out shape": (lambda a: (a, {"out": torch.zeros(T, D + 1)}), "'out': dimension 1 is 17, expected 16"),
    "out dtype": (lambda a: (a, {"out": torch.zeros(T, D).half()}), "'out': dtype is float16"),
    "out count": (lambda a: (a, {"out": (a[0], a[0])}), "forward has 1 results, out has 2"),
    "out strides": (lambda a: (a, {"out": torch.zeros(D, T).T}), "'out': strides .* not row-major contiguous"),
    "out read-only": (lambda a: (a, {"out": read_only()}), "out of forward is read-only"),
    "out gradient": (lambda a: (a, {"out": torch.zeros(T, D, requires_grad=True)}), "out of forward requires grad"),
    "out is in": (lambda a: (a, {"out": a[0]}), "'x' and 'out' overlap in memory"),
    "out in a weight": (lambda a: (a, {"out": a[3].view(-1)[: T * D].view(T, D)}), "'w1' and 'out' overlap"),
    "workspace size": (lambda a: (a, {"workspace": torch.zeros(64, dtype=torch.uint8)}), "the workspace has 64 bytes"),
    "workspace dtype": (lambda a: (a, {"workspace": torch.zeros(9999)}), "'workspace': it is float32"),
    "workspace place": (aliased_workspace, "'x' and 'workspace' overlap"),
}


@pytest.mark.parametrize("what", BAD_CALLS)
def test_bad_calls(module, arguments, what):
    make, message = BAD_CALLS[what]
    given, keywords = make(arguments)
    with pytest.raises(moe_mlir.errors.ArgumentError, match=message):
        module(*given, **keywords)
    module(*arguments)


@pytest.mark.parametrize("value, kind", [([[1.0]], "list"), (None, "NoneType"), (1.0, "float"), ("x", "str")])
def test_what_is_no_array(module, arguments, value, kind):
    with pytest.raises(TypeError, match=f"x is a {kind}, wanted a torch tensor or a NumPy array"):
        module(value, *arguments[1:])
    if value is not None:  # out=None asks for a new tensor
        with pytest.raises(TypeError, match=f"out is a {kind}, wanted"):
            module(*arguments, out=[value])


def test_misaligned_workspace(module, arguments):
    raw = torch.zeros(8192, dtype=torch.uint8)
    with pytest.raises(moe_mlir.errors.ArgumentError, match="the workspace is not aligned to 64 bytes"):
        module(*arguments, workspace=raw[1 + -raw.data_ptr() % 64 :])


def test_two_results_in_one_place():
    query = layers.Router(experts=4, top_k=2, gate_dtype="f32", routing=layers.Routing(returns=("scores",))).compile()
    raw = torch.zeros(64)
    with pytest.raises(moe_mlir.errors.ArgumentError, match="'gates' and 'scores' overlap"):
        query(torch.randn(3, 4), out=(raw[:6].view(3, 2), torch.zeros(3, 2).long(), raw[:12].view(3, 4)))


def test_too_many_slots(module, arguments):
    """2^31 slots, from shapes alone: no result of 64 GiB has to be made first."""
    wide = [arguments[0][:1, :1].expand(2**30, D), *(a[:1, :1].expand(2**30, K) for a in arguments[1:3])]
    with pytest.raises(moe_mlir.errors.ArgumentError, match="needs 2.T .* <= 2147483647, T = 1073741824"):
        module["forward"]._check_shapes([*wide, *arguments[3:]])


def test_ids_out_of_range_are_sentinels(module, arguments):
    arguments[1] = torch.tensor([[0, -1], [E, 1], [2**40, -(2**40)], [2**32, 2**32 + 1], [-(2**63), 2**63 - 1], [3, 3]])
    out = module(*arguments)
    assert torch.equal(out, module(arguments[0], torch.where((arguments[1] < 0) | (arguments[1] >= E), E,
                                                             arguments[1]), *arguments[2:]))
    assert not out[2:5].any() and out[0].any() and out[5].any()


def test_unknown_entries(module):
    with pytest.raises(KeyError, match="no entry 'backward'; the module has forward"):
        module["backward"]
    attention = layers.MixtureOfAttention(d_model=8, heads=1, head_dim=4, experts=2, top_k=1).compile()
    assert set(attention.entries) == {"query", "output"}
    with pytest.raises(moe_mlir.errors.ArgumentError, match="say which entry to call.*output, query"):
        attention(torch.zeros(1, 8))


BAD_SOURCES = {
    "no IR": ("hello", "custom op 'hello' is unknown"),
    "nothing": ("", "no public function"),
    "syntax": ("func.func @f(%x: tensor<?x8xf32>", "expected"),
    "type": ("func.func @f(%x: tensor<?x8xf32>) -> tensor<?x8xf64> { return %x : tensor<?x8xf32> }", "return"),
    "verifier": (LAYER.text.replace("tensor<4x16x8xf32>", "tensor<4x16x9xf32>"), "error: .*"),
    "dialect": ("llvm.func @f() { llvm.return }", "accepted dialects are builtin, moe, func, arith"),
    "assembly": ('func.func @f(%x: i32) -> i32 { %0 = "llvm.inline_asm"(%x) <{asm_string="nop", constraints="=r,r"}> '
                 ": (i32) -> i32 return %0 : i32 }", "llvm"),
    "bytes": (b"ML\xefR garbage", "error"),
    "binary": (bytes(range(256)), "error"),
}


@pytest.mark.parametrize("what", BAD_SOURCES)
def test_bad_sources(what):
    source, message = BAD_SOURCES[what]
    with pytest.raises(moe_mlir.errors.CompileError, match=message):
        moe_mlir.compile(source)
    LAYER.compile()


def test_bad_options():
    with pytest.raises(TypeError, match="IR is a string, bytes or a layer, not int"):
        moe_mlir.compile(3)
    with pytest.raises(moe_mlir.errors.UnsupportedError, match="target 'tpu' is not built"):
        LAYER.compile("tpu")
    with pytest.raises(moe_mlir.errors.CompileError, match="no such option nonsense"):
        LAYER.compile(nonsense=True)
    with pytest.raises(moe_mlir.errors.CompileError, match="'pentium-9' is no CPU"):
        LAYER.compile(cpu="pentium-9")
    with pytest.raises(ValueError, match="option 'cpu=a b' has a space in it"):
        LAYER.compile(cpu="a b")


def test_the_wheels_ptxas_is_named_to_the_library(tmp_path, monkeypatch):
    """Where neither CUDA_HOME nor PATH has one; the compiler reads the variable."""
    monkeypatch.delenv("MOE_PTXAS", raising=False)
    monkeypatch.setenv("MOE_PTXAS_FALLBACK", "unset after this test")
    monkeypatch.delenv("MOE_PTXAS_FALLBACK")
    places = [str(p) for p in _native.ptxas_places()]
    try:
        layers.Router(experts=2, top_k=1).compile("sm_90a")
    except moe_mlir.Error:
        pass  # no ptxas at all
    assert os.environ["MOE_PTXAS_FALLBACK"].split(":") == places


def test_errors_have_one_base():
    for error in vars(moe_mlir.errors).values():
        if isinstance(error, type) and not issubclass(error, Warning):
            assert issubclass(error, moe_mlir.Error)
    assert issubclass(moe_mlir.errors.ArgumentError, ValueError)


@pytest.mark.parametrize("variable, content, message", [
    ("MOE_MLIR_LIBRARY", None, "MOE_MLIR_LIBRARY is {path}, which is no file"),
    ("MOE_MLIR_LIBRARY", "no library", "{path} does not load"),
    ("MOE_MLIR_COMPILER", None, "{path}"),
    ("MOE_MLIR_COMPILER", "no program", "{path}"),
])
def test_missing_and_broken_parts(tmp_path, monkeypatch, variable, content, message):
    """One error with the path in it, from a fresh process with an empty cache."""
    path = tmp_path / "part"
    if content:
        path.write_text(content)
    monkeypatch.setenv(variable, str(path))
    monkeypatch.setenv("MOE_MLIR_CACHE", str(tmp_path / "cache"))
    program = ("import moe_mlir\ntry: moe_mlir.layers.Router(experts=2, top_k=1).compile()\n"
               "except moe_mlir.Error as error: print(type(error).__name__, error)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.match(r"(NotFound|Compile|)Error|CompilerCrash", done.stdout)
    assert message.format(path=path) in done.stdout


def test_nothing_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(_native, "homes", lambda: [tmp_path])
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("MOE_MLIR_LIBRARY", "MOE_MLIR_COMPILER"):
        monkeypatch.delenv(variable, raising=False)
    for find, name in [(_native.find_library, "lib/libmoe_mlir.so"),
                       (lambda: _native.find_program("moe-run"), "bin/moe-run")]:
        with pytest.raises(moe_mlir.errors.NotFoundError, match=rf"was not found \(looked at {tmp_path}/{name}.*\); install "
                                                                "the wheel, run `make build`.* or set MOE_MLIR_HOME"):
            find()


def test_bfloat16_of_numpy_needs_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(moe_mlir.Error, match="NumPy has no bfloat16 of its own; pip install ml_dtypes, or use torch"):
        _arrays.empty("bfloat16", (1,), np.zeros(1))


# ---- interpreting -------------------------------------------------------------------


def test_bad_interpretations(arguments):
    for given, entry, message in [(arguments[:3], None, "argument w1 has no value"),
                                  (arguments, "g", "no entry 'g'"),
                                  ([arguments[0].double(), *arguments[1:]], None, "x"),
                                  ([arguments[0][:, :8], *arguments[1:]], None, "x")]:
        with pytest.raises(moe_mlir.Error, match=message):
            LAYER.interpret(*given, entry=entry)
    with pytest.raises(TypeError, match="argument 0 is a list"):
        LAYER.interpret([1.0], *arguments[1:])
    with pytest.raises(moe_mlir.Error, match="custom op 'hello' is unknown"):
        moe_mlir.interpret("hello", "f")


# ---- threads ------------------------------------------------------------------------


def test_many_threads_call_one_module(module, arguments):
    batches = [[torch.randn(t, D), torch.randint(E, (t, K)), torch.rand(t, K)] for t in range(32)]
    alone = [module(*batch, *arguments[3:]) for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            together = list(pool.map(lambda batch: module(*batch, *arguments[3:]), batches))
            assert all(map(torch.equal, alone, together))


def test_results_do_not_depend_on_the_number_of_threads():
    layer = layers.GatedMLP(d_model=64, d_expert=48, experts=8, top_k=2, dtype="bf16")
    torch.manual_seed(0)
    named = [torch.randn(257, 64).bfloat16(), torch.randint(8, (257, 2)), torch.rand(257, 2),
             torch.randn(8, 96, 64).bfloat16(), torch.randn(8, 64, 48).bfloat16()]
    module, threads, results = layer.compile(), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            results.append(module(*named))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(r, results[0]) for r in results)


def test_threads_compile_one_module_at_once():
    layer = layers.GatedMLP(d_model=24, d_expert=40, experts=3, top_k=2)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        modules = list(pool.map(lambda _: layer.compile(), range(4)))
    x = [torch.randn(5, 24), torch.randint(3, (5, 2)), torch.rand(5, 2), torch.randn(3, 80, 24), torch.randn(3, 24, 40)]
    assert all(torch.equal(m(*x), modules[0](*x)) for m in modules)


# ---- modules as objects -------------------------------------------------------------


def test_repr_shows_the_signature(module):
    assert repr(module["forward"]).startswith("forward(x: float32(T, 16), ids: int64(T, 2)")
    assert "-> out: float32(T, 16)" in repr(module) and "cpu" in repr(module)


def test_workspace_size_grows_with_tokens(module):
    sizes = [module["forward"].workspace_size(T=t) for t in (0, 1, 64, 65)]
    assert sizes == sorted(sizes) and sizes[3] > sizes[2]
    assert all(size % 64 == 0 for size in sizes)


def test_copies_and_pickles(module, arguments, tmp_path):
    assert copy.deepcopy(module) is module and copy.copy(module) is module
    expected = module(*arguments)
    assert torch.equal(pickle.loads(pickle.dumps(module))(*arguments), expected)
    with_options = LAYER.compile(cpu="x86-64-v3", opt_level=1)
    again = pickle.loads(pickle.dumps(with_options))
    assert torch.equal(again(*arguments), with_options(*arguments))


def test_modules_are_released(arguments):
    """The entries keep their module alive, and nothing else does."""
    module = layers.Router(experts=6, top_k=2).compile()
    entry, seen = module["forward"], weakref.ref(module)
    del module
    gc.collect()
    entry(torch.randn(3, 6))
    del entry
    gc.collect()
    assert seen() is None


def test_load(tmp_path, arguments):
    path = tmp_path / "layer.moec"
    subprocess.run([_native.find_program("moe-compile"), "-", "-o", path], input=LAYER.text, text=True, check=True)
    loaded = moe_mlir.load(path)
    assert torch.equal(loaded(*arguments), LAYER.compile()(*arguments))
    assert torch.equal(pickle.loads(pickle.dumps(loaded))(*arguments), loaded(*arguments))
    data = bytearray(path.read_bytes())
    for name, content in {"empty": b"", "short": data[: len(data) // 2], "text": b"hello",
                          "flipped": data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]}.items():
        broken = tmp_path / name
        broken.write_bytes(content)
        with pytest.raises(moe_mlir.errors.LoadError, match=name):
            moe_mlir.load(broken)
    with pytest.raises(moe_mlir.errors.LoadError, match="cannot be read"):
        moe_mlir.load(tmp_path / "nothing")


def test_bytecode(arguments, tmp_path):
    done = subprocess.run([_native.find_program("moe-opt"), "--emit-bytecode", "-"], input=LAYER.text.encode(),
                          capture_output=True, check=True)
    assert done.stdout.startswith(b"ML\xefR")
    assert torch.equal(moe_mlir.compile(done.stdout)(*arguments), LAYER.compile()(*arguments))


def test_torch_stays_unimported():
    program = ("import sys, numpy as np, moe_mlir\n"
               "route = moe_mlir.layers.Router(experts=4, top_k=2).compile()\n"
               "gates, ids = route(np.eye(4, dtype=np.float32))\n"
               "assert ids[2, 0] == 2 and 'torch' not in sys.modules and 'ml_dtypes' not in sys.modules")
    subprocess.run([sys.executable, "-c", program], check=True)
