# SPDX-License-Identifier: Apache-2.0
"""Experts of Hugging Face models: stand-ins for their modules, and, where
transformers is installed, small models of its own."""

import copy
import types

import moe_mlir.hf
import pytest
import torch
from moe_mlir import layers
from moe_mlir.errors import UnsupportedError
from torch import nn
from torch.nn import functional as F

T, D, N, E, K = 13, 24, 16, 4, 2


class Experts(nn.Module):
    """What transformers' decorated classes have; `loop` is their eager code."""

    def __init__(self, act=F.silu, gate=True, bias=False, transposed=False, concatenated=True, dtype=torch.float32):
        super().__init__()
        self.act_fn, self.has_gate, self.has_bias = act, gate, bias
        self.is_transposed, self.is_concatenated, self.num_experts = transposed, concatenated, E
        self.config = types.SimpleNamespace(_experts_implementation=None)
        up, width = ("gate_up_proj", 2 * N) if gate else ("up_proj", N)
        for name, (o, i) in {up: (width, D), "down_proj": (D, N)}.items():
            weight = torch.randn(E, i, o) if transposed else torch.randn(E, o, i)
            setattr(self, name, nn.Parameter((weight / i**0.5).to(dtype)))
            if bias:
                setattr(self, f"{name}_bias", nn.Parameter(torch.randn(E, o).to(dtype)))

    def _apply_gate(self, gate_up):
        gate, up = gate_up.chunk(2, -1)
        return self.act_fn(gate) * up

    def loop(self, x, ids, weights):
        name = "gate_up_proj" if self.has_gate else "up_proj"
        out = torch.zeros_like(x)
        for expert in range(E):
            token, choice = torch.where(ids == expert)
            h = x[token]
            for projection in (name, "down_proj"):
                w = getattr(self, projection)[expert]
                h = h @ (w if self.is_transposed else w.T)
                if self.has_bias:
                    h = h + getattr(self, f"{projection}_bias")[expert]
                if projection == name:
                    h = self._apply_gate(h) if self.has_gate else self.act_fn(h)
            out = out.index_add(0, token, (h * weights[token, choice, None]).to(out.dtype))
        return out


class GptOssExperts(Experts):
    limit, alpha = 7.0, 1.702

    def __init__(self):
        super().__init__(bias=True, transposed=True, concatenated=False)

    def _apply_gate(self, gate_up):
        gate, up = gate_up[..., ::2], gate_up[..., 1::2]
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return (up + 1) * gate * torch.sigmoid(gate * self.alpha)


class ClampedExperts(Experts):
    swiglu_limit = 0.5

    def _apply_gate(self, gate_up):
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate.clamp(max=self.swiglu_limit)) * up.clamp(-self.swiglu_limit, self.swiglu_limit)


class Float32Gate(Experts):
    def _apply_gate(self, gate_up):
        gate, up = gate_up.chunk(2, -1)
        return (self.act_fn(gate.float()) * up.float()).to(gate.dtype)


STAND_INS = {
    "mixtral": Experts,
    "biased": lambda: Experts(bias=True),
    "transposed": lambda: Experts(transposed=True),
    "relu2 without a gate": lambda: Experts(act=lambda x: F.relu(x).square(), gate=False, bias=True),
    "gelu_tanh": lambda: Experts(act=nn.GELU(approximate="tanh")),
    "gpt-oss": GptOssExperts,
    "clamped": ClampedExperts,
    "gate in float32": Float32Gate,
}


def routing(dtype=torch.float32):
    ids = torch.stack([torch.randperm(E)[:K] for _ in range(T)])
    return ids, torch.rand(T, K).to(dtype)


def relative(got, exact):
    return ((got.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("kind", STAND_INS)
def test_forward_and_backward(kind):
    torch.manual_seed(0)
    module = STAND_INS[kind]()
    exact_module = copy.deepcopy(module).double()
    ids, weights = routing()
    ids[3, 1] = E  # of another rank, under expert parallelism
    x = torch.randn(T, D)
    cotangent = torch.randn(T, D)
    results = {}
    for name, m, function, inputs in (
            ("exact", exact_module, exact_module.loop, (x.double(), weights.double())), ("loop", module, module.loop, (x, weights)),
            ("ours", module, lambda *a: moe_mlir.hf.experts_forward(module, *a), (x, weights))):
        a, w = (t.clone().requires_grad_() for t in inputs)
        out = function(a, ids, w)
        results[name] = [out.detach(), *torch.autograd.grad(out, [a, w, *m.parameters()], cotangent.to(out.dtype))]
    for ours, loop, exact in zip(results["ours"], results["loop"], results["exact"], strict=True):
        assert ours.dtype == loop.dtype
        if kind == "gate in float32":  # exact only to float32 itself
            assert relative(ours, exact) < 1e-6
        else:
            assert relative(ours, exact) <= 1.1 * relative(loop, exact) + 2.0**-23


def test_bfloat16_with_float32_and_bfloat16_weights():
    torch.manual_seed(0)
    module = Experts(dtype=torch.bfloat16)
    exact = copy.deepcopy(module).double()
    x = torch.randn(T, D).bfloat16()
    with torch.no_grad():
        for dtype in (torch.float32, torch.bfloat16):
            ids, weights = routing(dtype)
            out = moe_mlir.hf.experts_forward(module, x, ids, weights)
            reference = exact.loop(x.double(), ids, weights.double())
            assert out.dtype == torch.bfloat16
            assert relative(out, reference) <= 1.1 * relative(module.loop(x, ids, weights), reference) + 2.0**-8


def test_layers_are_recognised():
    layer = moe_mlir.hf.layer_of(GptOssExperts(), top_k=4)
    assert (layer.limit, layer.activation, layer.up_offset) == (7.0, "quick_gelu", 1.0)
    assert (layer.columns, layer.weight_layout, layer.bias) == ("interleave", "in_out", True)
    assert moe_mlir.hf.layer_of(Experts(), 2) == layers.GatedMLP(d_model=D, d_expert=N, experts=E, top_k=2)
    for name in layers.activations:
        found = moe_mlir.hf.layer_of(Experts(act=moe_mlir.hf.ACTIVATIONS[name], gate=False), 2)
        assert (type(found), found.activation) == (layers.MLP, name)


def test_what_no_layer_does_is_refused():
    for module, message in [(Experts(act=F.mish), "the gate of Experts is none that a layer has"),
                            (Experts(act=F.mish, gate=False), "the activation of Experts is none"),
                            (Experts(act=lambda x: F.silu(1.001 * x)), "the gate of Experts"),
                            (Experts(dtype=torch.float8_e4m3fn), "of torch.float8_e4m3fn; wanted")]:
        with pytest.raises(UnsupportedError, match=message):
            moe_mlir.hf.layer_of(module, 2)
    normed = Experts()
    normed.has_post_expert_norm = True
    with pytest.raises(UnsupportedError, match="normalises what each expert gives"):
        moe_mlir.hf.layer_of(normed, 2)


def test_blocks_of_one_size_share_a_layer():
    one, other = Experts(), Experts()
    assert moe_mlir.hf._operator(moe_mlir.hf.layer_of(one, 2)) is moe_mlir.hf._operator(
        moe_mlir.hf.layer_of(other, 2))


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers.integrations.moe", None)
    with pytest.raises(UnsupportedError, match="pip install 'transformers>=5'"):
        moe_mlir.hf.register()


# ---- models of transformers ------------------------------------------------------

SIZES = dict(vocab_size=97, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64)
MODELS = {
    "Mixtral": dict(num_local_experts=4, num_experts_per_tok=2),
    "Qwen3Moe": dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, head_dim=8),
    "Olmoe": dict(num_experts=8, num_experts_per_tok=4),
    "GptOss": dict(num_local_experts=4, num_experts_per_tok=2, head_dim=8),
}


@pytest.fixture
def make():
    transformers = pytest.importorskip(
        "transformers", "5.0", reason="transformers is not installed: its own models were not tested")

    def build(name):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**SIZES, **MODELS[name], experts_implementation="eager")
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))  # away from zeros and from ties
        return model

    return build


@pytest.mark.parametrize("name", MODELS)
def test_models_of_transformers(make, name):
    model = make(name)
    text = torch.randint(97, (3, 17))
    model(text, labels=text).loss.backward()
    expected = model(text).logits.detach()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert moe_mlir.hf.replace_experts(model) is model
    assert model.config._experts_implementation == "moe_mlir"
    model(text, labels=text).loss.backward()
    assert relative(model(text).logits, expected.double()) < 2e-6
    assert {n for n, p in model.named_parameters() if p.grad is not None} == set(gradients)
    for n, p in model.named_parameters():
        if n in gradients:
            assert relative(p.grad, gradients[n].double()) < 2e-5, n
    # A comparison that cannot fail would pass with an expert zeroed, too.
    weights = [p for n, p in model.named_parameters() if n.endswith("down_proj")]
    with torch.no_grad():
        weights[0][0].zero_()
    assert relative(model(text).logits, expected.double()) > 1e-3
    model.set_experts_implementation("eager")


def test_generation(make):
    model = make("Qwen3Moe")
    prompt = torch.randint(97, (2, 5))
    options = dict(max_new_tokens=12, do_sample=False)
    expected = model.generate(prompt, **options)
    assert torch.equal(moe_mlir.hf.replace_experts(model).generate(prompt, **options), expected)


def test_implementation_by_name(make):
    import transformers

    moe_mlir.hf.register()
    config = transformers.MixtralConfig(**SIZES, **MODELS["Mixtral"], experts_implementation="moe_mlir")
    model = transformers.MixtralForCausalLM(config)
    assert model(torch.randint(97, (1, 4))).logits.shape == (1, 4, 97)


def test_models_without_experts_are_refused(make):
    make("Mixtral")
    import transformers

    dense = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    with pytest.raises(UnsupportedError, match="LlamaForCausalLM has no experts that transformers dispatches"):
        moe_mlir.hf.replace_experts(dense)


def test_a_model_that_is_refused_stays_as_it_was(make):
    model = make("Mixtral")
    for module in model.modules():
        if hasattr(module, "down_proj"):
            module.act_fn = nn.Mish()
    with pytest.raises(UnsupportedError, match=r"layers.0.*the gate of MixtralExperts is none"):
        moe_mlir.hf.replace_experts(model)
    assert model.config._experts_implementation == "eager"
