# SPDX-License-Identifier: Apache-2.0
"""The arithmetic that GPU kernels have in place of math's functions, run on the CPU against libm's."""

import ctypes
import math
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from oracle import program

INF, NAN = math.inf, math.nan
LLVM = pathlib.Path("/usr/lib/llvm-22/bin")
TOOLS = {name: shutil.which(name, path=str(LLVM)) or shutil.which(name) for name in ("mlir-translate", "clang")}
pytestmark = pytest.mark.skipif(not all(TOOLS.values()), reason="no mlir-translate or clang to run the arithmetic with")


def safe(function):
    """As IEEE has it: no exception, but NaN or infinity."""

    def call(*x):
        try:
            return function(*x)
        except ValueError:
            return NAN
        except OverflowError:
            return INF

    return call


LIBM = ctypes.CDLL("libm.so.6")
LIBM.exp2.restype, LIBM.exp2.argtypes = ctypes.c_double, [ctypes.c_double]
LIBM.pow.restype, LIBM.pow.argtypes = ctypes.c_double, [ctypes.c_double, ctypes.c_double]

UNARY = {
    "acos": math.acos, "acosh": math.acosh, "asin": math.asin, "asinh": math.asinh, "atan": math.atan,
    "atanh": lambda x: math.copysign(INF, x) if abs(x) == 1 else math.atanh(x), "cbrt": lambda x: float(np.cbrt(x)),
    "cos": math.cos, "cosh": math.cosh, "erf": math.erf, "erfc": math.erfc, "exp": math.exp, "exp2": LIBM.exp2,
    "expm1": math.expm1, "log": lambda x: -INF if x == 0 else math.log(x), "log10": lambda x: -INF if x == 0 else math.log10(x),
    "log1p": lambda x: -INF if x == -1 else math.log1p(x), "log2": lambda x: -INF if x == 0 else math.log2(x),
    "round": lambda x: x if not math.isfinite(x) else math.copysign(math.floor(abs(x) + 0.5), x),
    "rsqrt": lambda x: math.copysign(INF, x) if x == 0 else 0.0 if x == INF else x**-0.5 if x > 0 else NAN, "sin": math.sin,
    "sinh": lambda x: math.copysign(safe(math.sinh)(abs(x)), x), "tan": math.tan, "tanh": math.tanh,
}
BINARY = {"atan2": math.atan2, "powf": LIBM.pow}
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 1.5, 2.5, -3.0, 1e-8, -1e-8, 22.5, -22.5, 1e4, -1e4, INF, -INF, NAN]
# Relative: most to a few units in the last place, what is built of others to their sum.
ERROR = {"powf": 4e-13, "tan": 4e-15, "erfc": 2e-14, "erf": 6e-15, "acosh": 4e-15, "exp2": 4e-13}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """f_<op>_<type>, of the expanded ops, as machine code."""
    folder = tmp_path_factory.mktemp("math")
    functions = []
    for dtype in ("f64", "f32"):
        for op in [*UNARY, *BINARY]:
            arguments = "%x, %y" if op in BINARY else "%x"
            functions.append(f"func.func @f_{op}_{dtype}(%x: {dtype}, %y: {dtype}) -> {dtype} {{\n"
                             f"  %r = math.{op} {arguments} : {dtype}\n  return %r : {dtype}\n}}")

    def tool(*command, given):
        done = subprocess.run(command, input=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]
        return done.stdout

    text = tool(program("moe-opt"), "--pass-pipeline=builtin.module(gpu.module(moe-kernel-math))",
                given="gpu.module @m {\n" + "\n".join(functions) + "\n}")
    assert "math." not in text
    inside = re.search(r"gpu\.module @m \{\n(.*)\n  \}\n\}", text, re.S)[1]
    text = tool(program("moe-opt"), "--convert-scf-to-cf", "--convert-arith-to-llvm", "--convert-index-to-llvm",
                "--convert-cf-to-llvm", "--convert-func-to-llvm", "--reconcile-unrealized-casts", given=inside)
    (folder / "math.ll").write_text(tool(TOOLS["mlir-translate"], "--mlir-to-llvmir", given=text))
    subprocess.run([TOOLS["clang"], "-O1", "-march=x86-64-v2", "-shared", "-fPIC", "-Wno-override-module",
                    folder / "math.ll", "-lm", "-o", folder / "math.so"], check=True)
    return ctypes.CDLL(str(folder / "math.so"))


def points(op):
    random = np.random.default_rng(0)
    wide = random.standard_normal(300) * 10.0 ** random.uniform(-6, 2, 300)
    return [*EDGES, *map(float, random.uniform(-1, 1, 200)), *map(float, wide)]


def check(got, want, error, what):
    if math.isnan(want):
        assert math.isnan(got), (*what, got, want)
    elif want == 0 or math.isinf(want):
        assert got == want and math.copysign(1, got) == math.copysign(1, want), (*what, got, want)
    else:
        assert abs(got - want) <= error * abs(want) + 5e-324, (*what, got, want)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("op", [*UNARY, *BINARY])
def test_against_libm(library, op, dtype):
    function = getattr(library, f"f_{op}_{dtype}")
    number = ctypes.c_double if dtype == "f64" else ctypes.c_float
    function.restype, function.argtypes = number, [number, number]
    reference = safe(UNARY.get(op) or BINARY[op])
    seconds = EDGES + [0.3, 7.25, -11.0] if op in BINARY else [0.0]
    for x in points(op)[:: 5 if op in BINARY else 1] + EDGES:
        for y in seconds:
            x, y = number(x).value, number(y).value
            want = reference(x, y) if op in BINARY else reference(x)
            error = ERROR.get(op, 3e-15)
            if dtype == "f32":
                with np.errstate(over="ignore"):
                    want, error = float(np.float32(want)), 1.3e-7
                if 0 < abs(want) < 1.2e-38:
                    continue  # subnormal: an absolute error
            elif 0 < abs(want) < 1e-290:
                continue
            check(function(x, y), want, error, (op, x, y))
