# SPDX-License-Identifier: Apache-2.0
"""First and second derivatives of every level-1 op but routes, in float64."""

import pytest
import torch
from gradients import check
from oracle import random, shapes


# Each layout meets each order, but not at each shape: the tests are many.
LAYOUTS = ["out_in", "in_out"]


def signature(*arguments):
    return ", ".join(f"%{name}: {type_}" for name, type_ in arguments)


def t(*sizes, e="f64"):
    return f"tensor<{'x'.join(map(str, sizes))}x{e}>"


class Source:
    """Rows of an order as a function gets them: grouped ones from slot rows."""

    def __init__(self, slots, order, name, width):
        self.order = order
        self.slots = slots
        self.type = t("?", width)
        self.argument = (name, self.type)
        self.name = f"%{name}"
        self.setup = ""
        if order == "grouped":
            self.name = f"%{name}g"
            self.setup = (
                f"{self.name} = moe.group %{name} from slot by %a : {self.type}, {slots.type} -> {self.type}\n"
            )

    def random(self, width, seed):
        count = self.slots.tokens if self.order == "token" else self.slots.slots
        return random(count, width, seed=seed)

    def by_slot(self, rows):
        return self.slots.by_slot(rows, "token" if self.order == "token" else "slot")


def assign(slots):
    return f"%a = moe.assign ids(%ids : tensor<?x{slots.k}xi32>) : {slots.type}\n"


def combine(slots, slot_rows):
    return slot_rows.reshape(slots.tokens, slots.k, slot_rows.shape[1]).sum(1)


@shapes()
@pytest.mark.parametrize("source", ["slot", "grouped"])
@pytest.mark.parametrize("gated", [False, True])
def test_combine(slots, source, gated):
    rows = Source(slots, source, "x", 3)
    gates = f"gates(%g : {t('?', slots.k)})" if gated else ""
    text = f"""
func.func @f({signature(("ids", f"tensor<?x{slots.k}xi32>"), rows.argument, ("g", t("?", slots.k)))}) -> {t("?", 3)} {{
  {assign(slots)}{rows.setup}
  %o = moe.combine {rows.name} from {source} by %a {gates} : {rows.type}, {slots.type} -> {t("?", 3)}
  return %o : {t("?", 3)}
}}"""

    def function(ids, x, g):
        x = rows.by_slot(x)
        return combine(slots, x * g.reshape(-1, 1) if gated else x)

    arguments = [slots.ids, rows.random(3, 1), random(slots.tokens, slots.k, seed=2)]
    check(text, function, arguments, [1, 2])


@shapes()
def test_moves_of_scalars(slots):
    """Token and slot scalars grouped, scattered, and summed from both orders."""
    k, s = slots.k, slots.type
    text = f"""
func.func @f(%ids: tensor<?x{k}xi32>, %x: {t("?")}, %y: {t("?", k)}) -> ({t("?", k)}, {t("?")}, {t("?")}) {{
  {assign(slots)}
  %g = moe.group %x from token by %a : {t("?")}, {s} -> {t("?")}
  %h = moe.group %y from slot by %a : {t("?", k)}, {s} -> {t("?")}
  %p = arith.mulf %g, %h : {t("?")}
  %o = moe.scatter %p by %a : {t("?")}, {s} -> {t("?", k)}
  %c = moe.combine %p from grouped by %a : {t("?")}, {s} -> {t("?")}
  %d = moe.combine %y from slot by %a : {t("?", k)}, {s} -> {t("?")}
  return %o, %c, %d : {t("?", k)}, {t("?")}, {t("?")}
}}"""

    def function(ids, x, y):
        y = slots.by_slot(y.reshape(-1), "slot").reshape(slots.tokens, k)
        p = slots.by_slot(x, "token").reshape(slots.tokens, k) * y
        return p, p.sum(1), y.sum(1)

    check(text, function, [slots.ids, random(slots.tokens), random(slots.tokens, k)], [1, 2])


@shapes()
@pytest.mark.parametrize("source", ["token", "slot", "grouped"])
@pytest.mark.parametrize("to", ["slot", "grouped"])
def test_parallel_linear(slots, source, to):
    layout = LAYOUTS[(source == "slot") ^ (to == "slot") ^ slots.tokens % 2]
    d, n, e = 3, 2, slots.experts
    rows = Source(slots, source, "x", d)
    w = t(e, n, d) if layout == "out_in" else t(e, d, n)
    text = f"""
func.func @f({signature(("ids", f"tensor<?x{slots.k}xi32>"), rows.argument, ("w", w), ("b", t(e, n)), ("g", t("?", slots.k)))}) -> {t("?", n)} {{
  {assign(slots)}{rows.setup}
  %y = moe.parallel_linear {rows.name}, %w by %a from {source} to {to} {layout} bias(%b : {t(e, n)})
      : {rows.type}, {w}, {slots.type} -> {t("?", n)}
  %o = moe.combine %y from {to} by %a gates(%g : {t("?", slots.k)}) : {t("?", n)}, {slots.type} -> {t("?", n)}
  return %o : {t("?", n)}
}}"""

    def function(ids, x, w, b, g):
        return combine(slots, linear(slots, rows.by_slot(x), w, layout, b) * g.reshape(-1, 1))

    weights = random(e, n, d, seed=2) if layout == "out_in" else random(e, d, n, seed=2)
    arguments = [slots.ids, rows.random(d, 1), weights, random(e, n, seed=3), random(slots.tokens, slots.k, seed=4)]
    check(text, function, arguments, [1, 2, 3, 4])


def linear(slots, x, w, layout="out_in", bias=None):
    """Slot rows times their expert's weight; zeros for sentinels."""
    if layout == "in_out":
        w = w.transpose(1, 2)
    expert = slots.expert.clamp(max=slots.experts - 1)
    y = torch.einsum("sd,snd->sn", x, w[expert])
    if bias is not None:
        y = y + bias[expert]
    return slots.by_slot(y, "slot")


def one_hot(slots):
    return torch.nn.functional.one_hot(slots.expert, slots.experts + 1)[:, : slots.experts].double()


@shapes()
@pytest.mark.parametrize("x_order", ["token", "slot", "grouped"])
@pytest.mark.parametrize("y_order", ["token", "slot", "grouped"])
def test_weight_grad(slots, x_order, y_order):
    layout = LAYOUTS[(x_order == "slot") ^ (y_order == "slot") ^ slots.tokens % 2]
    d, n, e = 3, 2, slots.experts
    x, y = Source(slots, x_order, "x", d), Source(slots, y_order, "y", n)
    w = t(e, n, d) if layout == "out_in" else t(e, d, n)
    text = f"""
func.func @f({signature(("ids", f"tensor<?x{slots.k}xi32>"), x.argument, y.argument, ("b", w))}) -> {w} {{
  {assign(slots)}{x.setup}{y.setup}
  %o = moe.weight_grad {x.name} from {x_order}, {y.name} from {y_order} by %a {layout} accumulate(%b : {w})
      : {x.type}, {y.type}, {slots.type} -> {w}
  return %o : {w}
}}"""

    def function(ids, xs, ys, b):
        out = torch.einsum("se,sn,sd->end", one_hot(slots), y.by_slot(ys), x.by_slot(xs))
        return b + (out if layout == "out_in" else out.transpose(1, 2))

    buffer = random(e, n, d, seed=2) if layout == "out_in" else random(e, d, n, seed=2)
    check(text, function, [slots.ids, x.random(d, 1), y.random(n, 2), buffer], [1, 2, 3])


@shapes()
@pytest.mark.parametrize("order", ["token", "slot", "grouped"])
def test_expert_sum(slots, order):
    x, e = Source(slots, order, "x", 3), slots.experts
    text = f"""
func.func @f({signature(("ids", f"tensor<?x{slots.k}xi32>"), x.argument)}) -> {t(e, 3)} {{
  {assign(slots)}{x.setup}
  %s = moe.expert_sum {x.name} from {order} by %a : {x.type}, {slots.type} -> {t(e, 3)}
  %o = arith.mulf %s, %s : {t(e, 3)}
  return %o : {t(e, 3)}
}}"""

    def function(ids, rows):
        return (one_hot(slots).T @ x.by_slot(rows)) ** 2

    check(text, function, [slots.ids, x.random(3, 1)], [1])


# ------------------------------------------------------------------- rowwise


@shapes()
@pytest.mark.parametrize("order", ["slot", "grouped"])
@pytest.mark.parametrize("layout", ["concat", "interleave"])
def test_rowwise_ports(slots, order, layout):
    """Rows of two values, scalars, expert vectors; rows and sums as results."""
    k, e, s = slots.k, slots.experts, slots.type
    x = Source(slots, order, "x", 6)
    scalar = t("?") if order == "grouped" else t("?", k)
    group = f"%gg = moe.group %g from slot by %a : {t('?', k)}, {s} -> {scalar}" if order == "grouped" else ""
    gate = "%gg" if order == "grouped" else "%g"
    if order == "grouped":
        end = f"""
  %r = moe.scatter %y#0 by %a : {t("?", 6)}, {s} -> {t("?", 6)}
  %q = moe.scatter %y#1 by %a : {scalar}, {s} -> {t("?", k)}
  return %r, %q : {t("?", 6)}, {t("?", k)}"""
    else:
        end = f"return %y#0, %y#1 : {t('?', 6)}, {t('?', k)}"
    text = f"""
func.func @f(%ids: tensor<?x{k}xi32>, %x: {t("?", 6)}, %g: {t("?", k)}, %b: {t(e, 6)}) -> ({t("?", 6)}, {t("?", k)}) {{
  {assign(slots)}{x.setup}{group}
  %y:2 = moe.rowwise {order} by %a : {s}
      ins({x.name} : {t("?", 6)} rows {layout} 2, {gate} : {scalar} scalar, %b : {t(e, 6)} expert {layout} 2)
      outs({t("?", 6)} rows {layout} 2, {scalar} sum) {{
  ^bb0(%u: f64, %v: f64, %s: f64, %p: f64, %q: f64):
    %1 = arith.mulf %u, %v : f64
    %2 = arith.addf %1, %p : f64
    %3 = arith.mulf %2, %s : f64
    %4 = math.exp %v : f64
    %5 = arith.mulf %4, %q : f64
    %6 = arith.mulf %5, %s : f64
    moe.yield %3, %5, %6 : f64, f64, f64
  }}
  {end}
}}"""

    def split(a):
        return (a[:, :3], a[:, 3:]) if layout == "concat" else (a[:, 0::2], a[:, 1::2])

    def function(ids, rows, g, b):
        expert = slots.expert.clamp(max=e - 1)
        (u, v), (p, q) = split(x.by_slot(rows)), split(b[expert])
        s = g.reshape(-1, 1)
        first, second = (u * v + p) * s, v.exp() * q
        total = (second * s).sum(1)
        both = torch.cat([first, second], 1) if layout == "concat" else torch.stack([first, second], 2).flatten(1)
        return slots.by_slot(both, "slot"), slots.by_slot(total, "slot").reshape(slots.tokens, k)

    arguments = [slots.ids, x.random(6, 1), random(slots.tokens, k, seed=2), random(e, 6, seed=3)]
    check(text, function, arguments, [1, 2, 3])


POSITIVE = "positive"
UNARY = {
    "negf": ("arith.negf", torch.neg, None),
    "absf": ("math.absf", torch.abs, None),
    "exp": ("math.exp", torch.exp, None),
    "exp2": ("math.exp2", torch.exp2, None),
    "expm1": ("math.expm1", torch.expm1, None),
    "log": ("math.log", torch.log, POSITIVE),
    "log2": ("math.log2", torch.log2, POSITIVE),
    "log10": ("math.log10", torch.log10, POSITIVE),
    "log1p": ("math.log1p", torch.log1p, POSITIVE),
    "sqrt": ("math.sqrt", torch.sqrt, POSITIVE),
    "rsqrt": ("math.rsqrt", torch.rsqrt, POSITIVE),
    "sin": ("math.sin", torch.sin, None),
    "cos": ("math.cos", torch.cos, None),
    "tan": ("math.tan", torch.tan, None),
    "sinh": ("math.sinh", torch.sinh, None),
    "cosh": ("math.cosh", torch.cosh, None),
    "tanh": ("math.tanh", torch.tanh, None),
    "asin": ("math.asin", torch.asin, "unit"),
    "acos": ("math.acos", torch.acos, "unit"),
    "atan": ("math.atan", torch.atan, None),
    "asinh": ("math.asinh", torch.asinh, None),
    "acosh": ("math.acosh", torch.acosh, "above one"),
    "atanh": ("math.atanh", torch.atanh, "unit"),
    "erf": ("math.erf", torch.erf, None),
    "erfc": ("math.erfc", torch.erfc, None),
    "floor": ("math.floor", torch.floor, None),
    "cbrt": ("math.cbrt", lambda x: x ** (1 / 3), POSITIVE),
}


def domain(x, kind):
    if kind == POSITIVE:
        return x.abs() + 0.1
    if kind == "unit":
        return torch.tanh(x) * 0.9
    if kind == "above one":
        return x.abs() + 1.1
    return x


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("tensor", [False, True])
def test_unary(name, tensor):
    op, function, kind = UNARY[name]
    x = domain(random(4, 5), kind)
    if tensor:
        body = f"%y = {op} %x : {t('?', 5)}"
    else:
        body = f"""%y = moe.rowwise token ins(%x : {t("?", 5)} rows) outs({t("?", 5)} rows) {{
  ^bb0(%u: f64):
    %v = {op} %u : f64
    moe.yield %v : f64
  }}"""
    text = f"func.func @f(%x: {t('?', 5)}) -> {t('?', 5)} {{\n  {body}\n  return %y : {t('?', 5)}\n}}"
    check(text, function, [x], [0])


BINARY = {
    "addf": ("arith.addf", torch.add),
    "subf": ("arith.subf", torch.sub),
    "mulf": ("arith.mulf", torch.mul),
    "divf": ("arith.divf", torch.div),
    "remf": ("arith.remf", torch.fmod),
    "maximumf": ("arith.maximumf", torch.maximum),
    "minimumf": ("arith.minimumf", torch.minimum),
    "maxnumf": ("arith.maxnumf", torch.fmax),
    "minnumf": ("arith.minnumf", torch.fmin),
    "atan2": ("math.atan2", torch.atan2),
    "copysign": ("math.copysign", torch.copysign),
    "powf": ("math.powf", torch.pow),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_binary(name, tensor, ties):
    op, function = BINARY[name]
    x, y = random(4, 5, seed=1), random(4, 5, seed=2)
    if name == "powf":
        x = x.abs() + 0.1
    if ties and name not in ("powf", "divf", "remf", "atan2"):
        y[::2] = x[::2]
        x[:, 0] = 0
    two = t("?", 5)
    if tensor:
        body = f"%z = {op} %x, %y : {two}"
    else:
        body = f"""%z = moe.rowwise token ins(%x : {two} rows, %y : {two} rows) outs({two} rows) {{
  ^bb0(%u: f64, %v: f64):
    %w = {op} %u, %v : f64
    moe.yield %w : f64
  }}"""
    text = f"func.func @f(%x: {two}, %y: {two}) -> {two} {{\n  {body}\n  return %z : {two}\n}}"
    # PyTorch's own second derivative of copysign is NaN at 0.
    check(text, function, [x, y], [0, 1], orders=1 if name == "copysign" else 2)


def region(lines):
    two = t("?", 4)
    return f"""
func.func @f(%x: {two}) -> {two} {{
  %y = moe.rowwise token ins(%x : {two} rows) outs({two} rows) {{
  ^bb0(%u: f64):
    {lines}
    moe.yield %r : f64
  }}
  return %y : {two}
}}"""


@pytest.mark.parametrize(
    "lines, function",
    [
        ("%c = arith.constant 0.0 : f64\n%r = arith.maximumf %u, %c : f64", torch.relu),
        (
            "%c = arith.constant -1.0 : f64\n%d = arith.constant 1.0 : f64\n"
            "%m = arith.maximumf %u, %c : f64\n%r = arith.minimumf %m, %d : f64",
            lambda x: x.clamp(-1, 1),
        ),
        (
            "%c = arith.constant 0.0 : f64\n%d = arith.constant 1.0 : f64\n"
            "%m = arith.maximumf %u, %c : f64\n%r = arith.minimumf %m, %d : f64",
            lambda x: x.clamp(0, 1),
        ),
        (
            "%c = arith.constant 0.0 : f64\n%p = arith.cmpf ogt, %u, %c : f64\n%s = arith.mulf %u, %u : f64\n"
            "%r = arith.select %p, %s, %u : f64",
            lambda x: torch.where(x > 0, x * x, x),
        ),
    ],
    ids=["relu", "clamp", "clamp_zero", "select"],
)
def test_choices_of_subgradients(lines, function):
    x = torch.tensor([[-2.0, -1.0, 0.0, 1.0], [0.5, -0.5, 3.0, -0.0]], dtype=torch.float64)
    check(region(lines), function, [x], [0])


@pytest.mark.parametrize("name", ["silu", "softplus"])
def test_overflow_of_exp(name):
    """exp(-x) is infinite for the first column; the gradient is not NaN."""
    x = torch.tensor([[-800.0, 800.0, 0.0, 1.0]], dtype=torch.float64)
    if name == "silu":
        lines = "%c = arith.constant 1.0 : f64\n%n = arith.negf %u : f64\n%e = math.exp %n : f64\n"
        lines += "%d = arith.addf %c, %e : f64\n%r = arith.divf %u, %d : f64"
        check(region(lines), torch.nn.functional.silu, [x], [0])
    else:
        lines = "%n = arith.negf %u : f64\n%e = math.exp %n : f64\n%r = math.log1p %e : f64"
        text = region(lines)
        x = x[:, 1:].repeat(1, 2)[:, :4]
        check(text, lambda x: torch.nn.functional.softplus(-x), [x], [0])


# --------------------------------------------------------------- other tensors


def test_linalg():
    """matmul, a softmax by hand over generics, broadcast, transpose."""
    text = """
func.func @f(%x: tensor<?x3xf64>, %w: tensor<3x4xf64>, %b: tensor<4xf64>) -> tensor<?x4xf64> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f64
  %t = tensor.dim %x, %c0 : tensor<?x3xf64>
  %e = tensor.empty(%t) : tensor<?x4xf64>
  %z = linalg.fill ins(%zero : f64) outs(%e : tensor<?x4xf64>) -> tensor<?x4xf64>
  %m = linalg.matmul ins(%x, %w : tensor<?x3xf64>, tensor<3x4xf64>) outs(%z : tensor<?x4xf64>) -> tensor<?x4xf64>
  %p = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>, affine_map<(i, j) -> (i, j)>],
      iterator_types = ["parallel", "parallel"]} ins(%m, %b : tensor<?x4xf64>, tensor<4xf64>) outs(%e : tensor<?x4xf64>) {
  ^bb0(%u: f64, %v: f64, %o: f64):
    %s = arith.addf %u, %v : f64
    %r = math.exp %s : f64
    linalg.yield %r : f64
  } -> tensor<?x4xf64>
  %e1 = tensor.empty(%t) : tensor<?xf64>
  %z1 = linalg.fill ins(%zero : f64) outs(%e1 : tensor<?xf64>) -> tensor<?xf64>
  %sum = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>],
      iterator_types = ["parallel", "reduction"]} ins(%p : tensor<?x4xf64>) outs(%z1 : tensor<?xf64>) {
  ^bb0(%u: f64, %o: f64):
    %s = arith.addf %o, %u : f64
    linalg.yield %s : f64
  } -> tensor<?xf64>
  %q = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>, affine_map<(i, j) -> (i, j)>],
      iterator_types = ["parallel", "parallel"]} ins(%p, %sum : tensor<?x4xf64>, tensor<?xf64>) outs(%e : tensor<?x4xf64>) {
  ^bb0(%u: f64, %v: f64, %o: f64):
    %s = arith.divf %u, %v : f64
    linalg.yield %s : f64
  } -> tensor<?x4xf64>
  return %q : tensor<?x4xf64>
}"""
    check(text, lambda x, w, b: torch.softmax(x @ w + b, 1), [random(5, 3), random(3, 4), random(4)], [0, 1, 2])


def test_reshapes_and_slices():
    text = """
func.func @f(%x: tensor<?x6xf64>, %y: tensor<?x2xf64>) -> tensor<?x3xf64> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : tensor<?x6xf64>
  %s = tensor.extract_slice %x[0, 1] [%t, 4] [1, 1] : tensor<?x6xf64> to tensor<?x4xf64>
  %m = arith.mulf %s, %s : tensor<?x4xf64>
  %c = tensor.concat dim(1) %m, %y : (tensor<?x4xf64>, tensor<?x2xf64>) -> tensor<?x6xf64>
  %e = tensor.expand_shape %c [[0], [1, 2]] output_shape [%t, 2, 3] : tensor<?x6xf64> into tensor<?x2x3xf64>
  %r = tensor.collapse_shape %e [[0, 1], [2]] : tensor<?x2x3xf64> into tensor<?x3xf64>
  %o = math.sin %r : tensor<?x3xf64>
  return %o : tensor<?x3xf64>
}"""

    def function(x, y):
        s = x[:, 1:5]
        return torch.cat([s * s, y], 1).reshape(-1, 3).sin()

    check(text, function, [random(4, 6), random(4, 2)], [0, 1])


def test_padding():
    text = """
func.func @f(%x: tensor<?x3xf64>) -> tensor<?x6xf64> {
  %half = arith.constant 0.5 : f64
  %p = tensor.pad %x low[0, 1] high[0, 2] {
  ^bb0(%i: index, %j: index):
    tensor.yield %half : f64
  } : tensor<?x3xf64> to tensor<?x6xf64>
  %o = arith.mulf %p, %p : tensor<?x6xf64>
  return %o : tensor<?x6xf64>
}"""
    check(text, lambda x: torch.nn.functional.pad(x, (1, 2), value=0.5) ** 2, [random(4, 3)], [0])


def test_argument_without_a_path():
    text = """
func.func @f(%x: tensor<?x2xf64>, %y: tensor<?x2xf64>) -> (tensor<?x2xf64>, tensor<?x2xf64>) {
  return %y, %y : tensor<?x2xf64>, tensor<?x2xf64>
}"""
    check(text, lambda x, y: (y, y), [random(3, 2), random(3, 2)], [0, 1], orders=1)
