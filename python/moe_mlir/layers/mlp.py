# SPDX-License-Identifier: Apache-2.0
"""MLP and gated MLP experts."""

from __future__ import annotations

import dataclasses
from typing import Optional

from ._activations import ACTIVATIONS, glu
from ._layer import Layer, check_top_k, positive
from ._text import Function, Region, Value
from .linear import Adapter, Weights, declare_weights, write_linear
from .routing import Routing, choice, write_routing


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLP(Layer):
    """Experts of two linear layers with an activation between them.

    ``forward(x, ids, gates, w1[, b1], w2[, b2]) -> out`` where
    ``out[t] = sum_k gates[t, k] * (act(x[t] w1[e]^T + b1[e]) w2[e]^T + b2[e])``, e = ids[t, k].

    Arguments come in this order, those in brackets where asked for:
    ``x; ids, gates | logits[, bias][, mask][, replay]; w1[, b1][, w1_a, w1_b];
    w2[, b2][, w2_a, w2_b]; [shared_w1[, shared_b1], shared_w2[, shared_b2]]``.

    Args:
        d_model, d_expert: d and n; x is (T, d), w1 (E, n, d), w2 (E, d, n).
        experts, top_k: E and K; ids and gates are (T, K).
        activation: one of ``"silu"``, ``"gelu"`` (erf), ``"gelu_tanh"``,
            ``"quick_gelu"``, ``"relu"``, ``"relu2"``, ``"sigmoid"``, ``"tanh"``,
            ``"identity"``.
        routing: None: the layer takes ids and gates; else it takes logits
            (T, E) and routes.
        gate_on: ``"output"``; ``"input"``: each slot's row of x is scaled
            instead (Llama 4); ``"none"``: no gates.
        bias: take b1 (E, n) and b2 (E, d).
        adapter: a low-rank adapter beside w1 and w2.
        d_shared: the width of an expert that every token also goes to, 0 for
            none; shared_w1 is (1, d_shared, d), shared_w2 (1, d, d_shared).
        weight_layout: ``"out_in"`` as above, or ``"in_out"``: (E, d, n) and (E, n, d).
        gate_dtype, id_dtype: of gates and ids.

    An id outside [0, E) is no error: its slot belongs to no expert and adds
    nothing. T is any number, 0 included.
    """

    d_model: int
    d_expert: int
    experts: int
    top_k: int
    activation: str = "silu"
    routing: Optional[Routing] = None
    gate_on: str = "output"
    bias: bool = False
    adapter: Optional[Adapter] = None
    d_shared: int = 0
    weight_layout: str = "out_in"
    gate_dtype: str = "f32"
    id_dtype: str = "i64"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(d_model=self.d_model, d_expert=self.d_expert)
        check_top_k(self.top_k, self.experts)
        if self.d_shared:
            positive(d_shared=self.d_shared)
        choice("activation", self.activation, tuple(ACTIVATIONS))
        choice("gate_on", self.gate_on, ("output", "input", "none"))
        choice("weight_layout", self.weight_layout, ("out_in", "in_out"))
        choice("gate_dtype", self.gate_dtype, ("f64", "f32", "f16", "bf16"))
        choice("id_dtype", self.id_dtype, ("i64", "i32"))
        if (self.dtype == "f64") != (self.gate_dtype == "f64") and self.gate_on != "none":
            raise ValueError(f"dtype is {self.dtype!r} and gate_dtype {self.gate_dtype!r}; "
                             "f64 goes with f64 only")

    # The up projection, which the gated MLP has its own forms of.

    def _declare_up(self, f: Function, prefix: str, experts: int, width: int,
                    adapter: Optional[Adapter]) -> list[Weights]:
        return [declare_weights(f, f"{prefix}w1", experts, self.d_model, width, self.dtype,
                                self.weight_layout, self.bias, adapter, f"{prefix}b1")]

    def _activate(self, f: Function, h: list[Value], width: int, slots: Value) -> Value:
        return f.rowwise("grouped", slots, [(h[0], "rows")], width,
                         ACTIVATIONS[self.activation], self.dtype, "a")

    # The whole.

    def _write(self) -> list[tuple[Function, str]]:
        f = Function("forward", self._compute)
        x = f.argument("x", self.dtype, (self._T, self.d_model))
        routed = write_routing(f, self.routing, self._T, self.top_k, self.experts,
                               self.gate_on != "none", self.gate_dtype, self.id_dtype)
        up = self._declare_up(f, "", self.experts, self.d_expert, self.adapter)
        down = self._declare_down(f, "", self.experts, self.d_expert, self.adapter)
        if self.d_shared:
            shared_up = self._declare_up(f, "shared_", 1, self.d_shared, None)
            shared_down = self._declare_down(f, "shared_", 1, self.d_shared, None)

        slots = f.assign(routed.ids, self.experts)
        rows, source = x, "token"
        if self.gate_on == "input":
            rows, source = self._gate_input(f, x, routed.gates, slots), "grouped"
        y = self._experts(f, rows, source, up, down, self.d_expert, slots)
        out = f.combine(y, "grouped", slots, routed.gates if self.gate_on == "output" else None)
        if self.d_shared:
            everyone = f.assign_all(x)
            z = self._experts(f, x, "token", shared_up, shared_down, self.d_shared, everyone)
            shared = f.combine(z, "grouped", everyone, None)
            out = f.rowwise("token", None, [(out, "rows"), (shared, "rows")], self.d_model,
                            Region.add, self.dtype, "sum")
        return [(f, f.finish([("out", out), *routed.extra]))]

    def _declare_down(self, f: Function, prefix: str, experts: int, width: int,
                      adapter: Optional[Adapter]) -> Weights:
        return declare_weights(f, f"{prefix}w2", experts, width, self.d_model, self.dtype,
                               self.weight_layout, self.bias, adapter, f"{prefix}b2")

    def _experts(self, f: Function, rows: Value, source: str, up: list[Weights], down: Weights,
                 width: int, slots: Value) -> Value:
        h = [write_linear(f, rows, w, slots, source, "grouped", self.weight_layout, "h")
             for w in up]
        a = self._activate(f, h, width, slots)
        return write_linear(f, a, down, slots, "grouped", "grouped", self.weight_layout, "y")

    def _gate_input(self, f: Function, x: Value, gates: Value, slots: Value) -> Value:
        rows = f.group(x, "token", slots)
        scalars = f.group(gates, "slot", slots)
        return f.rowwise("grouped", slots, [(rows, "rows"), (scalars, "scalar")], self.d_model,
                         Region.mul, self.dtype, "gated")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedMLP(MLP):
    """Experts with a gated linear unit: SwiGLU with the defaults.

    As `MLP`, with ``act(gate) * up`` in place of ``act(h)``, where gate and up
    are the two halves of ``h = x w1[e]^T + b1[e]``.

    Args:
        columns: how the halves lie in w1 (E, 2n, d): ``"concat"`` [gate; up];
            ``"interleave"``: gate, up, gate, up, ...; ``"separate"``: two
            arguments in place of w1, w_gate and w_up (E, n, d), with biases
            b_gate and b_up and adapters w_gate_a, ... where asked for.
        gate_first: False: up comes before gate, in every layout.
        limit: cut gate at `limit` from above, up to [-limit, limit].
        alpha: the gate is ``gate * sigmoid(alpha * gate)``; silu only.
        up_offset: added to up.

    gpt-oss has ``limit=7.0, alpha=1.702, up_offset=1.0, columns="interleave",
    bias=True, weight_layout="in_out"``.

    Source: arXiv 2002.05202; transformers, models/gpt_oss/modeling_gpt_oss.py.
    """

    columns: str = "concat"
    gate_first: bool = True
    limit: Optional[float] = None
    alpha: float = 1.0
    up_offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("columns", self.columns, ("concat", "interleave", "separate"))
        if self.limit is not None and not self.limit > 0:
            raise ValueError(f"limit is {self.limit!r}; it has to be above 0")
        if self.alpha != 1.0 and self.activation != "silu":
            raise ValueError(f"alpha goes with activation='silu', not {self.activation!r}")

    def _declare_up(self, f: Function, prefix: str, experts: int, width: int,
                    adapter: Optional[Adapter]) -> list[Weights]:
        if self.columns != "separate":
            return super()._declare_up(f, prefix, experts, 2 * width, adapter)
        names = ("gate", "up") if self.gate_first else ("up", "gate")
        return [declare_weights(f, f"{prefix}w_{name}", experts, self.d_model, width, self.dtype,
                                self.weight_layout, self.bias, adapter, f"{prefix}b_{name}")
                for name in names]

    def _activate(self, f: Function, h: list[Value], width: int, slots: Value) -> Value:
        unit = glu(self.activation, self.limit, self.alpha, self.up_offset)
        body = unit if self.gate_first else lambda r, up, gate: unit(r, gate, up)
        ins = ([(value, "rows") for value in h] if self.columns == "separate"
               else [(h[0], f"rows {self.columns} 2")])
        return f.rowwise("grouped", slots, ins, width, body, self.dtype, "a")
