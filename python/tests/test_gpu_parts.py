# SPDX-License-Identifier: Apache-2.0
"""Weight gradients of experts with so many rows that they are split: against float64, and bit by bit against
themselves and against kernels that split nothing."""

import gpu
import pytest
import torch
from oracle import ELEMENT, Slots, random
from test_gpu_resident import ids_of

pytestmark = pytest.mark.gpu

f32, bf16, f16 = torch.float32, torch.bfloat16, torch.float16

# Rows of each expert, and K. A part has at least 256 rows, a split expert twice that.
ASSIGNMENTS = {
    "hot": ([3, 0, 20000, 1, 700], 2),
    "shared": ([5000], 1),
    "bounds": ([511, 512, 513, 767, 768, 0, 1, 1025], 1),
    "every": ([4000, 3000, 5000, 2999], 4),
    "none": ([300, 200, 500, 0], 2),
    "two": ([9000, 10, 9000, 64, 0, 130], 2),
    "few": ([255, 256, 0], 1),
}


def text_of(slots, wide, high, layout, x_from, dy_from, element, result, accumulate, parts):
    e, r = ELEMENT[element], ELEMENT[result]
    x, dy, ids = f"tensor<?x{wide}x{e}>", f"tensor<?x{high}x{e}>", f"tensor<?x{slots.k}xi32>"
    shape = f"{high}x{wide}" if layout == "out_in" else f"{wide}x{high}"
    w = f"tensor<{slots.experts}x{shape}x{r}>"
    return f"""
func.func @f(%ids: {ids}, %x: {x}, %dy: {dy}, %w: {w}) -> {w} {{
  %a = moe.assign ids(%ids : {ids}) : {slots.type}
  %0 = moe.grouped_outer by %a : {slots.type} x(%x from {x_from} : {x}) dy(%dy from {dy_from} : {dy})
      {layout} {"accumulate" if accumulate else ""} outs(%w : {w}) {{moe.config = #moe.config<cooperative{parts}>}}
  return %0 : {w}
}}"""


def rows_of(slots, order, width, element):
    """Unit-scale rows; NaN where nothing may read."""
    return slots.poison(random(slots.count(order), width, dtype=element), order)


# Assignment, columns of x and dy, layout, orders, types, whether a buffer is added to, and parts.
CASES = [
    ("hot", 72, 136, "out_in", "token", "grouped", bf16, bf16, False, 16),
    ("hot", 264, 200, "in_out", "token", "grouped", bf16, bf16, True, 16),
    ("hot", 264, 136, "out_in", "grouped", "grouped", bf16, f32, True, 5),
    ("hot", 72, 136, "out_in", "slot", "grouped", f16, f32, False, 16),
    ("hot", 8, 8, "in_out", "grouped", "slot", f16, f16, True, 78),
    ("shared", 64, 72, "out_in", "grouped", "grouped", bf16, bf16, False, None),
    ("shared", 520, 264, "out_in", "token", "grouped", bf16, bf16, True, None),
    ("shared", 64, 72, "in_out", "token", "slot", bf16, f32, True, 19),
    ("bounds", 72, 136, "out_in", "token", "grouped", bf16, bf16, False, 64),
    ("bounds", 72, 136, "in_out", "grouped", "grouped", f16, f16, True, 64),
    ("bounds", 72, 136, "out_in", "grouped", "token", bf16, f32, False, 64),
    ("every", 264, 136, "out_in", "token", "grouped", bf16, bf16, False, 30),
    ("every", 264, 136, "out_in", "token", "grouped", bf16, f32, True, 8),
    ("none", 72, 136, "out_in", "token", "grouped", bf16, bf16, True, 64),
    ("two", 136, 328, "in_out", "slot", "grouped", bf16, bf16, True, 20),
    ("two", 136, 328, "out_in", "token", "grouped", bf16, bf16, False, 2),
    ("few", 72, 136, "out_in", "token", "grouped", bf16, f32, True, 64),
]


def split_experts(counts, rows, parts):
    """Those that are split, as docs/NVTile.md says."""
    long = max(-(-rows // parts), 256)
    return [e for e, count in enumerate(counts) if count // (-(-long // 64) * 64) >= 2]


@pytest.mark.parametrize("name, wide, high, layout, x_from, dy_from, element, result, accumulate, parts", CASES)
def test_split_experts(name, wide, high, layout, x_from, dy_from, element, result, accumulate, parts):
    counts, k = ASSIGNMENTS[name]
    slots = Slots(ids_of(counts, k), len(counts))
    x, dy = rows_of(slots, x_from, wide, element), rows_of(slots, dy_from, high, element)
    shape = (len(counts), high, wide) if layout == "out_in" else (len(counts), wide, high)
    before = random(*shape, dtype=result) * 10 if accumulate else torch.full(shape, float("nan"), dtype=result)
    kinds = (wide, high, layout, x_from, dy_from, element, result, accumulate)
    given = (slots.ids, x, dy, before)
    text = text_of(slots, *kinds, f" parts {parts}" if parts else "")
    (actual,) = gpu.run_gpu(text, *given)
    assert torch.equal(actual, gpu.run_gpu(text, *given)[0])

    x, dy = slots.by_slot(x, x_from).double(), slots.by_slot(dy, dy_from).double()
    wanted = torch.zeros(len(counts), high, wide, dtype=torch.float64)
    for e in range(len(counts)):
        mine = slots.expert == e
        wanted[e] = dy[mine].T @ x[mine]
    wanted = wanted if layout == "out_in" else wanted.transpose(1, 2)
    wanted = wanted + before.double() if accumulate else wanted
    # Sums of many rows in f32 on the matrix unit, which cuts its terms: their error is one of the largest sum.
    scale = wanted.abs().amax((1, 2), keepdim=True)
    allowed = 0.51 * torch.finfo(result).eps * wanted.abs() + 1e-4 * scale
    error = (actual.double() - wanted).abs()
    assert (error <= allowed).all(), (error - allowed).amax((1, 2))

    # What is not split has the bits of a kernel that splits nothing.
    (whole,) = gpu.run_gpu(text_of(slots, *kinds, " parts 1"), *given)
    rest = [e for e in range(len(counts)) if not parts or e not in split_experts(counts, slots.slots, parts)]
    if parts:
        assert torch.equal(actual[rest], whole[rest])


@pytest.mark.parametrize("x_from", ["token", "grouped"])
@pytest.mark.parametrize("bad", [1, 2, 3])
def test_parts_meet_no_other_rows(bad, x_from):
    """NaN and Inf in one expert's rows: no part of another has them, nor does what its last step reads past its end."""
    counts = [1500, 700, 2100, 900]
    slots = Slots(ids_of(counts, 1), len(counts))
    text = text_of(slots, 72, 136, "out_in", x_from, "grouped", bf16, bf16, False, " parts 64")
    x, dy = rows_of(slots, x_from, 72, bf16), rows_of(slots, "grouped", 136, bf16)
    empty = torch.full((len(counts), 136, 72), float("nan"), dtype=bf16)
    (clean,) = gpu.run_gpu(text, slots.ids, x, dy, empty)
    assert clean.isfinite().all()
    mine = (slots.expert == bad) if x_from == "token" else slots.expert[slots.order] == bad
    x, dy = x.clone(), dy.clone()
    x[mine] = float("nan")
    dy[slots.expert[slots.order] == bad] = float("inf")
    (dirty,) = gpu.run_gpu(text, slots.ids, x, dy, empty)
    others = [e for e in range(len(counts)) if e != bad]
    assert dirty[bad].isnan().all() and torch.equal(dirty[others], clean[others])


@pytest.mark.parametrize("slot_count", [0, 1, 511, 512])
def test_few_rows(slot_count):
    """Below two parts of rows nothing is launched to add them."""
    slots = Slots(ids_of([slot_count], 1), 1)
    text = text_of(slots, 64, 72, "out_in", "token", "grouped", bf16, f32, True, " parts 8")
    x, dy, before = rows_of(slots, "token", 64, bf16), rows_of(slots, "grouped", 72, bf16), random(1, 72, 64, dtype=f32)
    (actual,) = gpu.run_gpu(text, slots.ids, x, dy, before)
    wanted = before.double() + dy.double()[slots.position.clamp(min=0)].T @ x.double()
    assert (actual.double() - wanted).abs().max() <= 1e-4 * wanted.abs().max()
