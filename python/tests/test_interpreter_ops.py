# SPDX-License-Identifier: Apache-2.0
"""The oracle's ops against PyTorch in double precision, on the awkward shapes."""

import pytest
import torch
from oracle import NAN, Slots, equal, interpret, make_ids, random, shapes, type_of

I64_TO_I32 = 2**32


def function(slots, arguments, body, results):
    """A function of ids and more arguments; `%a` is the assignment."""
    ids = f"tensor<?x{slots.k}x{'i64' if slots.ids.dtype == torch.int64 else 'i32'}>"
    parameters = ", ".join([f"%ids: {ids}"] + [f"%{n}: {t}" for n, t in arguments])
    types = ", ".join(t for _, t in results)
    values = ", ".join(f"%{n}" for n, _ in results)
    return f"""
func.func @f({parameters}) -> ({types}) {{
  %a = moe.assign ids(%ids : {ids}) : {slots.type}
  {body}
  return {values} : {types}
}}"""


# ---------------------------------------------------------------- assignments


def tables(slots):
    e = slots.experts
    return function(
        slots,
        [],
        f"%o, %p, %b, %e = moe.unpack_assignment %a : {slots.type}"
        f" -> tensor<?xi32>, tensor<?xi32>, tensor<{e}xi32>, tensor<{e}xi32>",
        [("o", "tensor<?xi32>"), ("p", "tensor<?xi32>"), ("b", f"tensor<{e}xi32>"), ("e", f"tensor<{e}xi32>")],
    )


@shapes()
def test_assign_ids(slots):
    order, position, begin, end = interpret(tables(slots), slots.ids)
    # Sentinel slots follow, ascending, so that the order is a permutation.
    equal(order, slots.order.int())
    equal(position, slots.position.int())
    equal(begin, slots.begin.int())
    equal(end, slots.end.int())


def test_assign_ids_tests_range_before_narrowing():
    ids = torch.tensor([[0, I64_TO_I32], [I64_TO_I32 + 1, 1], [-I64_TO_I32, -(2**63)]])
    slots = Slots(ids, 2)
    assert slots.rows == 2
    order, position, _, end = interpret(tables(slots), ids)
    equal(position, torch.tensor([0, -1, -1, 1, -1, -1], dtype=torch.int32))
    equal(order[:2], torch.tensor([0, 3], dtype=torch.int32))
    equal(end, torch.tensor([1, 2], dtype=torch.int32))


def test_assign_ids_of_32_bits_out_of_range():
    ids = torch.tensor([[0, -1], [2, 1], [2**31 - 1, -(2**31)]], dtype=torch.int32)
    slots = Slots(ids, 2)
    assert slots.rows == 2
    _, position, _, end = interpret(tables(slots), ids)
    equal(position, torch.tensor([0, -1, -1, 1, -1, -1], dtype=torch.int32))
    equal(end, torch.tensor([1, 2], dtype=torch.int32))


@pytest.mark.parametrize(
    "counts, capacity, begin, end",
    [
        ([2, 0, 3], None, [0, 2, 2], [2, 2, 5]),
        ([2, 0, 9], None, [0, 2, 2], [2, 2, 7]),  # cut at T
        ([9, 2, 1], None, [0, 7, 7], [7, 7, 7]),
        ([2, -4, 3], None, [0, 2, 2], [2, 2, 5]),  # negative is 0
        ([2, 0, 1], 2, [0, 2, 4], [2, 2, 5]),
        ([9, 1, 9], 2, [0, 2, 4], [2, 3, 6]),  # cut at the capacity
        ([2, 2, 3], 3, [0, 3, 6], [2, 5, 7]),  # cut at T
        ([I64_TO_I32, 1, 2**62], None, [0, 7, 7], [7, 7, 7]),
    ],
)
def test_assign_counts(counts, capacity, begin, end):
    text = f"""
func.func @f(%n: tensor<3xi64>, %x: tensor<?x2xf64>) -> (tensor<?xi32>, tensor<?xi32>, tensor<3xi32>, tensor<3xi32>, tensor<?x2xf64>) {{
  %zero = arith.constant 0 : index
  %t = tensor.dim %x, %zero : tensor<?x2xf64>
  %a = moe.assign counts(%n : tensor<3xi64>) rows(%t) {f"capacity {capacity}" if capacity else ""} : !moe.assignment<?x1, 3>
  %o, %p, %b, %e = moe.unpack_assignment %a : !moe.assignment<?x1, 3> -> tensor<?xi32>, tensor<?xi32>, tensor<3xi32>, tensor<3xi32>
  %g = moe.group %x from slot by %a : tensor<?x2xf64>, !moe.assignment<?x1, 3> -> tensor<?x2xf64>
  return %o, %p, %b, %e, %g : tensor<?xi32>, tensor<?xi32>, tensor<3xi32>, tensor<3xi32>, tensor<?x2xf64>
}}"""
    x = random(7, 2)
    o, p, b, e, g = interpret(text, torch.tensor(counts), x)
    covered = torch.zeros(7, dtype=torch.bool)
    for low, high in zip(begin, end):
        covered[low:high] = True
    row = torch.arange(7, dtype=torch.int32)
    equal(o, row)
    equal(p, torch.where(covered, row, torch.full_like(row, -1)))
    equal(b, torch.tensor(begin, dtype=torch.int32))
    equal(e, torch.tensor(end, dtype=torch.int32))
    equal(g, torch.where(covered[:, None], x, torch.full_like(x, NAN)))


def test_pack_assignment_with_gaps():
    """Padded layouts: gaps between the experts are read by nobody."""
    text = """
func.func @f(%o: tensor<?xi32>, %p: tensor<?xi32>, %b: tensor<2xi32>, %e: tensor<2xi32>, %x: tensor<?x1xf64>) -> tensor<?x1xf64> {
  %a = moe.pack_assignment %o, %p, %b, %e : tensor<?xi32>, tensor<?xi32>, tensor<2xi32>, tensor<2xi32> -> !moe.assignment<?x1, 2>
  %s = moe.scatter %x by %a : tensor<?x1xf64>, !moe.assignment<?x1, 2> -> tensor<?x1xf64>
  return %s : tensor<?x1xf64>
}"""
    order = torch.tensor([3, -9, 1, 0, 77], dtype=torch.int32)
    position = torch.tensor([3, 2, -1, 0, -1], dtype=torch.int32)
    begin, end = torch.tensor([0, 2], dtype=torch.int32), torch.tensor([1, 4], dtype=torch.int32)
    x = torch.tensor([[10.0], [NAN], [20.0], [30.0], [NAN]], dtype=torch.float64)
    (scattered,) = interpret(text, order, position, begin, end, x)
    equal(scattered, torch.tensor([[30.0], [20.0], [0.0], [10.0], [0.0]], dtype=torch.float64))


# ---------------------------------------------------------------- moving rows


@shapes()
@pytest.mark.parametrize("order", ["token", "slot"])
@pytest.mark.parametrize("width", [None, 1, 5])
def test_group(slots, order, width):
    table = (slots.tokens,) if order == "token" else (slots.tokens, slots.k)
    x = random(*table) if width is None else random(slots.count(order), width)
    result = "tensor<?xf64>" if width is None else f"tensor<?x{width}xf64>"
    text = function(
        slots,
        [("x", type_of(x, [0]))],
        f"%g = moe.group %x from {order} by %a : {type_of(x, [0])}, {slots.type} -> {result}",
        [("g", result)],
    )
    rows = x if width else x.reshape(-1)
    (grouped,) = interpret(text, slots.ids, x)
    equal(grouped, slots.in_order(slots.by_slot(rows, order), "grouped"))


@shapes()
@pytest.mark.parametrize("width", [None, 1, 5])
def test_scatter(slots, width):
    x = random(slots.slots) if width is None else random(slots.slots, width)
    x = slots.poison(x, "grouped")
    result = f"tensor<?x{slots.k}xf64>" if width is None else type_of(x, [0])
    text = function(
        slots,
        [("x", type_of(x, [0]))],
        f"%s = moe.scatter %x by %a : {type_of(x, [0])}, {slots.type} -> {result}",
        [("s", result)],
    )
    expected = slots.by_slot(x, "grouped")
    (scattered,) = interpret(text, slots.ids, x)
    equal(scattered, expected if width else expected.reshape(slots.tokens, slots.k))


@shapes()
@pytest.mark.parametrize("order", ["slot", "grouped"])
@pytest.mark.parametrize("gated", [False, True])
def test_combine(slots, order, gated):
    x = slots.poison(random(slots.slots, 5), order)
    gates = slots.poison(random(slots.tokens, slots.k).reshape(-1), "slot").reshape(slots.tokens, slots.k)
    text = function(
        slots,
        [("x", "tensor<?x5xf64>"), ("g", f"tensor<?x{slots.k}xf64>")],
        f"%o = moe.combine %x from {order} by %a {f'gates(%g : tensor<?x{slots.k}xf64>)' if gated else ''}"
        f" : tensor<?x5xf64>, {slots.type} -> tensor<?x5xf64>",
        [("o", "tensor<?x5xf64>")],
    )
    rows = slots.by_slot(x, order).reshape(slots.tokens, slots.k, 5)
    if gated:
        rows = rows * slots.by_slot(gates.reshape(-1), "slot").reshape(slots.tokens, slots.k, 1)
    (out,) = interpret(text, slots.ids, x, gates)
    equal(out, rows.sum(1))


@shapes()
@pytest.mark.parametrize("order", ["slot", "grouped"])
def test_combine_scalars(slots, order):
    x = slots.poison(random(slots.slots), order)
    argument = x.reshape(slots.tokens, slots.k) if order == "slot" else x
    text = function(
        slots,
        [("x", type_of(argument, [0]))],
        f"%o = moe.combine %x from {order} by %a : {type_of(argument, [0])}, {slots.type} -> tensor<?xf64>",
        [("o", "tensor<?xf64>")],
    )
    (out,) = interpret(text, slots.ids, argument)
    equal(out, slots.by_slot(x, order).reshape(slots.tokens, slots.k).sum(1))


# ------------------------------------------------------------- math by expert


def slot_linear(slots, rows, weights, bias):
    """Rows in slot order times each slot's weight (E, out, in)."""
    expert = slots.expert.clamp(max=slots.experts - 1)
    out = torch.einsum("si,soi->so", rows, weights[expert])
    return out + bias[expert] if bias is not None else out


@shapes()
@pytest.mark.parametrize("source", ["token", "slot", "grouped"])
@pytest.mark.parametrize("to", ["slot", "grouped"])
@pytest.mark.parametrize("layout, biased", [("out_in", False), ("in_out", True)])
def test_parallel_linear(slots, source, to, layout, biased):
    x = slots.poison(random(slots.count(source), 5), source)
    weights, bias = random(slots.experts, 3, 5), random(slots.experts, 3)
    stored = weights if layout == "out_in" else weights.transpose(1, 2).contiguous()
    text = function(
        slots,
        [("x", "tensor<?x5xf64>"), ("w", type_of(stored)), ("b", type_of(bias))],
        f"%y = moe.parallel_linear %x, %w by %a from {source} to {to} {layout}"
        f" {f'bias(%b : {type_of(bias)})' if biased else ''}"
        f" : tensor<?x5xf64>, {type_of(stored)}, {slots.type} -> tensor<?x3xf64>",
        [("y", "tensor<?x3xf64>")],
    )
    (y,) = interpret(text, slots.ids, x, stored, bias)
    rows = slot_linear(slots, slots.by_slot(x, source), weights, bias if biased else None)
    equal(y, slots.in_order(rows, to))


@shapes()
@pytest.mark.parametrize("x_from", ["token", "slot", "grouped"])
@pytest.mark.parametrize("dy_from", ["token", "slot", "grouped"])
@pytest.mark.parametrize("layout, accumulate", [("out_in", False), ("in_out", True)])
def test_weight_grad(slots, x_from, dy_from, layout, accumulate):
    x = slots.poison(random(slots.count(x_from), 5), x_from)
    dy = slots.poison(random(slots.count(dy_from), 3), dy_from)
    expected = torch.zeros(slots.experts, 3, 5, dtype=torch.float64)
    outer = slots.by_slot(dy, dy_from)[:, :, None] * slots.by_slot(x, x_from)[:, None, :]
    expected.index_add_(0, slots.expert[slots.valid], outer[slots.valid])
    if layout == "in_out":
        expected = expected.transpose(1, 2)
    buffer = random(*expected.shape)
    t = type_of(buffer)
    text = function(
        slots,
        [("x", "tensor<?x5xf64>"), ("dy", "tensor<?x3xf64>"), ("b", t)],
        f"%dw = moe.weight_grad %x from {x_from}, %dy from {dy_from} by %a {layout}"
        f" {f'accumulate(%b : {t})' if accumulate else ''}"
        f" : tensor<?x5xf64>, tensor<?x3xf64>, {slots.type} -> {t}",
        [("dw", t)],
    )
    (dw,) = interpret(text, slots.ids, x, dy, buffer)
    equal(dw, expected + buffer if accumulate else expected.contiguous())


@shapes()
@pytest.mark.parametrize("order", ["token", "slot", "grouped"])
def test_expert_sum(slots, order):
    x = slots.poison(random(slots.count(order), 5), order)
    t = f"tensor<{slots.experts}x5xf64>"
    text = function(
        slots,
        [("x", "tensor<?x5xf64>")],
        f"%s = moe.expert_sum %x from {order} by %a : tensor<?x5xf64>, {slots.type} -> {t}",
        [("s", t)],
    )
    expected = torch.zeros(slots.experts, 5, dtype=torch.float64)
    expected.index_add_(0, slots.expert[slots.valid], slots.by_slot(x, order)[slots.valid])
    (out,) = interpret(text, slots.ids, x)
    equal(out, expected)


# -------------------------------------------------------------------- rowwise

SWIGLU = """
    %one = arith.constant 1.0 : f64
    %neg = arith.negf %gate : f64
    %exp = math.exp %neg : f64
    %den = arith.addf %one, %exp : f64
    %silu = arith.divf %gate, %den : f64
    %act = arith.mulf %silu, %up : f64"""


@shapes()
@pytest.mark.parametrize("layout", ["concat", "interleave"])
@pytest.mark.parametrize("order", ["slot", "grouped"])
def test_rowwise_glu(slots, layout, order):
    h = slots.poison(random(slots.slots, 14), order)
    text = function(
        slots,
        [("h", "tensor<?x14xf64>")],
        f"""%y = moe.rowwise {order} by %a : {slots.type} ins(%h : tensor<?x14xf64> rows {layout} 2)
      outs(tensor<?x7xf64> rows) {{
    ^bb0(%gate: f64, %up: f64): {SWIGLU}
    moe.yield %act : f64
  }}""",
        [("y", "tensor<?x7xf64>")],
    )
    (y,) = interpret(text, slots.ids, h)
    rows = slots.by_slot(h, order)
    gate, up = rows.chunk(2, 1) if layout == "concat" else (rows[:, 0::2], rows[:, 1::2])
    equal(y, slots.in_order(torch.nn.functional.silu(gate) * up, order))


@shapes()
@pytest.mark.parametrize("order", ["slot", "grouped"])
def test_rowwise_bias_gates_and_sums(slots, order):
    """Expert vectors, row scalars, two results with columns and a row sum."""
    x = slots.poison(random(slots.slots, 5), order)
    gates = slots.poison(random(slots.slots, seed=3), order)
    table = gates.reshape(slots.tokens, slots.k) if order == "slot" else gates
    bias = random(slots.experts, 10)
    scalar = type_of(table, [0])
    text = function(
        slots,
        [("x", "tensor<?x5xf64>"), ("g", scalar), ("b", type_of(bias))],
        f"""%y, %z, %s = moe.rowwise {order} by %a : {slots.type}
      ins(%x : tensor<?x5xf64> rows, %g : {scalar} scalar, %b : {type_of(bias)} expert interleave 2)
      outs(tensor<?x5xf64> rows, tensor<?x10xf64> rows concat 2, {scalar} sum) {{
    ^bb0(%v: f64, %gate: f64, %b0: f64, %b1: f64):
    %s0 = arith.addf %v, %b0 : f64
    %s1 = arith.mulf %s0, %gate : f64
    %s2 = arith.addf %v, %b1 : f64
    %dot = arith.mulf %s1, %v : f64
    moe.yield %s1, %s0, %s2, %dot : f64, f64, f64, f64
  }}""",
        [("y", "tensor<?x5xf64>"), ("z", "tensor<?x10xf64>"), ("s", scalar)],
    )
    y, z, s = interpret(text, slots.ids, x, table, bias)
    rows, gate = slots.by_slot(x, order), slots.by_slot(gates, order)[:, None]
    b = bias[slots.expert.clamp(max=slots.experts - 1)]
    first = (rows + b[:, 0::2]) * gate
    equal(y, slots.in_order(first, order))
    equal(z, slots.in_order(torch.cat([rows + b[:, 0::2], rows + b[:, 1::2]], 1), order))
    total = slots.in_order((first * rows).sum(1), order)
    equal(s, total.reshape(table.shape))


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_rowwise_without_assignment(rows):
    """Token order; and slot order, where every row is a row."""
    x, g = random(rows, 3), random(rows)
    text = """
func.func @f(%x: tensor<?x3xf64>, %g: tensor<?xf64>) -> (tensor<?x3xf64>, tensor<?xf64>, tensor<?x3xf64>) {
  %y, %s = moe.rowwise token ins(%x : tensor<?x3xf64> rows, %g : tensor<?xf64> scalar) outs(tensor<?x3xf64> rows, tensor<?xf64> sum) {
  ^bb0(%v: f64, %gate: f64):
    %r = arith.mulf %v, %gate : f64
    moe.yield %r, %v : f64, f64
  }
  %z = moe.rowwise slot ins(%x : tensor<?x3xf64> rows) outs(tensor<?x3xf64> rows) {
  ^bb0(%v: f64):
    %r = math.absf %v : f64
    moe.yield %r : f64
  }
  return %y, %s, %z : tensor<?x3xf64>, tensor<?xf64>, tensor<?x3xf64>
}"""
    y, s, z = interpret(text, x, g)
    equal(y, x * g[:, None])
    equal(s, x.sum(1))
    equal(z, x.abs())


def test_zero_widths():
    """Experts of width 0 are sums over nothing."""
    slots = Slots(make_ids("distinct", 3, 2, 4), 4)
    text = function(
        slots,
        [("x", "tensor<?x2xf64>"), ("w", "tensor<4x0x2xf64>"), ("v", "tensor<4x2x0xf64>")],
        f"""%h = moe.parallel_linear %x, %w by %a from token to grouped out_in
      : tensor<?x2xf64>, tensor<4x0x2xf64>, {slots.type} -> tensor<?x0xf64>
  %s = moe.rowwise grouped by %a : {slots.type} ins(%h : tensor<?x0xf64> rows) outs(tensor<?xf64> sum) {{
  ^bb0(%z: f64):
    moe.yield %z : f64
  }}
  %y = moe.parallel_linear %h, %v by %a from grouped to slot out_in
      : tensor<?x0xf64>, tensor<4x2x0xf64>, {slots.type} -> tensor<?x2xf64>""",
        [("y", "tensor<?x2xf64>"), ("s", "tensor<?xf64>")],
    )
    y, s = interpret(text, slots.ids, random(3, 2), torch.zeros(4, 0, 2).double(), torch.zeros(4, 2, 0).double())
    equal(y, torch.zeros(6, 2, dtype=torch.float64))
    equal(s, torch.zeros(6, dtype=torch.float64))


# ------------------------------------------- unspecified rows, and roundings


def test_unspecified_rows_are_seen():
    """A computation that reads rows outside the ranges gives NaN."""
    slots = Slots(torch.tensor([[0], [-1]], dtype=torch.int32), 2)
    text = function(
        slots,
        [("x", "tensor<?x1xf64>")],
        f"""%g = moe.group %x from token by %a : tensor<?x1xf64>, {slots.type} -> tensor<?x1xf64>
  %zero = arith.subf %g, %g : tensor<?x1xf64>""",
        [("zero", "tensor<?x1xf64>")],
    )
    (out,) = interpret(text, slots.ids, random(2, 1))
    equal(out, torch.tensor([[0.0], [NAN]], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_round(dtype):
    """With --round each tensor is rounded as PyTorch rounds; without, none is."""
    slots = Slots(make_ids("distinct", 5, 2, 3), 3)
    e = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}[dtype]
    x, w = random(5, 6, dtype=dtype), random(3, 4, 6, dtype=dtype)
    text = function(
        slots,
        [("x", f"tensor<?x6x{e}>"), ("w", f"tensor<3x4x6x{e}>")],
        f"""%y = moe.parallel_linear %x, %w by %a from token to slot out_in
      : tensor<?x6x{e}>, tensor<3x4x6x{e}>, {slots.type} -> tensor<?x4x{e}>
  %z = arith.mulf %y, %y : tensor<?x4x{e}>
  %wide = arith.extf %z : tensor<?x4x{e}> to tensor<?x4xf64>""",
        [("y", f"tensor<?x4x{e}>"), ("wide", "tensor<?x4xf64>")],
    )
    exact = slot_linear(slots, x.double()[slots.token], w.double(), None)
    y, z = interpret(text, slots.ids, x, w, round=True)
    rounded = exact.to(dtype)
    assert torch.equal(y, rounded)
    assert torch.equal(z, (rounded.double() ** 2).to(dtype).double())
    _, z = interpret(text, slots.ids, x, w)
    equal(z, exact**2)


def test_extreme_bfloat16():
    """Subnormals, overflow and ties round as in PyTorch."""
    x = torch.tensor([1e-40, -3e-41, 3.4e38, 3.3961e38, 1 + 2**-8, 1 + 3 * 2**-8, 0.0, -0.0], dtype=torch.float32)
    h = torch.tensor([6e-8, 65519.0, 65520.0, 3e-8, 2.98e-8, -1e-30, 1 + 2**-11, 1 + 3 * 2**-11], dtype=torch.float32)
    text = """
func.func @f(%x: tensor<8xf32>, %h: tensor<8xf32>) -> (tensor<8xbf16>, tensor<8xf16>) {
  %y = arith.truncf %x : tensor<8xf32> to tensor<8xbf16>
  %z = arith.truncf %h : tensor<8xf32> to tensor<8xf16>
  return %y, %z : tensor<8xbf16>, tensor<8xf16>
}"""
    for flag in (False, True):
        y, z = interpret(text, x, h, round=flag)
        assert torch.equal(y.view(torch.int16), x.bfloat16().view(torch.int16))
        assert torch.equal(z.view(torch.int16), h.half().view(torch.int16))
