# SPDX-License-Identifier: Apache-2.0
"""bf16 products on sizes that matrix tiles do not divide, and numbers beside a row that may not reach it.

They hold on every CPU; one with AMX multiplies tiles of 16 rows, 16 columns and 32 terms.
"""

import pathlib
import re

import moe_mlir
import pytest
import torch
from layers_reference import arguments_of, reference
from moe_mlir.layers import GatedMLP, MLP, ParallelLinear
from moe_mlir.torch import Operator
from test_gradients_torch import autograd, full_cotangents, rounded_gradients
from test_layers import as_list, check

EPS = torch.finfo(torch.bfloat16).eps
# Rows of each expert: none, one, about half a tile, one, two, and more than a task takes.
COUNTS = (0, 1, 7, 8, 9, 33, 16, 17, 0, 32, 401)
NAN, INF = float("nan"), float("inf")


def no_tiles():
    """Why no bf16 product can run on tiles here; empty where one can."""
    flags = re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    lacking = {"amx_tile", "amx_bf16", "avx512_bf16"} - set(flags.group(1).split() if flags else ())
    return f"no AMX: /proc/cpuinfo lacks {', '.join(sorted(lacking))}" if lacking else ""


def ids_of(counts, k=1, dtype=torch.int64):
    """Ids (T, k) in any order; the last expert takes one more where k does not divide the rows."""
    flat = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    flat = torch.cat([flat, flat.new_full((-len(flat) % k,), len(counts) - 1)])
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(1))
    return flat[order].reshape(-1, k).to(dtype)


def product(d, n, layout="out_in", source="token"):
    """A compiled product and its arguments: x, ids, w."""
    layer = ParallelLinear(d_in=d, d_out=n, experts=len(COUNTS), top_k=1, source=source, result="slot",
                           dtype="bf16", weight_layout=layout)
    generator = torch.Generator().manual_seed(d + n)
    ids = ids_of(COUNTS)
    x = torch.randn(len(ids), d, generator=generator).bfloat16()
    w = torch.randn(len(COUNTS), n, d, generator=generator).bfloat16()
    return moe_mlir.compile(layer), x, ids, (w if layout == "out_in" else w.mT.contiguous())


def exact(x, ids, w, layout):
    y = torch.empty(len(x), w.shape[1 if layout == "out_in" else 2], dtype=torch.float64)
    for expert in range(len(COUNTS)):
        rows = ids[:, 0] == expert
        weight = w[expert].double()
        y[rows] = x[rows].double() @ (weight.t() if layout == "out_in" else weight)
    return y


@pytest.mark.skipif(bool(no_tiles()), reason=no_tiles() or "AMX")
def test_products_are_of_tiles():
    """What the other tests of this file run on."""
    layer = ParallelLinear(d_in=64, d_out=64, experts=2, top_k=1, dtype="bf16")
    assert "amx.tile_mulf" in layer.ir("loops")


@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("d, n", [(1, 1), (8, 24), (31, 17), (33, 130), (64, 64), (515, 24), (37, 600), (1100, 70)])
def test_products(d, n, layout):
    module, x, ids, w = product(d, n, layout)
    want = exact(x, ids, w, layout)
    bound = EPS / 2 * want.abs() + 1e-6 * d**0.5 * want.abs().max()
    assert ((module(x, ids, w).double() - want).abs() <= bound).all()


@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("d, n", [(33, 24), (8, 70), (515, 40)])
def test_what_lies_beside_a_row_stays_there(d, n, value, layout):
    """Rows, columns and experts that are not finite leave the others' bits as they are."""
    module, x, ids, w = product(d, n, layout)
    clean = module(x, ids, w)
    rows = torch.arange(len(x)) % 3 == 1
    x[rows] = value
    bad = module(x, ids, w)
    assert torch.equal(bad[~rows], clean[~rows])
    assert not bad[rows].isfinite().any()
    columns = torch.arange(n) % 5 == 2
    (w if layout == "out_in" else w.mT)[:, columns] = value
    w[-1] = value
    bad, rows = module(x, ids, w), rows | (ids[:, 0] == len(COUNTS) - 1)
    assert torch.equal(bad[~rows][:, ~columns], clean[~rows][:, ~columns])
    assert not bad[:, columns].isfinite().any() and not bad[rows].isfinite().any()


@pytest.mark.parametrize("d, n, source", [(515, 300, "token"), (1100, 40, "token"), (72, 24, "slot")])
def test_a_row_alone_has_the_bits_of_the_batch(d, n, source):
    module, x, ids, w = product(d, n, source=source)
    together = module(x, ids, w)
    for row in (0, 1, 15, 16, 17, 100, 300, len(x) - 1):
        assert torch.equal(module(x[row : row + 1], ids[row : row + 1], w)[0], together[row])
    # Of the last expert: few rows, a block and one more, all.
    rows = torch.nonzero(ids[:, 0] == len(COUNTS) - 1)[:, 0]
    for count in (2, 8, 9, 16, 17, 31, 32, 33, 64, 65, 384, 385):
        assert torch.equal(module(x[rows[:count]], ids[rows[:count]], w), together[rows[:count]])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_threads_do_not_change_bits(count):
    module, x, ids, w = product(515, 600)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = module(x, ids, w)
        torch.set_num_threads(count)
        assert torch.equal(module(x, ids, w), alone)
    finally:
        torch.set_num_threads(before)


def test_smallest_numbers():
    """What is below the smallest normal number of f32 may count as zero, and nothing more."""
    module, x, ids, w = product(64, 24)
    x[:], w[:] = 2.0**-70, 2.0**-70
    assert (module(x, ids, w).double() <= 2.0**-126).all()
    x[:], w[:] = 2.0**-60, 2.0**-60
    assert torch.equal(module(x, ids, w), torch.full_like(module(x, ids, w), 64 * 2.0**-120))


SIZES = dict(d_model=37, d_expert=24, experts=len(COUNTS), top_k=2, dtype="bf16")
LAYERS = [
    GatedMLP(**SIZES),
    GatedMLP(columns="interleave", bias=True, weight_layout="in_out", **SIZES),
    GatedMLP(columns="interleave", gate_on="input", **SIZES),
    GatedMLP(columns="separate", weight_layout="in_out", **SIZES),
    MLP(**{**SIZES, "d_model": 8, "d_expert": 300}),
    MLP(bias=True, weight_layout="in_out", **{**SIZES, "d_model": 130, "d_expert": 8}),
]


@pytest.mark.parametrize("layer", LAYERS, ids=[f"{type(layer).__name__}-{n}" for n, layer in enumerate(LAYERS)])
def test_layers_and_their_gradients(layer):
    ids = ids_of(COUNTS, 2)
    named = arguments_of(layer, "forward", len(ids))
    named["ids"] = ids.to(named["ids"].dtype)
    rounded = as_list(layer.interpret(*named.values(), entry="forward", round=True))
    outputs = as_list(moe_mlir.compile(layer)(*named.values()))
    for values, want, half in zip(outputs, reference(layer, "forward", named), rounded, strict=True):
        check(values, want, half, 300)
    wanted = autograd(layer, "forward", named)
    baselines = rounded_gradients(layer, "forward", named)
    for value in named.values():
        value.requires_grad_(value.is_floating_point())
    results = as_list(Operator(layer, "forward")(*named.values()))
    torch.autograd.backward(results, full_cotangents(layer, results, named["ids"]))
    for (name, want), baseline in zip(wanted.items(), baselines, strict=True):
        check(named[name].grad, want, baseline, 300, torch.bfloat16)
