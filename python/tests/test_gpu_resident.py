# SPDX-License-Identifier: Apache-2.0
"""Products whose weights stay in shared memory, against float64, and bit by bit against themselves."""

import gpu
import pytest
import torch
from oracle import ELEMENT, Slots, make_ids, random

pytestmark = pytest.mark.gpu

SEGMENT = 128  # columns of one partial sum
bf16, f16 = torch.bfloat16, torch.float16


def ids_of(counts, k):
    """ids (T, k) with so many slots of each expert; what is left over has none."""
    flat = torch.cat([torch.full((c,), e) for e, c in enumerate(counts)] + [torch.full((-sum(counts) % k,), -1)])
    return flat[torch.randperm(flat.numel(), generator=torch.Generator().manual_seed(0))].reshape(-1, k).to(torch.int32)


RAGGED = [500, 0, 64, 1, 1001, 65, 0, 127, 63, 128, 129]
ASSIGNMENTS = {
    "ragged": Slots(ids_of(RAGGED, 4), len(RAGGED)),
    "none": Slots(make_ids("random", 0, 2, 3), 3),
    "one": Slots(make_ids("random", 1, 1, 3), 3),
    "sentinels": Slots(make_ids("all_sentinels", 5, 2, 4), 4),
    "hot": Slots(ids_of([3, 0, 20000, 1], 2), 4),
    "many": Slots(make_ids("distinct", 60, 16, 512), 512),
}
# Rows, contraction, columns, blocks of columns, weights.
SHAPES = [
    ("ragged", 256, 264, "single 1", "out_in"),
    ("ragged", 8, 8, "single 1", "out_in"),
    ("ragged", 72, 776, "single 1", "in_out"),
    ("ragged", 136, 72, "concat 2", "out_in"),
    ("ragged", 200, 200, "interleave 2", "out_in"),
    ("ragged", 256, 136, "concat 4", "in_out"),
    ("none", 256, 264, "single 1", "out_in"),
    ("one", 256, 264, "single 1", "out_in"),
    ("sentinels", 128, 264, "single 1", "out_in"),
    ("hot", 256, 1032, "single 1", "out_in"),
    ("hot", 192, 264, "single 1", "in_out"),
    ("many", 256, 520, "single 1", "out_in"),
    ("many", 64, 72, "single 1", "in_out"),
]


def text_of(slots, element, depth, width, columns, layout, config):
    count = int(columns.split()[1])
    out = count * width
    x, gates = f"tensor<?x{depth}x{element}>", f"tensor<?x{slots.k}xf32>"
    w = f"tensor<{slots.experts}x{out}x{depth}x{element}>"
    if layout == "in_out":
        w = f"tensor<{slots.experts}x{depth}x{out}x{element}>"
    bias = f"tensor<{slots.experts}x{width}x{element}>"
    y, z, p = f"tensor<?x{width}x{element}>", f"tensor<?x{width}xf32>", f"tensor<?x{-(-width // SEGMENT)}xf32>"
    ids = f"tensor<?x{slots.k}xi32>"
    sums = count < 4  # what partials are refused for
    outs, values, types = f"%y0 : {y} rows grouped, %z0 : {z} rows grouped", "%m, %s", "f32, f32"
    results, names = f"{y}, {z}", "%y, %z"
    if sums:
        outs, values, types = outs + f", %p0 : {p} partials grouped", values + ", %m", types + ", f32"
        results, names = results + f", {p}", names + ", %p"
    arguments = ", ".join(f"%v{i}: f32" for i in range(count))
    return f"""
func.func @f(%ids: {ids}, %x: {x}, %w: {w}, %b: {bias}, %g: {gates}) -> ({results}) {{
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : {x}
  %y0 = tensor.empty(%n) : {y}
  %z0 = tensor.empty(%n) : {z}
  %p0 = tensor.empty(%n) : {p}
  %a = moe.assign ids(%ids : {ids}) : {slots.type}
  {names} = moe.grouped_matmul by %a : {slots.type}
      pairs(%x from grouped, %w {layout} : {x}, {w}) columns <{columns}>
      ins(%b : {bias} expert, %g : {gates} scalar slot) outs({outs}) attributes {{moe.config = #moe.config<{config}>}} {{
    ^bb0({arguments}, %bias: f32, %gate: f32):
    %s = arith.addf %v{count - 1}, %bias : f32
    %h = arith.addf %s, %v0 : f32
    %m = arith.mulf %h, %gate : f32
    moe.yield {values} : {types}
  }}
  return {names} : {results}
}}"""


# The types differ in the instruction alone.
CASES = [(*shape, element) for element in (bf16, f16) for shape in SHAPES if element == bf16 or shape[0] == "ragged"]


@pytest.mark.parametrize("name, depth, width, columns, layout, element", CASES)
def test_resident_weights(name, depth, width, columns, layout, element):
    slots = ASSIGNMENTS[name]
    count, rows = int(columns.split()[1]), slots.rows
    x = slots.poison(random(slots.slots, depth, dtype=element), "grouped")
    w = (random(slots.experts, count * width, depth) * depth**-0.5).to(element)
    bias, gates = random(slots.experts, width, dtype=element), random(slots.tokens, slots.k, dtype=torch.float32)
    weights = w.transpose(1, 2).contiguous() if layout == "in_out" else w
    text = text_of(slots, ELEMENT[element], depth, width, columns, layout, 'resident')
    arguments = (slots.ids, x, weights, bias, gates)
    results = gpu.run_gpu(text, *arguments)

    expert = slots.expert[slots.order[:rows]]
    product = torch.cat([x[:rows][expert == e].double() @ w[e].double().T for e in range(slots.experts)])
    first, last = product[:, :width], product[:, -width:]
    if columns.startswith("interleave"):
        first, last = product[:, ::count], product[:, count - 1 :: count]
    second = last + bias.double()[expert]
    wanted = (second + first) * gates.double().reshape(-1, 1)[slots.order[:rows]]
    parts = [wanted[:, s : s + SEGMENT].sum(1, keepdim=True) for s in range(0, width, SEGMENT)]
    for actual, expected in zip(results, (wanted, second, torch.cat(parts, 1))):
        # Results are the caller's, NaN before: rows of no expert are not written.
        assert actual.shape[0] == slots.slots and actual[rows:].isnan().all()
        scale = expected.abs().max() if expected.numel() else 0.0
        eps = torch.finfo(actual.dtype).eps
        error = (actual[:rows].double() - expected).abs()
        assert (error <= 0.51 * eps * expected.abs() + 5e-6 * scale).all(), error.max()
    again = gpu.run_gpu(text, *arguments)
    for one, two in zip(results, again):
        assert torch.equal(one.nan_to_num(7.0), two.nan_to_num(7.0))
