# SPDX-License-Identifier: Apache-2.0
"""What kernels can do that no single level-1 op does, against PyTorch."""

import pytest
import torch
from oracle import Slots, equal, interpret, random, shapes, type_of

SEGMENT = 128  # columns of one partial sum


def function(slots, arguments, body, results):
    ids = f"tensor<?x{slots.k}xi32>"
    parameters = ", ".join([f"%ids: {ids}"] + [f"%{n}: {t}" for n, t in arguments])
    types, values = ", ".join(t for _, t in results), ", ".join(f"%{n}" for n, _ in results)
    return f"""
func.func @f({parameters}) -> ({types}) {{
  %a = moe.assign ids(%ids : {ids}) : {slots.type}
  {body}
  return {values} : {types}
}}"""


def sum_by(slots, rows, index, size):
    """Slot rows added into `size` rows, slots without an expert left out."""
    out = torch.zeros(size, *rows.shape[1:], dtype=rows.dtype)
    return out.index_add_(0, index[slots.valid], rows[slots.valid])


def partials(rows):
    width = rows.shape[1]
    pieces = [rows[:, s : s + SEGMENT].sum(1) for s in range(0, width, SEGMENT)]
    return torch.stack(pieces, 1) if pieces else rows[:, :0]


@shapes()
@pytest.mark.parametrize(
    "width, depth, second, columns",
    [(1, 3, 2, "interleave"), (130, 3, 2, "concat"), (70, 41, 33, "interleave")],
)
def test_grouped_matmul(slots, width, depth, second, columns):
    """Two pairs, two accumulator columns, operands in three orders, all kinds of outs."""
    e, n = slots.experts, 2 * width
    x, z = random(slots.tokens, depth), slots.poison(random(slots.slots, second), "grouped")
    w, v = random(e, n, depth), random(e, second, n)
    bias, gates = random(e, width), random(slots.tokens, slots.k)
    t, s = "tensor<?x?xf64>", f"tensor<?x{slots.k}xf64>"
    rows, sums, parts = f"tensor<?x{width}xf64>", s, f"tensor<?x{-(-width // SEGMENT)}xf64>"
    init = {r: random(slots.slots, c) for r, c in (("y", width), ("u", width), ("p", -(-width // SEGMENT)))}
    init["q"] = random(slots.tokens, slots.k)
    outs = [("y", rows), ("u", rows), ("p", parts), ("q", sums)]
    xs, zs = type_of(x, [0]), type_of(z, [0])
    arguments = [("x", xs), ("z", zs), ("w", type_of(w)), ("v", type_of(v))]
    arguments += [("b", type_of(bias)), ("g", s)] + [(f"{n}0", t) for n, t in outs]
    text = function(
        slots,
        arguments,
        f"""%y, %u, %p, %q = moe.grouped_matmul by %a : {slots.type}
      pairs(%x from token, %w out_in : {xs}, {type_of(w)},
            %z from grouped, %v in_out : {zs}, {type_of(v)})
      columns <{columns} 2>
      ins(%b : {type_of(bias)} expert, %g : {s} scalar slot)
      outs(%y0 : {rows} rows grouped, %u0 : {rows} rows slot, %p0 : {parts} partials grouped, %q0 : {sums} sum slot) {{
    ^bb0(%c0: f64, %c1: f64, %bias: f64, %gate: f64):
    %s = arith.addf %c0, %bias : f64
    %m = arith.mulf %s, %gate : f64
    moe.yield %m, %c1, %s, %c1 : f64, f64, f64, f64
  }}""",
        outs,
    )
    y, u, p, q = interpret(text, slots.ids, x, z, w, v, bias, gates, *init.values())
    expert = slots.expert.clamp(max=e - 1)
    sums = torch.einsum("si,soi->so", slots.by_slot(x, "token"), w[expert])
    sums = sums + torch.einsum("si,sio->so", slots.by_slot(z, "grouped"), v[expert])
    first, second = (sums[:, 0::2], sums[:, 1::2]) if columns == "interleave" else sums.split(width, 1)
    first = first + bias[expert]
    equal(y, slots.in_order(first * gates.reshape(-1, 1), "grouped"))
    equal(u, slots.in_order(second, "slot"))
    equal(p, slots.in_order(partials(first), "grouped"))
    equal(q, slots.in_order(second.sum(1), "slot").reshape(slots.tokens, slots.k))


@shapes()
@pytest.mark.parametrize("source, width, depth", [("token", 5, 7), ("slot", 70, 33), ("grouped", 70, 33)])
def test_grouped_matmul_of_one_pair(slots, source, width, depth):
    """A GLU as `up` has it: H and A, the accumulator's columns as they lie in H."""
    x = slots.poison(random(slots.count(source), depth), source)
    w = random(slots.experts, 2 * width, depth)
    h, a = random(slots.slots, 2 * width), random(slots.slots, width)
    hs, rows = f"tensor<?x{2 * width}xf64>", f"tensor<?x{width}xf64>"
    text = function(
        slots,
        [("x", type_of(x, [0])), ("w", type_of(w)), ("h0", hs), ("a0", rows)],
        f"""%h, %y = moe.grouped_matmul by %a : {slots.type}
      pairs(%x from {source}, %w out_in : {type_of(x, [0])}, {type_of(w)}) columns <concat 2>
      ins() outs(%h0 : {hs} rows grouped concat 2, %a0 : {rows} rows grouped) {{
    ^bb0(%g: f64, %u: f64):
    %t = math.tanh %g : f64
    %m = arith.mulf %t, %u : f64
    moe.yield %g, %u, %m : f64, f64, f64
  }}""",
        [("h", hs), ("y", rows)],
    )
    h, y = interpret(text, slots.ids, x, w, h, a)
    rows = torch.einsum("si,soi->so", slots.by_slot(x, source), w[slots.expert.clamp(max=slots.experts - 1)])
    equal(h, slots.in_order(rows, "grouped"))
    equal(y, slots.in_order(rows[:, :width].tanh() * rows[:, width:], "grouped"))


@shapes()
def test_grouped_matmul_of_four_pairs(slots):
    """One accumulator of products of different depths, in all row orders and weight layouts."""
    e, n = slots.experts, 9
    sources, depths = ("token", "grouped", "slot", "grouped"), (7, 3, 33, 5)
    rows = [slots.poison(random(slots.count(s), d), s) for s, d in zip(sources, depths)]
    weights = [random(e, n, d) if i % 2 == 0 else random(e, d, n) for i, d in enumerate(depths)]
    y0 = random(slots.slots, n)
    ys = f"tensor<?x{n}xf64>"
    layouts = ("out_in", "in_out") * 2
    pairs = ", ".join(
        f"%x{i} from {s}, %w{i} {layouts[i]} : {type_of(rows[i], [0])}, {type_of(weights[i])}"
        for i, s in enumerate(sources))
    text = function(
        slots,
        [(f"x{i}", type_of(x, [0])) for i, x in enumerate(rows)]
        + [(f"w{i}", type_of(w)) for i, w in enumerate(weights)] + [("y0", ys)],
        f"""%y = moe.grouped_matmul by %a : {slots.type}
      pairs({pairs}) columns <single 1>
      ins() outs(%y0 : {ys} rows grouped) {{
    ^bb0(%v: f64):
    moe.yield %v : f64
  }}""",
        [("y", ys)],
    )
    [y] = interpret(text, slots.ids, *rows, *weights, y0)
    expert = slots.expert.clamp(max=e - 1)
    total = sum(
        torch.einsum("si,soi->so", slots.by_slot(x, s), (w.mT if i % 2 else w)[expert])
        for i, (x, s, w) in enumerate(zip(rows, sources, weights)))
    equal(y, slots.in_order(total, "grouped"))


@shapes()
@pytest.mark.parametrize("order", ["grouped", "slot"])
def test_map_rows_folds_partials(slots, order):
    """Operands in three orders; partials folded into one value a row."""
    x, y = random(slots.tokens, 3), random(slots.slots, 3)
    p = slots.poison(random(slots.slots, 2), "grouped")
    init = random(slots.slots, 3)
    rows = "tensor<?x3xf64>"
    text = function(
        slots,
        [("x", rows), ("y", rows), ("p", "tensor<?x1xf64>"), ("o", rows)],
        f"""%r = moe.map_rows {order} by %a : {slots.type}
      ins(%x : {rows} rows token, %y : {rows} rows slot, %p : tensor<?x1xf64> partials grouped)
      outs(%o : {rows} rows {order}) {{
    ^bb0(%u: f64, %v: f64, %sum: f64):
    %s = arith.addf %u, %v : f64
    %m = arith.mulf %s, %sum : f64
    moe.yield %m : f64
  }}""",
        [("r", rows)],
    )
    (r,) = interpret(text, slots.ids, x, y, p[:, :1], init)
    folded = slots.by_slot(p[:, :1], "grouped")
    expected = (slots.by_slot(x, "token") + slots.by_slot(y, "slot")) * folded
    equal(r, slots.in_order(expected, order))


@shapes()
def test_combine_rows(slots):
    """Sums over k with addends, and row sums folded beside them."""
    x = slots.poison(random(slots.slots, 150), "grouped")
    gates, addend = random(slots.tokens, slots.k), random(slots.tokens, 150)
    p = slots.poison(random(slots.slots, 2), "grouped")
    s = f"tensor<?x{slots.k}xf64>"
    text = function(
        slots,
        [("x", "tensor<?x150xf64>"), ("g", s), ("d", "tensor<?x150xf64>"), ("p", "tensor<?x2xf64>")],
        f"""%o, %f = moe.combine_rows by %a : {slots.type}
      ins(%x : tensor<?x150xf64> rows grouped, %g : {s} scalar slot)
      addends(%d : tensor<?x150xf64>) folds(%p : tensor<?x2xf64>)
      outs(%d : tensor<?x150xf64> rows token, %g : {s} scalar slot) {{
    ^bb0(%v: f64, %gate: f64):
    %m = arith.mulf %v, %gate : f64
    moe.yield %m : f64
  }}""",
        [("o", "tensor<?x150xf64>"), ("f", s)],
    )
    o, f = interpret(text, slots.ids, x, gates, addend, p)
    rows = slots.by_slot(x, "grouped") * gates.reshape(-1, 1)
    equal(o, addend + sum_by(slots, rows, slots.token, slots.tokens))
    equal(f, slots.by_slot(p, "grouped").sum(1).reshape(slots.tokens, slots.k))


@shapes()
@pytest.mark.parametrize("accumulate", [False, True])
def test_reduce_experts_and_grouped_outer(slots, accumulate):
    e = slots.experts
    x, dy = random(slots.tokens, 5), slots.poison(random(slots.slots, 3), "grouped")
    b, w = random(e, 3), random(e, 3, 5)
    flag = "accumulate" if accumulate else ""
    text = function(
        slots,
        [("x", "tensor<?x5xf64>"), ("dy", "tensor<?x3xf64>"), ("b", type_of(b)), ("w", type_of(w))],
        f"""%s = moe.reduce_experts by %a : {slots.type} {flag} ins(%dy : tensor<?x3xf64> rows grouped)
      outs(%b : {type_of(b)} expert) {{
    ^bb0(%v: f64):
    %m = arith.mulf %v, %v : f64
    moe.yield %m : f64
  }}
  %o = moe.grouped_outer by %a : {slots.type} x(%x from token : tensor<?x5xf64>)
      dy(%dy from grouped : tensor<?x3xf64>) out_in {flag} outs(%w : {type_of(w)})""",
        [("s", type_of(b)), ("o", type_of(w))],
    )
    s, o = interpret(text, slots.ids, x, dy, b, w)
    rows = slots.by_slot(dy, "grouped")
    squares = sum_by(slots, rows**2, slots.expert, e)
    outer = sum_by(slots, rows[:, :, None] * slots.by_slot(x, "token")[:, None], slots.expert, e)
    equal(s, squares + b if accumulate else squares)
    equal(o, outer + w if accumulate else outer)


@shapes()
@pytest.mark.parametrize("to", ["grouped", "slot"])
def test_fold_partials(slots, to):
    p = slots.poison(random(slots.slots, 3), "grouped")
    out = random(slots.slots) if to == "grouped" else random(slots.tokens, slots.k)
    text = function(
        slots,
        [("p", "tensor<?x3xf64>"), ("o", type_of(out, [0]))],
        f"""%s = moe.fold_partials %p : tensor<?x3xf64> by %a : {slots.type} to {to}
      outs(%o : {type_of(out, [0])})""",
        [("s", type_of(out, [0]))],
    )
    (s,) = interpret(text, slots.ids, p, out)
    equal(s, slots.in_order(slots.by_slot(p, "grouped").sum(1), to).reshape(out.shape))


def test_capacity_layout_of_sort_slots():
    """(E, capacity, d) buffers: each expert's rows begin at a multiple of the capacity."""
    text = """
func.func @f(%n: tensor<2xi32>) -> (tensor<6xi32>, tensor<6xi32>, tensor<2xi32>, tensor<2xi32>) {
  %s = tensor.empty() : tensor<6xi32>
  %e = tensor.empty() : tensor<2xi32>
  %o:4 = moe.sort_slots counts(%n : tensor<2xi32>) capacity 3 outs(%s, %s, %e, %e : tensor<6xi32>, tensor<6xi32>, tensor<2xi32>, tensor<2xi32>)
  return %o#0, %o#1, %o#2, %o#3 : tensor<6xi32>, tensor<6xi32>, tensor<2xi32>, tensor<2xi32>
}"""
    order, position, begin, end = interpret(text, torch.tensor([2, 9], dtype=torch.int32))
    assert order.tolist() == [0, 1, 2, 3, 4, 5] and position.tolist() == [0, 1, -1, 3, 4, 5]
    assert begin.tolist() == [0, 3] and end.tolist() == [2, 6]
