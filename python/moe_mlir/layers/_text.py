# SPDX-License-Identifier: Apache-2.0
"""Writing IR text: values with types, one method per op that layers use.

Nothing here decides anything: an op method writes that op. What the ops mean
is said in the dialect's reference (``make docs``).
"""

from __future__ import annotations

import dataclasses
from typing import Callable, Sequence, Union

Dim = Union[int, str]
"""A size, or an expression in the named sizes: ``512``, ``"T"``, ``"2*T"``."""

FLOATS = ("f64", "f32", "f16", "bf16")
NUMPY_NAMES = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i64": "int64",
    "i32": "int32",
    "i8": "int8",
    "i1": "bool",
}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A ranked tensor type whose dynamic dimensions have names."""

    dims: tuple[Dim, ...]
    dtype: str

    def __str__(self) -> str:
        sizes = "".join(f"{d if isinstance(d, int) else '?'}x" for d in self.dims)
        return f"tensor<{sizes}{self.dtype}>"


@dataclasses.dataclass(frozen=True)
class Assignment:
    """``!moe.assignment<TxK, E>``."""

    tokens: Dim
    k: int
    experts: int

    def __str__(self) -> str:
        tokens = self.tokens if isinstance(self.tokens, int) else "?"
        return f"!moe.assignment<{tokens}x{self.k}, {self.experts}>"


@dataclasses.dataclass(frozen=True)
class Value:
    """An SSA value: its name, with the per cent sign, and its type."""

    name: str
    type: object

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument or result of an entry point, as users see it."""

    name: str
    dtype: str
    dims: tuple[Dim, ...]

    @property
    def numpy_dtype(self) -> str:
        """The dtype's name in NumPy and PyTorch: ``"float32"``."""
        return NUMPY_NAMES[self.dtype]

    def shape(self, **sizes: int) -> tuple[int, ...]:
        """The shape for given sizes of the named dimensions: ``shape(T=16)``."""
        return tuple(d if isinstance(d, int) else _evaluate(d, sizes) for d in self.dims)


def _evaluate(expression: str, sizes: dict[str, int]) -> int:
    factor, _, name = expression.rpartition("*")
    if name not in sizes:
        raise ValueError(f"say how large {name} is, as in shape({name}=16)")
    return int(factor or 1) * sizes[name]


def times(k: int, dim: Dim) -> Dim:
    """k times a dimension: the number of slots of so many tokens."""
    if isinstance(dim, int):
        return k * dim
    return dim if k == 1 else f"{k}*{dim}"


def number(value: float) -> str:
    """A float as MLIR spells it: with a point, exactly the double it is."""
    text = repr(float(value))
    mantissa, e, exponent = text.partition("e")
    if "." not in mantissa:
        mantissa += ".0"
    return mantissa + e + exponent


class Region:
    """The body of a ``moe.rowwise``: scalar math in f32 (f64 for f64 layers)."""

    def __init__(self, dtype: str):
        self.dtype = dtype
        self.lines: list[str] = []
        self._constants: dict[float, str] = {}

    def _emit(self, text: str, dtype: str | None = None) -> str:
        name = f"%{len(self.lines)}"
        self.lines.append(f"{name} = {text} : {dtype or self.dtype}")
        return name

    def constant(self, value: float) -> str:
        if value not in self._constants:
            self._constants[value] = self._emit(f"arith.constant {number(value)}")
        return self._constants[value]

    def op(self, name: str, *operands: str) -> str:
        """``op("arith.addf", a, b)``"""
        return self._emit(f"{name} {', '.join(operands)}")

    def add(self, a: str, b: str) -> str:
        return self.op("arith.addf", a, b)

    def mul(self, a: str, b: str) -> str:
        return self.op("arith.mulf", a, b)

    def compare(self, predicate: str, a: str, b: str) -> str:
        """``compare("ogt", a, b)``"""
        return self._emit(f"arith.cmpf {predicate}, {a}, {b}")

    def select(self, condition: str, then: str, otherwise: str) -> str:
        return self._emit(f"arith.select {condition}, {then}, {otherwise}")


class Function:
    """Writes one public function, op by op."""

    def __init__(self, name: str, compute: str):
        self.name = name
        self.compute = compute
        self.arguments: list[Argument] = []
        self.results: list[Argument] = []
        self._signature: list[str] = []
        self._lines: list[str] = []
        self._taken: set[str] = set()

    # Values and lines.

    def _fresh(self, name: str) -> str:
        unique, n = name, 1
        while unique in self._taken:
            unique, n = f"{name}_{n}", n + 1
        self._taken.add(unique)
        return f"%{unique}"

    def _value(self, name: str, type: object) -> Value:
        return Value(self._fresh(name), type)

    def _line(self, text: str) -> None:
        self._lines.append(f"  {text}")

    def argument(self, name: str, dtype: str, dims: Sequence[Dim]) -> Value:
        value = self._value(name, Tensor(tuple(dims), dtype))
        self.arguments.append(Argument(name, dtype, tuple(dims)))
        self._signature.append(
            f"{value}: {value.type} {{moe.name = \"{name}\", moe.dims = {_dims(dims)}}}"
        )
        return value

    # Routing and assignments.

    def route(self, logits: Value, attributes: str, k: int, gate_dtype: str, id_dtype: str,
              scores: bool, logsumexp: bool, bias: Value | None = None,
              mask: Value | None = None, ids: Value | None = None) -> list[Value]:
        """gates, ids, then scores and logsumexp where asked for."""
        tokens, experts = logits.type.dims
        float_dtype = "f64" if logits.type.dtype == "f64" else "f32"
        out = [self._value("gates", Tensor((tokens, k), gate_dtype)),
               self._value("ids", Tensor((tokens, k), id_dtype))]
        types = f"{out[0].type}, {out[1].type}"
        if scores:
            out.append(self._value("scores", Tensor((tokens, experts), float_dtype)))
            types += f" scores({out[-1].type})"
        if logsumexp:
            out.append(self._value("logsumexp", Tensor((tokens,), float_dtype)))
            types += f" logsumexp({out[-1].type})"
        words = attributes_with_operands(attributes, bias, mask, ids)
        self._line(f"{', '.join(map(str, out))} = moe.route {logits} {words}")
        self._line(f"    : {logits.type} -> {types}")
        return out

    def assign(self, ids: Value, experts: int) -> Value:
        tokens, k = ids.type.dims
        out = self._value("slots", Assignment(tokens, k, experts))
        self._line(f"{out} = moe.assign ids({ids} : {ids.type}) : {out.type}")
        return out

    def assign_all(self, rows: Value) -> Value:
        """Every row to the one expert there is: a dense layer as a sparse one."""
        tokens = rows.type.dims[0]
        zero, size = self._fresh("zero"), self._fresh("tokens")
        size32, count = self._fresh("tokens_i32"), self._fresh("count")
        out = self._value("all", Assignment(tokens, 1, 1))
        self._line(f"{zero} = arith.constant 0 : index")
        self._line(f"{size} = tensor.dim {rows}, {zero} : {rows.type}")
        self._line(f"{size32} = arith.index_cast {size} : index to i32")
        self._line(f"{count} = tensor.from_elements {size32} : tensor<1xi32>")
        self._line(f"{out} = moe.assign counts({count} : tensor<1xi32>) rows({size}) : {out.type}")
        return out

    # Rows.

    def group(self, rows: Value, source: str, slots: Value) -> Value:
        dims = rows.type.dims
        total = times(slots.type.k, slots.type.tokens)
        # Scalars lie as (T) by token and (T, K) by slot; rows have a width.
        scalar = len(dims) == 1 or (source == "slot" and dims == (slots.type.tokens, slots.type.k))
        out = self._value("grouped", Tensor((total,) if scalar else (total, dims[1]), rows.type.dtype))
        self._line(f"{out} = moe.group {rows} from {source} by {slots}")
        self._line(f"    : {rows.type}, {slots.type} -> {out.type}")
        return out

    def linear(self, rows: Value, weights: Value, slots: Value, source: str, result: str,
               layout: str, bias: Value | None = None, name: str = "y") -> Value:
        width = weights.type.dims[1 if layout == "out_in" else 2]
        total = times(slots.type.k, slots.type.tokens)
        out = self._value(name, Tensor((total, width), rows.type.dtype))
        with_bias = f" bias({bias} : {bias.type})" if bias else ""
        self._line(f"{out} = moe.parallel_linear {rows}, {weights} by {slots} "
                   f"from {source} to {result} {layout}{with_bias}")
        self._line(f"    : {rows.type}, {weights.type}, {slots.type} -> {out.type}")
        return out

    def combine(self, rows: Value, source: str, slots: Value, gates: Value | None) -> Value:
        out = self._value("out", Tensor((slots.type.tokens, rows.type.dims[1]), rows.type.dtype))
        with_gates = f" gates({gates} : {gates.type})" if gates else ""
        self._line(f"{out} = moe.combine {rows} from {source} by {slots}{with_gates}")
        self._line(f"    : {rows.type}, {slots.type} -> {out.type}")
        return out

    def rowwise(self, order: str, slots: Value | None, ins: Sequence[tuple[Value, str]],
                width: int, body: Callable[..., str], dtype: str, name: str) -> Value:
        """One result of `width` columns; `ins` are values with their ports, and
        `body(region, *arguments)` gives the name of what it computes."""
        rows = ins[0][0].type.dims[0]
        out = self._value(name, Tensor((rows, width), dtype))
        region = Region(self.compute)
        names = []
        for value, port in ins:
            count = int(port.split()[-1]) if port.startswith("rows ") else 1
            base = value.name.lstrip("%")
            names += [f"%{base}_{i}" if count > 1 else f"%{base}_in" for i in range(count)]
        result = body(region, *names)
        by = f" by {slots} : {slots.type}" if slots else ""
        operands = ", ".join(f"{value} : {value.type} {port}" for value, port in ins)
        self._line(f"{out} = moe.rowwise {order}{by}")
        self._line(f"    ins({operands})")
        self._line(f"    outs({out.type} rows) {{")
        self._line(f"^bb0({', '.join(f'{n}: {self.compute}' for n in names)}):")
        self._lines += [f"    {line}" for line in region.lines]
        self._line(f"  moe.yield {result} : {self.compute}")
        self._line("}")
        return out

    # The end.

    def finish(self, results: Sequence[tuple[str, Value]]) -> str:
        """The function's text, returning these values under these names."""
        types = [value.type for _, value in results]
        self.results = [Argument(name, t.dtype, t.dims) for (name, _), t in zip(results, types)]
        returned = ",\n    ".join(
            f"{t} {{moe.name = \"{name}\", moe.dims = {_dims(t.dims)}}}"
            for (name, _), t in zip(results, types)
        )
        signature = ",\n    ".join(self._signature)
        values = ", ".join(str(value) for _, value in results)
        return "\n".join([
            f"func.func @{self.name}(",
            f"    {signature})",
            f"    -> ({returned}) {{",
            *self._lines,
            f"  return {values} : {', '.join(map(str, types))}",
            "}",
            "",
        ])


def attributes_with_operands(attributes: str, bias, mask, ids) -> str:
    """The optional operands of a route come between its keywords and the rest."""
    keywords, brace, rest = attributes.partition("{")
    parts = [keywords.strip()]
    parts += [f"{word}({value} : {value.type})"
              for word, value in (("bias", bias), ("mask", mask), ("ids", ids)) if value]
    return " ".join(parts) + (f" {{{rest}" if brace else "")


def _dims(dims: Sequence[Dim]) -> str:
    return "[" + ", ".join(str(d) if isinstance(d, int) else f'"{d}"' for d in dims) + "]"
