# SPDX-License-Identifier: Apache-2.0
"""Mixture of Attention: query and output projections by expert."""

from __future__ import annotations

import dataclasses
from typing import Optional

from ._layer import Layer, check_top_k, positive
from ._text import Function, times
from .linear import Adapter, declare_weights, write_linear
from .routing import choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureOfAttention(Layer):
    """The projections of attention whose heads are experts.

    Keys and values are shared by all experts and are ordinary linear layers;
    the attention itself is between the two entry points, on rows in slot order,
    so that nothing is copied on the way:

    - ``query(x, ids, wq[, bq]) -> q``: x (T, d) to q (T*K, heads * head_dim).
    - ``output(o, ids, gates, wo[, bo]) -> out``: o as q, gates (T, K), to (T, d),
      the gated sum over the K slots of each token.

    Args:
        d_model: d.
        heads, head_dim: of each expert.
        experts, top_k: E and K.
        bias: take bq (E, heads * head_dim) and bo (E, d).
        adapter: a low-rank adapter beside wq and wo.
        weight_layout: ``"out_in"``: wq is (E, heads * head_dim, d), wo
            (E, d, heads * head_dim); ``"in_out"``: transposed.

    Source: ScatterMoE, arXiv 2403.08245, section 3.3; MoA, arXiv 2210.05144.
    """

    d_model: int
    heads: int
    head_dim: int
    experts: int
    top_k: int
    bias: bool = False
    adapter: Optional[Adapter] = None
    weight_layout: str = "out_in"
    gate_dtype: str = "f32"
    id_dtype: str = "i64"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(d_model=self.d_model, heads=self.heads, head_dim=self.head_dim)
        check_top_k(self.top_k, self.experts)
        choice("weight_layout", self.weight_layout, ("out_in", "in_out"))
        choice("gate_dtype", self.gate_dtype, ("f64", "f32", "f16", "bf16"))
        choice("id_dtype", self.id_dtype, ("i64", "i32"))

    def _write(self) -> list[tuple[Function, str]]:
        width = self.heads * self.head_dim
        f = Function("query", self._compute)
        x = f.argument("x", self.dtype, (self._T, self.d_model))
        ids = f.argument("ids", self.id_dtype, (self._T, self.top_k))
        w = declare_weights(f, "wq", self.experts, self.d_model, width, self.dtype,
                            self.weight_layout, self.bias, self.adapter, "bq")
        slots = f.assign(ids, self.experts)
        q = write_linear(f, x, w, slots, "token", "slot", self.weight_layout, "q")
        query = f.finish([("q", q)])

        g = Function("output", self._compute)
        o = g.argument("o", self.dtype, (times(self.top_k, self._T), width))
        ids = g.argument("ids", self.id_dtype, (self._T, self.top_k))
        gates = g.argument("gates", self.gate_dtype, (self._T, self.top_k))
        w = declare_weights(g, "wo", self.experts, width, self.d_model, self.dtype,
                            self.weight_layout, self.bias, self.adapter, "bo")
        slots = g.assign(ids, self.experts)
        y = write_linear(g, o, w, slots, "slot", "slot", self.weight_layout, "y")
        out = g.combine(y, "slot", slots, gates)
        return [(f, query), (g, g.finish([("out", out)]))]
