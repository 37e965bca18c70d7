# SPDX-License-Identifier: Apache-2.0
"""moe.route and moe.route_grad against PyTorch restatements of models' routers."""

import pytest
import torch
from oracle import ELEMENT, NAN, equal, interpret, random

INF = float("inf")


def route_text(
    tokens_by,
    k,
    experts,
    attributes="",
    score="softmax",
    order="score_then_topk",
    dtype=torch.float64,
    ids_type="i32",
    extra=(),
    optional=False,
):
    """A function of logits and of `extra` operands, (keyword, name, type) each."""
    e = ELEMENT[dtype]
    logits = f"tensor<{tokens_by}x{experts}x{e}>"
    results = [f"tensor<{tokens_by}x{k}x{e}>", f"tensor<{tokens_by}x{k}x{ids_type}>"]
    names, tail = "%g, %i", ""
    if optional:
        results += [logits, f"tensor<{tokens_by}x{e}>"]
        names += ", %s, %l"
        tail = f" scores({results[2]}) logsumexp({results[3]})"
    parameters = "".join(f", %{name}: {t}" for _, name, t in extra)
    operands = " ".join(f"{keyword}(%{name} : {t})" for keyword, name, t in extra)
    return f"""
func.func @f(%x: {logits}{parameters}) -> ({", ".join(results)}) {{
  {names} = moe.route %x {score} {order} {operands} {attributes and f"{{{attributes}}}"}
      : {logits} -> {results[0]}, {results[1]}{tail}
  return {names} : {", ".join(results)}
}}"""


# ------------------------------------------------- the routers of known models


def mixtral(logits, k):
    """transformers, models/mixtral/modeling_mixtral.py, MixtralSparseMoeBlock."""
    weights = torch.softmax(logits, dim=1)
    weights, ids = torch.topk(weights, k, dim=-1)
    return weights / weights.sum(dim=-1, keepdim=True), ids


def qwen3_moe(logits, k, norm_topk_prob):
    """transformers, models/qwen3_moe/modeling_qwen3_moe.py, Qwen3MoeSparseMoeBlock."""
    weights, ids = torch.topk(torch.softmax(logits, dim=1), k, dim=-1)
    if norm_topk_prob:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights, ids


def olmoe(logits, k):
    """transformers, models/olmoe/modeling_olmoe.py: norm_topk_prob is False."""
    return torch.topk(torch.softmax(logits, dim=1), k, dim=-1)


def deepseek_v3(logits, bias, k, n_group, topk_group, scaling):
    """transformers, models/deepseek_v3/modeling_deepseek_v3.py, DeepseekV3TopkRouter."""
    experts = logits.shape[1]
    scores = logits.sigmoid()
    choice = scores + bias
    groups = choice.view(-1, n_group, experts // n_group).topk(2, dim=-1)[0].sum(dim=-1)
    chosen = torch.topk(groups, topk_group, dim=-1, sorted=False)[1]
    group_mask = torch.zeros_like(groups).scatter_(1, chosen, 1)
    mask = group_mask.unsqueeze(-1).expand(-1, n_group, experts // n_group).reshape(-1, experts)
    choice = choice.masked_fill(~mask.bool(), 0.0)
    ids = torch.topk(choice, k, dim=-1)[1]
    weights = scores.gather(1, ids)
    return weights / (weights.sum(dim=-1, keepdim=True) + 1e-20) * scaling, ids


def deepseek_v2(logits, k, n_group, topk_group, scaling):
    """transformers, models/deepseek_v2: group_limited_greedy, softmax, no norm."""
    experts = logits.shape[1]
    scores = logits.softmax(dim=-1)
    groups = scores.view(-1, n_group, experts // n_group).max(dim=-1).values
    chosen = torch.topk(groups, topk_group, dim=-1, sorted=False)[1]
    mask = torch.zeros_like(groups).scatter_(1, chosen, 1)
    mask = mask.unsqueeze(-1).expand(-1, n_group, experts // n_group).reshape(-1, experts)
    weights, ids = torch.topk(scores.masked_fill(~mask.bool(), 0.0), k, dim=-1)
    return weights * scaling, ids


def gpt_oss(logits, k):
    """transformers, models/gpt_oss/modeling_gpt_oss.py, GptOssTopKRouter."""
    top, ids = torch.topk(logits, k, dim=-1)
    return torch.softmax(top, dim=1), ids


def llama4(logits, k):
    """transformers, models/llama4/modeling_llama4.py: the sigmoid of the chosen."""
    top, ids = torch.topk(logits, k, dim=-1)
    return torch.sigmoid(top), ids


BIAS = [("bias", "b", "tensor<{experts}xf64>")]
V3 = "groups = 4, topk_groups = 2, group_top = 2, masked_groups = #moe.masked_groups<zero>, normalize, eps = 1.0e-20, scale = 2.5"
V2 = "groups = 4, topk_groups = 2, group_top = 1, masked_groups = #moe.masked_groups<zero>, scale = 16.0"
MODELS = {
    "mixtral": (2, "normalize", "softmax", "score_then_topk", (), mixtral),
    "qwen3_moe": (4, "normalize", "softmax", "score_then_topk", (), lambda x, k: qwen3_moe(x, k, True)),
    "qwen3_moe_unnormalized": (4, "", "softmax", "score_then_topk", (), lambda x, k: qwen3_moe(x, k, False)),
    "olmoe": (8, "", "softmax", "score_then_topk", (), olmoe),
    "deepseek_v3": (4, V3, "sigmoid", "score_then_topk", BIAS, lambda x, k, b: deepseek_v3(x, b, k, 4, 2, 2.5)),
    "deepseek_v2": (3, V2, "softmax", "score_then_topk", (), lambda x, k: deepseek_v2(x, k, 4, 2, 16.0)),
    "gpt_oss": (4, "", "softmax", "topk_then_score", (), gpt_oss),
    "llama4": (1, "", "sigmoid", "topk_then_score", (), llama4),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tokens, experts", [(0, 16), (1, 16), (33, 16), (9, 40)])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_models(model, tokens, experts, scale):
    k, attributes, score, order, extra, reference = MODELS[model]
    logits = random(tokens, experts) * scale
    operands = [random(experts) * scale] if extra else []
    extra = [(keyword, name, t.format(experts=experts)) for keyword, name, t in extra]
    text = route_text("?", k, experts, attributes, score, order, extra=extra, ids_type="i64")
    gates, ids = interpret(text, logits, *operands)
    expected_gates, expected_ids = reference(logits, k, *operands)
    equal(ids, expected_ids)
    equal(gates, expected_gates)


def test_masked_groups_zero_and_negative_keys():
    """With `zero` an expert of a group that is out beats a negative key."""
    logits = torch.tensor([[5.0, 4.0, -1.0, -2.0]], dtype=torch.float64)
    bias = torch.tensor([-3.0, -3.0, -2.0, -2.0], dtype=torch.float64)
    extra = [("bias", "b", "tensor<4xf64>")]
    # Group 1 stays, as -1.73 is above -2.01; the keys of group 0 become 0 or -inf.
    for masked, expected in [("zero", [0, 1]), ("neg_inf", [2, 3])]:
        attributes = f"groups = 2, topk_groups = 1, group_top = 1, masked_groups = #moe.masked_groups<{masked}>"
        text = route_text("?", 2, 4, attributes, "sigmoid", extra=extra)
        gates, ids = interpret(text, logits, bias)
        assert ids[0].tolist() == expected
        equal(gates, logits.sigmoid()[:, expected])


# ------------------------------------------------------------ given semantics


def softmax_gates(logits, ids, normalize=True):
    weights = logits.softmax(-1).gather(1, ids.clamp(0, logits.shape[1] - 1).long())
    weights = weights * ((ids >= 0) & (ids < logits.shape[1]))
    return weights / weights.sum(-1, keepdim=True) if normalize else weights


def test_identity_scores_and_logsumexp():
    logits = random(9, 5)
    text = route_text("?", 3, 5, "scale = 2.0", "identity", "topk_then_score", optional=True)
    gates, ids, scores, lse = interpret(text, logits)
    top, chosen = logits.topk(3)
    equal(gates, top * 2)
    equal(ids, chosen.int())
    equal(scores, logits)
    equal(lse, logits.logsumexp(-1))


def test_bias_chooses_and_does_not_weigh():
    logits, bias = random(9, 5), random(5) * 3
    for order in ("score_then_topk", "topk_then_score"):
        text = route_text("?", 2, 5, "normalize", "sigmoid", order, extra=[("bias", "b", "tensor<5xf64>")])
        gates, ids = interpret(text, logits, bias)
        key = logits.sigmoid() if order == "score_then_topk" else logits
        equal(ids, (key + bias).topk(2)[1].int())
        chosen = logits.sigmoid().gather(1, ids.long())
        equal(gates, chosen / chosen.sum(-1, keepdim=True))


@pytest.mark.parametrize("order", ["score_then_topk", "topk_then_score"])
def test_ties_go_to_the_lower_id(order):
    logits = torch.tensor([[1.0, 2.0, 2.0, 1.0, 2.0], [0.0] * 5, [-0.0, 0.0, -0.0, 0.0, 0.0]]).double()
    gates, ids = interpret(route_text("?", 4, 5, "normalize", order=order), logits)
    assert ids.tolist() == [[1, 2, 4, 0], [0, 1, 2, 3], [0, 1, 2, 3]]
    equal(gates, softmax_gates(logits, ids))


def test_ties_among_many_experts():
    logits = torch.zeros(2, 40).double()
    logits[1, [39, 7, 23, 25]] = 1.0
    _, ids = interpret(route_text("?", 5, 40), logits)
    assert ids.tolist() == [[0, 1, 2, 3, 4], [7, 23, 25, 39, 0]]


def test_saturated_scores_are_ties_in_f32():
    """Sigmoids of 20 and 30 are one number in f32, and two in f64."""
    logits = torch.tensor([[20.0, 30.0, -1.0]])
    for dtype, expected in [(torch.float32, [0, 1]), (torch.float64, [1, 0])]:
        _, ids = interpret(route_text("?", 2, 3, "", "sigmoid", dtype=dtype), logits.to(dtype))
        assert ids[0].tolist() == expected


@pytest.mark.parametrize("order", ["score_then_topk", "topk_then_score"])
@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
def test_rows_without_a_finite_logit(order, score):
    rows = [[-INF] * 4, [NAN] * 4, [INF, -INF, NAN, -INF], [0.5, -INF, -INF, -INF]]
    text = route_text("?", 2, 4, "normalize", score, order, optional=True)
    gates, ids, scores, lse = interpret(text, torch.tensor(rows, dtype=torch.float64))
    assert ids.tolist() == [[0, 1]] * 4
    equal(gates, torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 0.0]], dtype=torch.float64))
    assert not scores[:3].any() and not lse[:3].any()
    equal(lse[3:], torch.tensor([0.5], dtype=torch.float64))


def test_nan_logits_sort_below_minus_infinity():
    logits = torch.tensor([[NAN, -INF, 1.0, -INF], [3.0, NAN, 2.0, NAN]], dtype=torch.float64)
    for order in ("score_then_topk", "topk_then_score"):
        gates, ids = interpret(route_text("?", 4, 4, "", "sigmoid", order), logits)
        assert ids.tolist() == [[2, 1, 3, 0], [0, 2, 1, 3]]
        equal(gates, logits.sigmoid().gather(1, ids.long()))
    # Softmax over all experts is NaN everywhere, as in PyTorch.
    gates, ids = interpret(route_text("?", 2, 4), logits)
    assert ids.tolist() == [[0, 1], [0, 1]] and gates.isnan().all()
    # Over the chosen alone it is not.
    gates, ids = interpret(route_text("?", 2, 4, order="topk_then_score"), logits)
    assert ids.tolist() == [[2, 1], [0, 2]]
    equal(gates[1], torch.tensor([3.0, 2.0]).double().softmax(0))


def test_mask():
    logits = random(4, 5)
    mask = torch.tensor([True, False, True, False])
    text = route_text("?", 2, 5, "normalize", extra=[("mask", "m", "tensor<?xi1>")], optional=True)
    gates, ids, scores, lse = interpret(text, logits, mask)
    weights, chosen = mixtral(logits, 2)
    equal(gates, weights * mask[:, None])
    equal(ids, torch.where(mask[:, None], chosen, torch.full_like(chosen, 5)).int())
    equal(scores, logits.softmax(-1))
    equal(lse, logits.logsumexp(-1))


@pytest.mark.parametrize("drop", ["position", "score"])
@pytest.mark.parametrize("capacity", [1, 3, 100])
def test_capacity(drop, capacity):
    logits = random(12, 4)
    mask = torch.arange(12) % 5 != 0
    text = route_text(
        "?", 2, 4, f"normalize, capacity = {capacity}, drop = #moe.drop<{drop}>", extra=[("mask", "m", "tensor<?xi1>")]
    )
    gates, ids = interpret(text, logits, mask)
    weights, chosen = mixtral(logits, 2)
    weights, chosen = weights.reshape(-1), chosen.reshape(-1)
    chosen[~mask.repeat_interleave(2)] = 4
    kept = torch.zeros(24, dtype=torch.bool)
    for expert in range(4):
        slots = (chosen == expert).nonzero()[:, 0]
        if drop == "score":
            slots = slots[torch.argsort(weights[slots], descending=True, stable=True)]
        kept[slots[:capacity]] = True
    equal(ids, torch.where(kept, chosen, torch.full_like(chosen, 4)).int().reshape(12, 2))
    # No gate is renormalised after the drop.
    equal(gates, torch.where(kept, weights, torch.zeros_like(weights)).reshape(12, 2))


def test_capacity_by_score_breaks_ties_by_slot():
    logits = torch.zeros(4, 1, dtype=torch.float64)
    text = route_text("?", 1, 1, "capacity = 2, drop = #moe.drop<score>")
    gates, ids = interpret(text, logits)
    assert ids.tolist() == [[0], [0], [1], [1]] and gates.tolist() == [[1], [1], [0], [0]]


@pytest.mark.parametrize("drop", ["position", "score"])
def test_given_sentinels_take_no_room(drop):
    """Any sentinel stays as it is and counts for no expert, also where gates are below its 0."""
    logits = torch.tensor([[-1.0, -5.0, -6.0], [-2.0, -4.0, -6.0], [-3.0, -7.0, -6.0]]).double()
    given = torch.tensor([[0, -2], [-2, 0], [-3, -4]], dtype=torch.int32)
    text = route_text("?", 2, 3, f"capacity = 2, drop = #moe.drop<{drop}>", "identity", extra=[("ids", "r", "tensor<?x2xi32>")])
    gates, ids = interpret(text, logits, given)
    equal(ids, given)
    equal(gates, torch.tensor([[-1.0, 0.0], [0.0, -2.0], [0.0, 0.0]]).double())
    # Room for one.
    gates, ids = interpret(text.replace("capacity = 2", "capacity = 1"), logits, given)
    equal(ids, torch.tensor([[0, -2], [-2, 3], [-3, -4]], dtype=torch.int32))
    equal(gates, torch.tensor([[-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]).double())


@pytest.mark.parametrize("order", ["score_then_topk", "topk_then_score"])
def test_given_ids(order):
    logits = random(4, 5)
    given = torch.tensor([[3, 0], [2, 2], [-1, 4], [9, -7]], dtype=torch.int32)
    text = route_text("?", 2, 5, "normalize", order=order, extra=[("ids", "r", "tensor<?x2xi32>")])
    gates, ids = interpret(text, logits, given)
    equal(ids, given)
    equal(gates, softmax_gates(logits, given).nan_to_num(0.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_logits(dtype):
    """Computed from the logits as stored; --round rounds what is returned."""
    logits = random(9, 8, dtype=dtype)
    gates, ids = interpret(route_text("?", 2, 8, "normalize", dtype=dtype), logits, round=True)
    weights, chosen = mixtral(logits.double(), 2)
    assert torch.equal(gates, weights.to(dtype)) and torch.equal(ids, chosen.int())


# ------------------------------------------------------------------- gradient


def differentiable(logits, ids, score, late, normalize, eps, scale):
    """Gates, scores and logsumexp of fixed ids, for autograd."""
    experts = logits.shape[1]
    apply = {"softmax": lambda x: x.softmax(-1), "sigmoid": torch.sigmoid, "identity": lambda x: x}[score]
    scores = apply(logits)
    valid = (ids >= 0) & (ids < experts)
    index = ids.clamp(0, experts - 1).long()
    if late:
        chosen = logits.gather(1, index)
        if score == "softmax":
            chosen = chosen.masked_fill(~valid, -INF)
        gates = apply(chosen)
    else:
        gates = scores.gather(1, index)
    gates = torch.where(valid, gates, torch.zeros_like(gates))
    if normalize:
        gates = gates / (gates.sum(-1, keepdim=True) + eps)
    return gates * scale, scores, logits.logsumexp(-1)


@pytest.mark.parametrize("score", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("tokens, k, experts", [(7, 2, 5), (3, 1, 4), (4, 3, 3), (0, 2, 3)])
def test_route_grad(score, late, normalize, optional, tokens, k, experts):
    logits = random(tokens, experts).requires_grad_()
    ids = torch.randint(0, experts, (tokens, k), generator=torch.Generator().manual_seed(1))
    if tokens > 3:
        ids[1, 0] = experts  # a sentinel
        ids[2] = ids[2, 0]  # duplicates
        ids[3, :-1] = -1
    cotangents = [random(tokens, k, seed=1), random(tokens, experts, seed=2), random(tokens, seed=3)]
    attributes = ["eps = 0.25", "scale = 1.5"] + ["normalize"] * normalize
    order = "topk_then_score" if late else "score_then_topk"
    n = f"tensor<?x{experts}xf64>"
    extra = f"scores(%ds : {n}) logsumexp(%dl : tensor<?xf64>)" if optional else ""
    text = f"""
func.func @f(%x: {n}, %i: tensor<?x{k}xi64>, %dg: tensor<?x{k}xf64>, %ds: {n}, %dl: tensor<?xf64>) -> ({n}) {{
  %d = moe.route_grad %x, %i, %dg {score} {order} {extra} {{{", ".join(attributes)}}}
      : {n}, tensor<?x{k}xi64>, tensor<?x{k}xf64> -> {n}
  return %d : {n}
}}"""
    outputs = differentiable(logits, ids, score, late, normalize, 0.25, 1.5)
    used = slice(None) if optional else slice(1)
    (expected,) = torch.autograd.grad(outputs[used], logits, cotangents[used], allow_unused=True)
    if expected is None:
        expected = torch.zeros_like(logits)
    (gradient,) = interpret(text, logits, ids, *cotangents)
    equal(gradient, expected.nan_to_num(0.0))


def test_route_grad_of_rows_without_a_finite_logit():
    text = """
func.func @f(%x: tensor<?x3xf64>, %i: tensor<?x2xi32>, %dg: tensor<?x2xf64>, %ds: tensor<?x3xf64>, %dl: tensor<?xf64>) -> (tensor<?x3xf64>) {
  %d = moe.route_grad %x, %i, %dg softmax score_then_topk scores(%ds : tensor<?x3xf64>) logsumexp(%dl : tensor<?xf64>) {normalize}
      : tensor<?x3xf64>, tensor<?x2xi32>, tensor<?x2xf64> -> tensor<?x3xf64>
  return %d : tensor<?x3xf64>
}"""
    logits = torch.tensor([[-INF] * 3, [NAN] * 3, [-INF, 1.0, -INF]], dtype=torch.float64)
    ids = torch.tensor([[0, 1], [0, 1], [1, 0]], dtype=torch.int32)
    (gradient,) = interpret(text, logits, ids, random(3, 2), random(3, 3), random(3))
    assert not gradient[:2].any()
    equal(gradient[2], torch.tensor([0.0, random(3)[2].item(), 0.0], dtype=torch.float64))
