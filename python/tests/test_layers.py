# SPDX-License-Identifier: Apache-2.0
"""Every layer with every option: compiled, interpreted, and restated in PyTorch."""

import moe_mlir
import numpy as np
import pytest
import torch
from layers_reference import arguments_of, describe, reference
from moe_mlir import layers
from moe_mlir.layers import MLP, Adapter, GatedMLP, MixtureOfAttention, ParallelLinear, Router, Routing

E, K = 4, 2
MLP_SIZES = dict(d_model=20, d_expert=12, experts=E, top_k=K)
LINEAR_SIZES = dict(d_in=20, d_out=12, experts=E, top_k=K)
ATTENTION_SIZES = dict(d_model=20, heads=2, head_dim=6, experts=E, top_k=K)


def linear(**options):
    return ParallelLinear(**LINEAR_SIZES, **options)


def mlp(**options):
    return MLP(**{**MLP_SIZES, **options})


def gated(**options):
    return GatedMLP(**{**MLP_SIZES, **options})


def attention(**options):
    return MixtureOfAttention(**{**ATTENTION_SIZES, **options})


LAYERS = [
    # The row combinations; slot and grouped x are poisoned where nothing may read.
    *(linear(source=s, result=r) for s in ("token", "slot", "grouped") for r in ("slot", "grouped")),
    linear(bias=True, id_dtype="i32"),
    linear(bias=True, weight_layout="in_out", result="grouped", dtype="bf16"),
    linear(adapter=Adapter(3, scale=0.5), source="grouped"),
    linear(adapter=Adapter(3), weight_layout="in_out", bias=True, source="slot", result="grouped"),
    linear(dtype="f64", tokens=9),
    *(mlp(activation=a) for a in layers.activations),
    mlp(bias=True, gate_on="input"),
    mlp(gate_on="none", weight_layout="in_out", dtype="f16"),
    mlp(adapter=Adapter(3, scale=2.0), bias=True),
    mlp(d_shared=8, bias=True, activation="relu2"),
    mlp(dtype="f64", gate_dtype="f64", d_shared=5),
    mlp(dtype="bf16", gate_dtype="bf16", id_dtype="i32", tokens=9),
    mlp(top_k=1),
    mlp(top_k=E),
    mlp(experts=1, top_k=1),
    *(gated(columns=c, gate_first=g, bias=not g) for c in ("concat", "interleave", "separate") for g in (True, False)),
    gated(limit=0.7, alpha=1.702, up_offset=1.0, columns="interleave", bias=True, weight_layout="in_out"),
    gated(limit=0.5, columns="separate", activation="gelu", gate_first=False),
    gated(adapter=Adapter(2, scale=0.25), columns="separate", dtype="bf16"),
    gated(adapter=Adapter(2), columns="interleave", weight_layout="in_out"),
    gated(d_shared=8, columns="separate", bias=True),
    gated(gate_on="input", activation="relu", dtype="f16", gate_dtype="f16"),
    gated(dtype="bf16"),
    gated(routing=Routing.mixtral(returns=("gates", "ids"))),
    gated(routing=Routing.deepseek_v3(n_group=1, topk_group=1), d_shared=8),
    gated(routing=Routing.gpt_oss(bias=True, mask=True), dtype="bf16"),
    gated(routing=Routing.qwen3(replay=True), id_dtype="i32"),
    attention(),
    attention(bias=True, weight_layout="in_out", dtype="bf16"),
    attention(adapter=Adapter(3, scale=0.5), id_dtype="i32", gate_dtype="bf16"),
    *(Router(experts=16, top_k=3, routing=r) for r in (
        Routing.mixtral(), Routing.olmoe(returns=("scores", "logsumexp")), Routing.gpt_oss(mask=True),
        Routing(score="sigmoid", order="topk_then_score", bias=True, normalize=True, eps=0.25, scale=2.5),
        Routing(score="identity", order="topk_then_score", logits_dtype="bf16"))),
    Router(experts=5, top_k=5, id_dtype="i32", gate_dtype="bf16", routing=Routing(replay=True, normalize=True)),
]
CASES = [pytest.param(layer, entry, id=f"{describe(layer)}-{entry}") for layer in LAYERS for entry in layer.entries]
EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


@pytest.fixture(scope="module")
def compiled():
    """Compiles each layer once."""
    modules = {}
    return lambda layer: modules.setdefault(layer, None) or modules.update({layer: layer.compile()}) or modules[layer]


def as_list(results):
    return list(results) if isinstance(results, tuple) else [results]


def nan_filled(layer, entry, tokens):
    """Outputs full of NaN, ids full of a number that is no id."""
    outputs = []
    for o in layer.outputs(entry):
        dtype = getattr(torch, o.numpy_dtype)
        outputs.append(torch.full(o.shape(T=tokens), float("nan") if dtype.is_floating_point else 77, dtype=dtype))
    return outputs


def error(values, exact):
    """Root mean square, over what is specified (NaN in `exact` is not)."""
    known = ~exact.isnan()
    difference = (values.double() - exact)[known]
    return difference.square().mean().sqrt().item() if difference.numel() else 0.0


def check(values, exact, rounded, depth, rounding=None):
    """err(values) <= 1.1 err(rounded) + one rounding (of `rounding`, or the values' dtype),
    and f32's sums where they show.

    `rounded` is the oracle's with every tensor rounded but sums exact; a sum of
    `depth` terms in f32 adds about sqrt(depth) roundings of f32."""
    assert values.shape == exact.shape
    if not exact.is_floating_point():
        assert torch.equal(values.long(), exact.long())
        return
    scale = error(torch.zeros_like(exact), exact)
    sums = EPS[torch.float64 if values.dtype == torch.float64 else torch.float32] * depth**0.5
    allowed = 1.1 * error(rounded, exact) + (EPS[rounding or values.dtype] / 2 + sums) * scale
    assert error(values, exact) <= allowed


@pytest.mark.parametrize("layer, entry", CASES)
def test_compiled_and_interpreted_agree_with_pytorch(layer, entry, compiled):
    tokens = layer.tokens or 9
    named = arguments_of(layer, entry, tokens)
    exact = reference(layer, entry, named)
    rounded = as_list(layer.interpret(*named.values(), entry=entry, round=True))
    oracle = as_list(layer.interpret(*named.values(), entry=entry))
    outputs = nan_filled(layer, entry, tokens)
    run = compiled(layer)[entry]
    workspace = torch.full((run.workspace_size(T=tokens) + 64,), 0xFF, dtype=torch.uint8)  # NaN in every dtype
    workspace = workspace[-workspace.data_ptr() % 64 :]
    returned = as_list(run(*named.values(), out=tuple(outputs), workspace=workspace))
    assert all(a is b for a, b in zip(returned, outputs, strict=True))
    depth = max(size for a in layer.inputs(entry) for size in a.dims if isinstance(size, int))
    for values, want, half, wide in zip(outputs, exact, rounded, oracle, strict=True):
        if want.is_floating_point():
            narrow = want.to(wide.dtype).double()
            assert error(wide, narrow) <= EPS[wide.dtype] * error(torch.zeros_like(narrow), narrow)
        check(values, want, half, depth)


@pytest.mark.parametrize("layer, entry", [c for c in CASES if c.values[0].tokens is None][::4])
@pytest.mark.parametrize("tokens, kind", [(0, "random"), (1, "hot"), (33, "random"), (5, "all_sentinels")])
def test_other_numbers_of_tokens(layer, entry, tokens, kind, compiled):
    named = arguments_of(layer, entry, tokens, kind)
    exact = reference(layer, entry, named)
    results = as_list(compiled(layer)[entry](*named.values()))
    # Three tensors are rounded on the way to a result of the MLPs.
    for values, want in zip(results, exact, strict=True):
        check(values, want, want * (1 + 2 * EPS[values.dtype]) if want.is_floating_point() else want, 40)


@pytest.mark.parametrize("routing", [
    Routing.deepseek_v3(n_group=4, topk_group=2), Routing(groups=2, masked_groups="neg_inf", normalize=True),
    Routing.mixtral(capacity=2), Routing.mixtral(capacity=2, drop="score", mask=True)], ids=lambda r: r._attributes())
def test_groups_and_capacity_agree_with_the_oracle(routing):
    """What layers_reference does not restate; test_interpreter_route checks the oracle."""
    layer = Router(experts=8, top_k=2, routing=routing)
    named = arguments_of(layer, "forward", 21)
    gates, ids = layer.compile()(*named.values())
    exact_gates, exact_ids = layer.interpret(*named.values())
    assert torch.equal(ids, exact_ids)
    torch.testing.assert_close(gates, exact_gates, rtol=1e-6, atol=0)


def test_the_check_notices_a_wrong_expert(compiled):
    """With two experts' weights exchanged, the check above fails."""
    layer = gated()
    named = arguments_of(layer, "forward", 9)
    exact = reference(layer, "forward", named)[0]
    named["w2"] = named["w2"][[1, 0, 2, 3]].contiguous()
    with pytest.raises(AssertionError):
        check(compiled(layer)(*named.values()), exact, exact, 20)


# ---- what a layer says of itself -----------------------------------------------


@pytest.mark.parametrize("layer, entry", CASES)
def test_inputs_and_outputs_are_the_manifests(layer, entry, compiled):
    run = compiled(layer)[entry]
    for mine, theirs in ((layer.inputs(entry), run.inputs), (layer.outputs(entry), run.outputs)):
        assert [a.name for a in mine] == [a["name"] for a in theirs]
        assert [a.numpy_dtype for a in mine] == [a["dtype"] for a in theirs]
        assert [tuple(map(str, a.dims)) for a in mine] == [tuple(map(str, a["dims"])) for a in theirs]


STAGE_SHOWS = {
    "input": "moe.parallel_linear",
    "expanded": "moe.sort_slots",
    "fused": "moe.grouped_matmul",
    "bufferized": "memref.view",
    "loops": "scf.parallel",
    "llvm": "llvm.func",
}


@pytest.mark.parametrize("stage", STAGE_SHOWS)
@pytest.mark.parametrize("layer", [gated(), attention(), linear()], ids=describe)
def test_ir_of_each_stage(layer, stage):
    text = layer.ir(stage)
    assert STAGE_SHOWS[stage] in text
    later = [s for s in STAGE_SHOWS if list(STAGE_SHOWS).index(s) > list(STAGE_SHOWS).index(stage)]
    for other in later:
        assert STAGE_SHOWS[other] not in text, f"{stage} already shows {other}"


def test_ir_of_forward_and_backward():
    """The gated MLP becomes the kernels of docs/Fusion.md: three, and five."""
    names = ["x", "gates", "w1", "w2"]
    joint = gated().ir("differentiated", grad=names)
    assert "func.func @backward" in joint and "moe.weight_grad" in joint and "moe.grouped_matmul" not in joint
    forward, backward = gated().ir("fused", grad=names).split("func.func @backward")
    kernels = ("moe.grouped_matmul", "moe.grouped_outer", "moe.map_rows", "moe.combine_rows")
    assert [forward.count(kernel) for kernel in kernels] == [2, 0, 0, 1]
    assert [backward.count(kernel) for kernel in kernels] == [2, 2, 0, 1]
    with pytest.raises(moe_mlir.errors.CompileError, match="no stage 'differentiated' without gradients"):
        gated().ir("differentiated")


def test_ir_of_each_stage_of_a_gpu():
    layer = layers.MLP(d_model=16, d_expert=8, experts=4, top_k=2, dtype="bf16")
    kernels = {target: layer.ir("kernels", target, ptxas="none") for target in ("sm_80", "sm_90a")}
    assert "gpu.launch" in kernels["sm_80"] and "nvtile." not in kernels["sm_80"]
    assert "nvtile.mma" in kernels["sm_90a"]
    assert 'chip = "sm_80"' in layer.ir("nvvm", "sm_80", ptxas="none")
    with pytest.raises(moe_mlir.errors.CompileError, match="target 'cpu' has no stage 'kernels'"):
        layer.ir("kernels")


def test_ir_takes_options():
    assert gated().ir("loops", cpu="x86-64-v3") != gated().ir("loops", cpu="x86-64-v4")
    with pytest.raises(ValueError, match="stage is 'fussed'; choose one of 'input'"):
        gated().ir("fussed")


def test_text_is_the_layer():
    layer = gated()
    assert str(layer) == layer.text
    assert layer.text.count("moe.parallel_linear") == 2
    assert gated() == layer and hash(gated()) == hash(layer)


def test_argument_shapes():
    x = gated().inputs()[0]
    assert (x.name, x.dtype, x.numpy_dtype, x.dims) == ("x", "f32", "float32", ("T", 20))
    assert x.shape(T=7) == (7, 20)
    assert attention().outputs("query")[0].shape(T=7) == (14, 12)
    with pytest.raises(ValueError, match="say how large T is"):
        x.shape()


REFUSED = [
    (lambda: mlp(top_k=5), "top_k is 5, more than the 4 experts"),
    (lambda: mlp(top_k=0), "top_k is 0; it has to be an integer of at least 1"),
    (lambda: mlp(experts=-1), "experts is -1"),
    (lambda: mlp(d_model=0), "d_model is 0"),
    (lambda: mlp(d_expert=2.5), "d_expert is 2.5"),
    (lambda: mlp(d_shared=-8), "d_shared is -8"),
    (lambda: mlp(activation="swish"), "activation is 'swish'; choose one of 'silu'"),
    (lambda: mlp(gate_on="both"), "gate_on is 'both'"),
    (lambda: mlp(weight_layout="oi"), "weight_layout is 'oi'"),
    (lambda: mlp(dtype="float32"), "dtype is 'float32'; choose one of 'f64', 'f32', 'f16', 'bf16'"),
    (lambda: mlp(dtype="f64"), "dtype is 'f64' and gate_dtype 'f32'"),
    (lambda: mlp(id_dtype="i8"), "id_dtype is 'i8'"),
    (lambda: mlp(tokens=-1), "tokens is -1"),
    (lambda: mlp(tokens=2.5), "tokens is 2.5"),
    (lambda: gated(columns="blocks"), "columns is 'blocks'"),
    (lambda: gated(limit=-1.0), "limit is -1.0"),
    (lambda: gated(alpha=1.7, activation="gelu"), "alpha goes with activation='silu', not 'gelu'"),
    (lambda: linear(source="sorted"), "source is 'sorted'"),
    (lambda: linear(result="token"), "result is 'token'"),
    (lambda: Adapter(0), "rank is 0"),
    (lambda: attention(heads=0), "heads is 0"),
    (lambda: Routing(score="relu"), "score is 'relu'"),
    (lambda: Routing(order="topk"), "order is 'topk'"),
    (lambda: Routing(returns=("probs",)), "returns is 'probs'"),
    (lambda: Routing(logits_dtype="f8"), "logits_dtype is 'f8'"),
    (lambda: Router(experts=2, top_k=3), "top_k is 3"),
]


@pytest.mark.parametrize("make, message", REFUSED, ids=[message for _, message in REFUSED])
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_numpy_and_torch_give_the_same_bits(compiled):
    layer = gated()
    named = arguments_of(layer, "forward", 9)
    by_torch = compiled(layer)(*named.values())
    by_numpy = compiled(layer)(*(a.numpy() for a in named.values()))
    assert isinstance(by_numpy, np.ndarray) and torch.equal(torch.from_numpy(by_numpy), by_torch)
    interpreted = layer.interpret(*(a.numpy() for a in named.values()))
    assert isinstance(interpreted, np.ndarray)


def test_bfloat16_arrays_of_numpy(compiled):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    layer = gated(dtype="bf16")
    named = arguments_of(layer, "forward", 9)
    as_numpy = [a.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if a.dtype == torch.bfloat16 else a.numpy()
                for a in named.values()]
    by_numpy = compiled(layer)(*as_numpy)
    assert by_numpy.dtype == ml_dtypes.bfloat16
    by_torch = compiled(layer)(*named.values())
    assert np.array_equal(by_numpy.view(np.int16), by_torch.view(torch.int16).numpy())
    assert layer.interpret(*as_numpy).dtype == ml_dtypes.bfloat16
