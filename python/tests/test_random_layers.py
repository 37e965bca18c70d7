# SPDX-License-Identifier: Apache-2.0
"""Layers with random options, sizes and numbers of tokens, compiled, against PyTorch.

The same examples each time; MOE_FUZZ_EXAMPLES=500 draws that many new ones
(`make fuzz` does).
"""

import os

import hypothesis
import torch
from hypothesis import strategies as st
from layers_reference import ACTIVATIONS, arguments_of, reference
from moe_mlir.layers import MLP, Adapter, GatedMLP, MixtureOfAttention, ParallelLinear, Router, Routing
from test_layers import as_list, check, nan_filled

NEW = int(os.environ.get("MOE_FUZZ_EXAMPLES", "0"))
settings = hypothesis.settings(
    max_examples=NEW or 25,
    derandomize=not NEW,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    print_blob=True,
)

# No multiple of anything, one, and one more or less than what kernels like.
WIDTHS = st.sampled_from([1, 2, 3, 5, 8, 13, 16, 17, 33, 63, 65])
TOKENS = st.sampled_from([0, 1, 2, 3, 7, 16, 17, 31, 65])
KINDS = st.sampled_from(["distinct", "random", "hot", "empty", "sentinels", "all_sentinels"])
LAYOUTS = st.sampled_from(["out_in", "in_out"])
ADAPTERS = st.one_of(st.none(), st.builds(Adapter, st.integers(1, 4), scale=st.sampled_from([1.0, 0.5])))


@st.composite
def routings(draw):
    """What layers_reference restates: all but groups and capacity."""
    score = draw(st.sampled_from(["softmax", "sigmoid", "identity"]))
    return Routing(
        score=score,
        order=draw(st.sampled_from(["score_then_topk", "topk_then_score"])),
        normalize=score != "identity" and draw(st.booleans()),
        eps=draw(st.sampled_from([0.0, 1e-20, 0.25])),
        scale=draw(st.sampled_from([1.0, 2.5])),
        bias=draw(st.booleans()),
        mask=draw(st.booleans()),
        replay=draw(st.booleans()),
        logits_dtype="f64",
    )


@st.composite
def random_layers(draw, dtype):
    experts = draw(st.sampled_from([1, 2, 3, 5, 8]))
    common = dict(
        dtype=dtype,
        experts=experts,
        top_k=draw(st.integers(1, experts)),
        id_dtype=draw(st.sampled_from(["i32", "i64"])),
    )
    kind = draw(st.sampled_from([GatedMLP, GatedMLP, MLP, ParallelLinear, MixtureOfAttention, Router]))
    if kind is Router:
        common.pop("dtype")
        return Router(routing=draw(routings()), gate_dtype="f64", **common)
    common.update(bias=draw(st.booleans()), weight_layout=draw(LAYOUTS), adapter=draw(ADAPTERS))
    if kind is ParallelLinear:
        orders = [draw(st.sampled_from(o)) for o in (["token", "slot", "grouped"], ["slot", "grouped"])]
        return ParallelLinear(d_in=draw(WIDTHS), d_out=draw(WIDTHS), source=orders[0], result=orders[1], **common)
    common["gate_dtype"] = dtype if dtype == "f64" else draw(st.sampled_from(["f32", dtype]))
    if kind is MixtureOfAttention:
        return MixtureOfAttention(
            d_model=draw(WIDTHS), heads=draw(st.integers(1, 3)), head_dim=draw(st.integers(1, 9)), **common)
    common.update(
        d_model=draw(WIDTHS),
        d_expert=draw(WIDTHS),
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))),
        gate_on=draw(st.sampled_from(["output", "output", "input", "none"])),
        d_shared=draw(st.sampled_from([0, 0, 1, 6])),
    )
    if kind is MLP:
        return MLP(**common)
    return GatedMLP(
        columns=draw(st.sampled_from(["concat", "interleave", "separate"])),
        gate_first=draw(st.booleans()),
        limit=draw(st.sampled_from([None, 0.7])),
        **common,
    )


def run(layer, tokens, kind):
    for entry in layer.entries:
        named = arguments_of(layer, entry, tokens, kind)
        outputs = nan_filled(layer, entry, tokens)
        results = as_list(layer.compile(opt_level=1)[entry](*named.values(), out=tuple(outputs)))
        yield named, entry, results


@hypothesis.given(random_layers("f64"), TOKENS, KINDS)
@settings
def test_double_precision_agrees_with_pytorch(layer, tokens, kind):
    for named, entry, results in run(layer, tokens, kind):
        for values, want in zip(results, reference(layer, entry, named), strict=True):
            if not want.is_floating_point():
                assert torch.equal(values.long(), want.long())
                continue
            known = ~want.isnan()
            torch.testing.assert_close(values[known], want[known], rtol=1e-9, atol=1e-9)


@hypothesis.given(st.data(), st.sampled_from(["bf16", "f16", "f32"]), TOKENS, KINDS)
@settings
def test_narrow_types_are_no_worse_than_op_by_op(data, dtype, tokens, kind):
    layer = data.draw(random_layers(dtype).filter(lambda layer: not isinstance(layer, Router)))
    for named, entry, results in run(layer, tokens, kind):
        exact = as_list(layer.interpret(*named.values(), entry=entry))
        rounded = as_list(layer.interpret(*named.values(), entry=entry, round=True))
        sizes = [size for a in layer.inputs(entry) for size in a.dims if isinstance(size, int)]
        for values, want, op_by_op in zip(results, exact, rounded, strict=True):
            # One number is luck; the rule is about many.
            if values.numel() >= 64:
                check(values, want.double(), op_by_op, max(sizes))
