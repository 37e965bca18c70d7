# SPDX-License-Identifier: Apache-2.0
"""The oracle's tests of kernels again on the GPU, in each type: as test_compiled_kernels."""

import gpu
import oracle
import pytest
import test_compiled_kernels as compiled_kernels
import test_interpreter_kernels as kernels
import torch
from oracle import ELEMENT, on_fewer_shapes

pytestmark = pytest.mark.gpu


@pytest.fixture(
    autouse=True, params=[torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=ELEMENT.get
)
def on_gpu(request, monkeypatch):
    def interpret(text, *arguments, **options):
        if request.param == torch.float64:
            return gpu.run_gpu(text, *arguments)
        compiled_kernels.check_narrow(text, arguments, None, request.param)
        return oracle.interpret(text, *arguments, **options)

    def run(text, *arguments, cpu):
        return gpu.run_gpu(text, *arguments)

    monkeypatch.setattr(kernels, "interpret", interpret)
    monkeypatch.setattr(compiled_kernels, "run_compiled", run)


globals().update(on_fewer_shapes(kernels))
