# SPDX-License-Identifier: Apache-2.0
"""The oracle's tests of kernels again, on code compiled for three kinds of CPU, in each type.

In f64 the compiled results take the place of the oracle's in the tests. In narrower types the text
of a test is rewritten, and the results are compared with the oracle's of that text.
"""

import re

import oracle
import pytest
import test_interpreter_kernels as kernels
import torch
from oracle import ELEMENT, on_fewer_shapes, run_compiled

f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
KINDS = [("host", dtype) for dtype in (f64, f32, bf16, f16)]
KINDS += [("x86-64-v3", f32), ("x86-64-v3", bf16), ("x86-64", f32), ("x86-64", f16)]


def narrow(text, dtype):
    """The text on tensors of `dtype`; regions compute in f32."""
    return re.sub(r"\bf64\b", "f32", re.sub(r"xf64>", f"x{ELEMENT[dtype]}>", text))


def check_narrow(text, arguments, cpu, dtype):
    text = narrow(text, dtype)
    arguments = [a.to(dtype) if a.is_floating_point() else a for a in arguments]
    expected = oracle.interpret(text, *arguments)
    for actual, wanted in zip(run_compiled(text, *arguments, cpu=cpu), expected, strict=True):
        assert actual.dtype == wanted.dtype and actual.shape == wanted.shape
        if not actual.dtype.is_floating_point:
            assert torch.equal(actual, wanted)
            continue
        assert torch.equal(actual.isnan(), wanted.isnan())
        # The oracle's result is rounded once, the compiled one once more from an f32 near it.
        actual, wanted = actual.double().nan_to_num(), wanted.double().nan_to_num()
        scale = wanted.abs().max() if wanted.numel() else torch.tensor(0.0)
        bound = 1.01 * torch.finfo(dtype).eps * wanted.abs() + 2e-6 * scale
        assert ((actual - wanted).abs() <= bound).all(), (actual - wanted).abs().max()


@pytest.fixture(autouse=True, params=KINDS, ids=lambda kind: f"{kind[0]}-{ELEMENT[kind[1]]}")
def compiled(request, monkeypatch):
    cpu, dtype = request.param

    def interpret(text, *arguments, **options):
        if dtype == torch.float64:
            return run_compiled(text, *arguments, cpu=cpu)
        check_narrow(text, arguments, cpu, dtype)
        return oracle.interpret(text, *arguments)

    monkeypatch.setattr(kernels, "interpret", interpret)


# Products of few rows of an expert are another path than those of many.
globals().update(on_fewer_shapes(kernels, more=[("random", 30, 2, 3)]))
