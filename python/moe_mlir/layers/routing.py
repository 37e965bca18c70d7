# SPDX-License-Identifier: Apache-2.0
"""How tokens choose experts."""

from __future__ import annotations

import dataclasses
from typing import Optional

from ._text import Function, Tensor, Value, number


@dataclasses.dataclass(frozen=True)
class Routing:
    """From router logits to K experts a token and their gates.

    The arithmetic is in float32 (float64 for float64 logits), whatever the
    dtypes of logits and gates. ``moe.route`` in the dialect's reference gives
    every step.

    Args:
        score: ``"softmax"``, ``"sigmoid"`` or ``"identity"`` of the logits.
        order: ``"score_then_topk"``, scores over all experts, or
            ``"topk_then_score"``, scores over the chosen logits alone.
        normalize: divide the gates by their sum plus `eps`.
        eps: see `normalize`.
        scale: multiplies the gates at the end.
        groups, topk_groups, group_top: experts fall into `groups` equal runs; a
            run's key is the sum of its `group_top` largest keys; experts are
            chosen from the `topk_groups` best runs.
        masked_groups: the key of experts in runs that were not chosen:
            ``"neg_inf"``, or ``"zero"`` as DeepSeek-V3's first code had it.
        capacity: the most slots an expert keeps; the others are dropped.
        drop: which are kept: the first, ``"position"``, or those with the
            largest gates, ``"score"``.
        bias: take a selection bias (E), float32: it decides who is chosen and
            is no part of the gates.
        mask: take a mask (T), bool: tokens that are False go to no expert.
        replay: take the ids of another call, ``replay`` (T, K), instead of
            choosing.
        returns: further results of the layer, some of ``"gates"``, ``"ids"``,
            ``"scores"`` (T, E) and ``"logsumexp"`` (T), for auxiliary losses.
        logits_dtype: ``"f32"``, ``"bf16"``, ``"f16"`` or ``"f64"``.

    Raises:
        ValueError: for a name that is not listed here.
    """

    score: str = "softmax"
    order: str = "score_then_topk"
    normalize: bool = False
    eps: float = 0.0
    scale: float = 1.0
    groups: int = 1
    topk_groups: int = 1
    group_top: int = 1
    masked_groups: str = "neg_inf"
    capacity: Optional[int] = None
    drop: str = "position"
    bias: bool = False
    mask: bool = False
    replay: bool = False
    returns: tuple[str, ...] = ()
    logits_dtype: str = "f32"

    def __post_init__(self) -> None:
        choice("score", self.score, ("softmax", "sigmoid", "identity"))
        choice("order", self.order, ("score_then_topk", "topk_then_score"))
        choice("masked_groups", self.masked_groups, ("zero", "neg_inf"))
        choice("drop", self.drop, ("position", "score"))
        choice("logits_dtype", self.logits_dtype, ("f64", "f32", "f16", "bf16"))
        for name in self.returns:
            choice("returns", name, ("gates", "ids", "scores", "logsumexp"))

    @classmethod
    def mixtral(cls, **changes) -> Routing:
        """Softmax over all experts, the chosen gates normalised.

        Source: transformers, models/mixtral/modeling_mixtral.py, MixtralTopKRouter.
        """
        return cls(**{"normalize": True, **changes})

    @classmethod
    def qwen3(cls, norm_topk_prob: bool = True, **changes) -> Routing:
        """Softmax over all experts; `norm_topk_prob` as in the model's config.

        Source: transformers, models/qwen3_moe/modeling_qwen3_moe.py.
        """
        return cls(**{"normalize": norm_topk_prob, **changes})

    @classmethod
    def olmoe(cls, norm_topk_prob: bool = False, **changes) -> Routing:
        """Softmax over all experts, by default not normalised.

        Source: transformers, models/olmoe/modeling_olmoe.py.
        """
        return cls(**{"normalize": norm_topk_prob, **changes})

    @classmethod
    def deepseek_v3(cls, n_group: int = 8, topk_group: int = 4, scale: float = 2.5,
                    norm_topk_prob: bool = True, **changes) -> Routing:
        """Sigmoid scores, a selection bias, groups ranked by their two best.

        Source: transformers, models/deepseek_v3/modeling_deepseek_v3.py, whose
        experts outside the chosen groups have the key 0.
        """
        return cls(**{"score": "sigmoid", "bias": True, "groups": n_group, "topk_groups": topk_group,
                      "group_top": 2, "masked_groups": "zero", "normalize": norm_topk_prob,
                      "eps": 1e-20, "scale": scale, **changes})

    @classmethod
    def gpt_oss(cls, **changes) -> Routing:
        """Top-k of the logits, softmax over the chosen ones.

        Source: transformers, models/gpt_oss/modeling_gpt_oss.py, GptOssTopKRouter.
        """
        return cls(**{"order": "topk_then_score", **changes})

    def _attributes(self) -> str:
        parts = []
        if self.normalize:
            parts.append("normalize")
        if self.eps:
            parts.append(f"eps = {number(self.eps)} : f64")
        if self.scale != 1.0:
            parts.append(f"scale = {number(self.scale)} : f64")
        if self.groups != 1:
            parts += [f"groups = {self.groups} : i64", f"topk_groups = {self.topk_groups} : i64",
                      f"group_top = {self.group_top} : i64",
                      f"masked_groups = #moe.masked_groups<{self.masked_groups}>"]
        if self.capacity is not None:
            parts.append(f"capacity = {self.capacity} : i64")
            parts.append(f"drop = #moe.drop<{self.drop}>")
        text = f"{self.score} {self.order}"
        return text + (" {" + ", ".join(parts) + "}" if parts else "")


def choice(what: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ValueError, naming the choices, for a value that is none of them."""
    if value not in known:
        raise ValueError(f"{what} is {value!r}; choose one of {', '.join(map(repr, known))}")


@dataclasses.dataclass
class Routed:
    """What routing gives the rest of a layer."""

    gates: Optional[Value]
    ids: Value
    extra: list[tuple[str, Value]]


def write_routing(f: Function, routing: Optional[Routing], tokens, top_k: int, experts: int,
                  gates: bool, gate_dtype: str, id_dtype: str) -> Routed:
    """Declares the arguments that routing needs and, with a `routing`, routes."""
    if routing is None:
        ids = f.argument("ids", id_dtype, (tokens, top_k))
        values = f.argument("gates", gate_dtype, (tokens, top_k)) if gates else None
        return Routed(values, ids, [])
    logits = f.argument("logits", routing.logits_dtype, (tokens, experts))
    float_dtype = "f64" if routing.logits_dtype == "f64" else "f32"
    bias = f.argument("bias", float_dtype, (experts,)) if routing.bias else None
    mask = f.argument("mask", "i1", (tokens,)) if routing.mask else None
    replay = f.argument("replay", id_dtype, (tokens, top_k)) if routing.replay else None
    with_scores = "scores" in routing.returns
    with_logsumexp = "logsumexp" in routing.returns
    out = f.route(logits, routing._attributes(), top_k, gate_dtype, id_dtype,
                  with_scores, with_logsumexp, bias, mask, replay)
    named = {"gates": out[0], "ids": out[1]}
    if with_scores:
        named["scores"] = out[2]
    if with_logsumexp:
        named["logsumexp"] = out[-1]
    return Routed(out[0], out[1], [(name, named[name]) for name in routing.returns])
