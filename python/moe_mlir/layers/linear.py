# SPDX-License-Identifier: Apache-2.0
"""ParallelLinear: one linear layer per expert, in the four row combinations."""

from __future__ import annotations

import dataclasses
from typing import Optional

from ._layer import Layer, check_top_k, positive
from ._text import Function, Region, Tensor, Value, times
from .routing import choice


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A low-rank adapter beside each expert's weight: ``W + scale * B A``.

    Args:
        rank: the inner width r. A is (E, r, in), B is (E, out, r); with the
            layer's ``weight_layout="in_out"``, (E, in, r) and (E, r, out).
        scale: usually alpha / rank.

    Source: LoRA, arXiv 2106.09685.
    """

    rank: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        positive(rank=self.rank)


@dataclasses.dataclass
class Weights:
    """The weight arguments of one linear layer per expert."""

    w: Value
    bias: Optional[Value] = None
    a: Optional[Value] = None
    b: Optional[Value] = None
    scale: float = 1.0


def declare_weights(f: Function, name: str, experts: int, d_in: int, d_out: int, dtype: str,
                    layout: str, bias: bool, adapter: Optional[Adapter],
                    bias_name: str) -> Weights:
    """Arguments `name` (E, out, in), `bias_name` (E, out), `name`_a and `name`_b."""

    def shape(i: int, o: int) -> tuple[int, int, int]:
        return (experts, o, i) if layout == "out_in" else (experts, i, o)

    weights = Weights(f.argument(name, dtype, shape(d_in, d_out)))
    if bias:
        weights.bias = f.argument(bias_name, dtype, (experts, d_out))
    if adapter:
        weights.a = f.argument(f"{name}_a", dtype, shape(d_in, adapter.rank))
        weights.b = f.argument(f"{name}_b", dtype, shape(adapter.rank, d_out))
        weights.scale = adapter.scale
    return weights


def write_linear(f: Function, rows: Value, weights: Weights, slots: Value, source: str,
                 result: str, layout: str, name: str) -> Value:
    """rows W^T + bias, plus scale * (rows A^T) B^T where there is an adapter."""
    y = f.linear(rows, weights.w, slots, source, result, layout, weights.bias, name)
    if weights.a is None:
        return y
    rank = weights.b.type.dims[2 if layout == "out_in" else 1]
    low = f.linear(rows, weights.a, slots, source, "grouped", layout, name=f"{name}_low")
    if weights.scale != 1.0:
        low = f.rowwise("grouped", slots, [(low, "rows")], rank,
                        lambda r, x: r.mul(r.constant(weights.scale), x), low.type.dtype,
                        f"{name}_scaled")
    delta = f.linear(low, weights.b, slots, "grouped", result, layout, name=f"{name}_delta")
    return f.rowwise(result, slots, [(y, "rows"), (delta, "rows")], y.type.dims[1],
                     Region.add, y.type.dtype, f"{name}_adapted")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelLinear(Layer):
    """Each row times the weight of its expert.

    ``forward(x, ids, w[, b][, w_a, w_b]) -> y``

    Args:
        d_in, d_out: widths.
        experts, top_k: E and K.
        source: the order of x's rows: ``"token"`` (T, d_in), ``"slot"`` or
            ``"grouped"`` (T*K, d_in).
        result: the order of y's rows: ``"slot"`` or ``"grouped"`` (T*K, d_out).
        bias: take b (E, d_out).
        weight_layout: ``"out_in"``: w is (E, d_out, d_in); ``"in_out"``: (E, d_in, d_out).
        adapter: a low-rank adapter beside w.
        id_dtype: of ids (T, K): ``"i64"`` or ``"i32"``. An id outside [0, E) is
            no error: its slot belongs to no expert, and its row of y is zero in
            slot order, unspecified in grouped order.

    Source: ScatterMoE, arXiv 2403.08245, figure 2.
    """

    d_in: int
    d_out: int
    experts: int
    top_k: int
    source: str = "token"
    result: str = "slot"
    bias: bool = False
    weight_layout: str = "out_in"
    adapter: Optional[Adapter] = None
    id_dtype: str = "i64"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(d_in=self.d_in, d_out=self.d_out)
        check_top_k(self.top_k, self.experts)
        choice("source", self.source, ("token", "slot", "grouped"))
        choice("result", self.result, ("slot", "grouped"))
        choice("weight_layout", self.weight_layout, ("out_in", "in_out"))
        choice("id_dtype", self.id_dtype, ("i64", "i32"))

    def _write(self) -> list[tuple[Function, str]]:
        f = Function("forward", self._compute)
        rows = self._T if self.source == "token" else times(self.top_k, self._T)
        x = f.argument("x", self.dtype, (rows, self.d_in))
        ids = f.argument("ids", self.id_dtype, (self._T, self.top_k))
        w = declare_weights(f, "w", self.experts, self.d_in, self.d_out, self.dtype,
                            self.weight_layout, self.bias, self.adapter, "b")
        slots = f.assign(ids, self.experts)
        y = write_linear(f, x, w, slots, self.source, self.result, self.weight_layout, "y")
        return [(f, f.finish([("y", y)]))]
