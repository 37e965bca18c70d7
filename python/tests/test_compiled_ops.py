# SPDX-License-Identifier: Apache-2.0
"""The oracle's tests of level 1 again, in f64 on code compiled for this CPU."""

import pytest
import test_interpreter_ops as ops
import test_interpreter_route as route
from oracle import on_fewer_shapes, run_compiled

# What these say of the oracle's rounding is not true of compiled code, which always rounds to the
# types that tensors have, and computes in f32 what the oracle computes in f64.
OF_THE_ORACLE = {"test_round", "test_extreme_bfloat16", "test_low_precision_logits"}


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setattr(ops, "interpret", run_compiled)
    monkeypatch.setattr(route, "interpret", run_compiled)


for module in (ops, route):
    globals().update({name: t for name, t in on_fewer_shapes(module).items() if name not in OF_THE_ORACLE})
