# SPDX-License-Identifier: Apache-2.0
"""Kernels without a matrix product at sizes that take many blocks, by the oracle's tests in f64."""

import functools

import gpu
import pytest
import test_interpreter_kernels as kernels
import test_interpreter_ops as ops
import test_interpreter_route as route
from oracle import equal, random, shapes

pytestmark = pytest.mark.gpu

# (kind of ids, T, K, E). A block sorts 1024 slots: one fewer, all, one more; then many blocks, and
# more experts than a block has threads.
MANY = [
    ("distinct", 341, 3, 7),
    ("distinct", 512, 2, 64),
    ("sentinels", 205, 5, 40),
    ("random", 5000, 8, 128),
    ("sentinels", 3001, 16, 512),
    ("hot", 20000, 2, 5),
    ("empty", 65536, 1, 300),
]
NAMES = ["test_assign_ids", "test_group", "test_scatter", "test_combine", "test_combine_scalars", "test_expert_sum"]
NAMES += ["test_rowwise_glu", "test_rowwise_bias_gates_and_sums", "test_map_rows_folds_partials", "test_combine_rows"]
NAMES += ["test_fold_partials"]


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch):
    for module in (ops, route, kernels):
        monkeypatch.setattr(module, "interpret", gpu.run_gpu)


def on_many(test):
    @functools.wraps(test)
    def again(*arguments, **options):
        return test(*arguments, **options)

    again.pytestmark = [shapes(of=MANY).mark if m.args[:1] == ("slots",) else m for m in test.pytestmark]
    return again


globals().update({name: on_many(getattr(ops, name, None) or getattr(kernels, name)) for name in NAMES})


@pytest.mark.parametrize("model", ["mixtral", "deepseek_v3", "gpt_oss"])
def test_route_many(model):
    route.test_models(model, 6000, 256, 2.0)


@pytest.mark.parametrize("drop", ["position", "score"])
def test_route_capacity(drop):
    route.test_capacity(drop, 3)


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
@pytest.mark.parametrize("late", [False, True])
def test_route_grad_many(score, late):
    route.test_route_grad(score, late, True, True, 4000, 8, 200)


@shapes(of=MANY)
@pytest.mark.parametrize("to", ["grouped", "slot"])
def test_fold_partials_into_a_result(slots, to):
    """Where no copy follows, so that the guards of results lie beside what the kernel writes."""
    p, ids = slots.poison(random(slots.slots, 3), "grouped"), f"tensor<?x{slots.k}xi32>"
    shape = f"tensor<?x{slots.k}xf64>" if to == "slot" else "tensor<?xf64>"
    (folded,) = gpu.run_gpu(f"""
func.func @f(%ids: {ids}, %p: tensor<?x3xf64>) -> {shape} {{
  %a = moe.assign ids(%ids : {ids}) : {slots.type}
  %zero = arith.constant 0 : index
  %n = tensor.dim {f"%ids, %zero : {ids}" if to == "slot" else "%p, %zero : tensor<?x3xf64>"}
  %o = tensor.empty(%n) : {shape}
  %s = moe.fold_partials %p : tensor<?x3xf64> by %a : {slots.type} to {to} outs(%o : {shape})
  return %s : {shape}
}}""", slots.ids, p)
    wanted = slots.in_order(slots.by_slot(p, "grouped").sum(1), to)
    # What lies in rows without an expert is anything.
    rows = slice(None) if to == "slot" else slice(slots.rows)
    equal(folded.reshape(-1)[rows], wanted[rows])
