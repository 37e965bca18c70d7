# SPDX-License-Identifier: Apache-2.0
"""The oracle's tests of level 1 again, in f64 on the GPU."""

import gpu
import pytest
import test_interpreter_ops as ops
import test_interpreter_route as route
from oracle import on_fewer_shapes
from test_compiled_ops import OF_THE_ORACLE

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch):
    monkeypatch.setattr(ops, "interpret", gpu.run_gpu)
    monkeypatch.setattr(route, "interpret", gpu.run_gpu)


for module in (ops, route):
    globals().update({name: t for name, t in on_fewer_shapes(module).items() if name not in OF_THE_ORACLE})
