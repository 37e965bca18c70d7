# SPDX-License-Identifier: Apache-2.0
"""A router alone: logits to gates and ids."""

from __future__ import annotations

import dataclasses

from ._layer import Layer, check_top_k
from ._text import Function
from .routing import Routing, choice, write_routing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Router(Layer):
    """``forward(logits[, bias][, mask][, replay]) -> gates, ids[, scores][, logsumexp]``

    Args:
        experts, top_k: E and K; logits are (T, E), gates and ids (T, K).
        routing: how experts are chosen.
        gate_dtype, id_dtype: of gates and ids.

    `dtype` is not used: the logits' dtype is the routing's.
    """

    experts: int
    top_k: int
    routing: Routing = Routing()
    gate_dtype: str = "f32"
    id_dtype: str = "i64"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_top_k(self.top_k, self.experts)
        choice("gate_dtype", self.gate_dtype, ("f64", "f32", "f16", "bf16"))
        choice("id_dtype", self.id_dtype, ("i64", "i32"))

    def _write(self) -> list[tuple[Function, str]]:
        f = Function("forward", self._compute)
        extra = tuple(r for r in ("scores", "logsumexp") if r in self.routing.returns)
        routing = dataclasses.replace(self.routing, returns=("gates", "ids", *extra))
        routed = write_routing(f, routing, self._T, self.top_k, self.experts, True,
                               self.gate_dtype, self.id_dtype)
        return [(f, f.finish(routed.extra))]
