# SPDX-License-Identifier: Apache-2.0
"""First and second derivatives of routes, in float64."""

import pytest
import torch
from gradients import check
from oracle import ELEMENT, make_ids, random


def route(score, order, normalize, scale, eps, tokens="?", k=2, e=5, ids=False, mask=False, capacity=None, optional=True):
    attributes = [f"scale = {scale:e}", f"eps = {eps:e}"]
    if normalize:
        attributes.append("normalize")
    if capacity:
        attributes.append(f"capacity = {capacity}")
    lg, gates, i = f"tensor<?x{e}xf64>", f"tensor<?x{k}xf64>", f"tensor<?x{k}xi32>"
    parameters, operands = f"%x: {lg}", ""
    if mask:
        parameters += ", %m: tensor<?xi1>"
        operands += " mask(%m : tensor<?xi1>)"
    if ids:
        parameters += f", %given: {i}"
        operands += f" ids(%given : {i})"
    results, names, tail = [gates, i], "%g, %i", ""
    if optional:
        results += [lg, "tensor<?xf64>"]
        names += ", %s, %l"
        tail = f" scores({lg}) logsumexp(tensor<?xf64>)"
    return f"""
func.func @f({parameters}) -> ({", ".join(results)}) {{
  {names} = moe.route %x {score} {order}{operands} {{{", ".join(attributes)}}} : {lg} -> {gates}, {i}{tail}
  return {names} : {", ".join(results)}
}}"""


def score_of(score, x):
    return {"softmax": lambda: x.softmax(-1), "sigmoid": x.sigmoid, "identity": lambda: x * 1}[score]()


def reference(score, order, normalize, scale, eps, k=2, capacity=None, optional=True):
    def function(x, mask=None, given=None):
        e = x.shape[1]
        scores = score_of(score, x)
        keys = scores if order == "score_then_topk" else x
        ids = given if given is not None else torch.topk(keys, k, dim=1)[1].int()
        valid = (ids >= 0) & (ids < e)
        safe = ids.clamp(0, e - 1).long()
        if order == "score_then_topk":
            gates = torch.where(valid, scores.gather(1, safe), 0)
        else:
            z = x.gather(1, safe)
            if score == "softmax":
                gates = torch.where(valid, z, -torch.inf)
                gates = torch.where(valid.any(1, keepdim=True), gates, 0.0)
                gates = torch.where(valid, gates.softmax(1), 0)
            else:
                gates = torch.where(valid, score_of(score, z), 0)
        if normalize:
            total = gates.sum(1, keepdim=True) + eps
            gates = gates / torch.where(valid.any(1, keepdim=True), total, 1.0)
        gates = gates * scale
        if mask is not None:
            gates = torch.where(mask[:, None], gates, 0)
            ids = torch.where(mask[:, None], ids, e)
        if capacity:
            kept = torch.zeros_like(ids, dtype=torch.bool)
            count = [0] * e
            for t in range(ids.shape[0]):
                for j in range(ids.shape[1]):
                    if 0 <= ids[t, j] < e:
                        kept[t, j] = count[ids[t, j]] < capacity
                        count[ids[t, j]] += 1
            dropped = ~kept & (ids >= 0) & (ids < e)
            gates = torch.where(dropped, 0, gates)
            ids = torch.where(dropped, e, ids).int()
        results = [gates, ids]
        if optional:
            results += [scores, x.logsumexp(1)]
        return results

    return function


KINDS = [
    (score, order, normalize)
    for score in ("softmax", "sigmoid", "identity")
    for order in ("score_then_topk", "topk_then_score")
    for normalize in (False, True)
    if not (normalize and score == "identity")
]


@pytest.mark.parametrize("score, order, normalize", KINDS)
@pytest.mark.parametrize("tokens", [0, 1, 7])
@pytest.mark.parametrize("optional", [False, True])
def test_route(score, order, normalize, tokens, optional):
    options = (score, order, normalize, 2.5, 1e-3)
    check(
        route(*options, optional=optional), reference(*options, optional=optional), [random(tokens, 5)], [0], tolerance=1e-8
    )


@pytest.mark.parametrize("score, order, normalize", KINDS)
def test_given_ids_with_sentinels(score, order, normalize):
    options = (score, order, normalize, 1.5, 1e-2)
    ids = make_ids("sentinels", 9, 3, 5)
    function = reference(*options, k=3)
    check(route(*options, k=3, ids=True), lambda x, i: function(x, given=i), [random(9, 5), ids], [0], tolerance=1e-8)


@pytest.mark.parametrize("score, order, normalize", KINDS)
def test_mask(score, order, normalize):
    options = (score, order, normalize, 1.0, 1e-2)
    mask = torch.tensor([True, False, True, True, False])
    check(route(*options, mask=True), reference(*options), [random(5, 5), mask], [0], tolerance=1e-8)


@pytest.mark.parametrize("score, order, normalize", KINDS)
def test_capacity(score, order, normalize):
    options = (score, order, normalize, 1.0, 1e-2)
    check(route(*options, capacity=2), reference(*options, capacity=2), [random(9, 5)], [0], tolerance=1e-8)


def test_token_without_a_finite_logit():
    x = random(3, 5)
    x[1] = -torch.inf
    options = ("softmax", "score_then_topk", True, 1.0, 0.0)
    alive = reference(*options, optional=False)

    def function(x):
        gates, ids = alive(x[[0, 2]])
        zero = torch.zeros(1, 2, dtype=x.dtype)
        lowest = torch.tensor([[0, 1]], dtype=torch.int32)
        return torch.cat([gates[:1], zero, gates[1:]]), torch.cat([ids[:1], lowest, ids[1:]])

    check(route(*options, optional=False), function, [x], [0], tolerance=1e-8)


def test_bias_moves_the_choice_alone():
    e = ELEMENT[torch.float64]
    text = f"""
func.func @f(%x: tensor<?x4x{e}>, %b: tensor<4x{e}>) -> tensor<?x1x{e}> {{
  %g, %i = moe.route %x sigmoid score_then_topk bias(%b : tensor<4x{e}>)
      : tensor<?x4x{e}> -> tensor<?x1x{e}>, tensor<?x1xi32>
  return %g : tensor<?x1x{e}>
}}"""

    def function(x, b):
        return x.sigmoid().gather(1, (x.sigmoid() + b).argmax(1, keepdim=True))

    check(text, function, [random(6, 4), random(4)], [0, 1])
