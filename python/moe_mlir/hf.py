# SPDX-License-Identifier: Apache-2.0
"""Experts of Hugging Face models, computed by compiled layers.

>>> import moe_mlir.hf
>>> model = AutoModelForCausalLM.from_pretrained(name)  # doctest: +SKIP
>>> moe_mlir.hf.replace_experts(model)  # doctest: +SKIP

or, before the model is loaded, ``moe_mlir.hf.register()`` and then
``from_pretrained(name, experts_implementation="moe_mlir")``.

transformers (5.0 or later) calls the experts of a model through a registry of
functions; here is one more. The model keeps its parameters, its router and its
checkpoints; forward and backward of its experts are one compiled layer for all
blocks of the same sizes. ``model.set_experts_implementation("eager")`` undoes it.

Source: transformers, integrations/moe.py, whose interface this is.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Iterator, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import UnsupportedError
from .layers import MLP, GatedMLP
from .torch import Operator

__all__ = ["experts_forward", "layer_of", "register", "replace_experts"]

NAME = "moe_mlir"
"""What transformers calls the implementation."""

DTYPES = {torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}


def register(name: str = NAME) -> None:
    """Makes ``experts_implementation=name`` known to transformers.

    Raises:
        UnsupportedError: where transformers is missing or too old.
    """
    try:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    except ImportError as error:
        raise UnsupportedError(f"transformers 5.0 or later is needed ({error}); pip install 'transformers>=5'") from error
    ALL_EXPERTS_FUNCTIONS.register(name, experts_forward)


def replace_experts(model: Any) -> Any:
    """Lets compiled layers compute the experts of a model, in place.

    Args:
        model: a `transformers.PreTrainedModel` whose experts go through
            transformers' registry: Mixtral, Qwen3-MoE, OLMoE, DeepSeek-V3,
            gpt-oss and most others.

    Returns:
        The model.

    Raises:
        UnsupportedError: naming the first module whose experts have no layer
            here; the model then is as it was.
    """
    register()
    found = [(name, module) for name, module in model.named_modules() if _is_experts(module)]
    if not found:
        raise UnsupportedError(f"{type(model).__name__} has no experts that transformers dispatches; they are modules "
                               "decorated with transformers.integrations.use_experts_implementation")
    for name, module in found:
        try:
            layer_of(module, top_k=1)
        except UnsupportedError as error:
            raise UnsupportedError(f"{name}: {error}") from error
    model.set_experts_implementation(NAME)
    for name, module in found:
        if module.config._experts_implementation != NAME:
            raise UnsupportedError(f"{name}: its configuration keeps experts_implementation="
                                   f"{module.config._experts_implementation!r}; set it to {NAME!r}")
    return model


def experts_forward(module: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """The experts of one block: the function that transformers calls.

    Args:
        module: the experts, with weights and options as transformers has them.
        hidden_states: (T, d).
        top_k_index, top_k_weights: (T, K); an index of num_experts or more is
            no expert here (expert parallelism) and adds nothing.

    Returns:
        (T, d).
    """
    layer = layer_of(module, top_k_index.shape[-1], DTYPES.get(top_k_weights.dtype, "f32"))
    up, down = ("gate_up_proj" if module.has_gate else "up_proj"), "down_proj"
    weights = [up, f"{up}_bias", down, f"{down}_bias"] if module.has_bias else [up, down]
    return _operator(layer)(hidden_states.contiguous(), top_k_index.long().contiguous(),
                            top_k_weights.contiguous(), *(getattr(module, name) for name in weights))


@functools.cache
def _operator(layer: MLP) -> Operator:
    """One for all blocks of the same sizes."""
    return Operator(layer)


def layer_of(module: nn.Module, top_k: int, gate_dtype: str = "f32") -> MLP:
    """The layer that computes what a module of experts does.

    Its activation and gate are found by comparing their values with those of
    every layer here, not by their names.

    Raises:
        UnsupportedError: where no layer gives the same values.
    """
    known = module.__dict__.setdefault("_moe_mlir_layers", {})
    down = module.down_proj
    key = (top_k, gate_dtype, down.dtype, tuple(down.shape))
    if key not in known:
        known[key] = _find_layer(module, top_k, gate_dtype)
    return known[key]


def _find_layer(module: nn.Module, top_k: int, gate_dtype: str) -> MLP:
    name, down = type(module).__name__, module.down_proj
    if getattr(module, "has_post_expert_norm", False):
        raise UnsupportedError(f"{name} normalises what each expert gives, which no layer does")
    if down.dtype not in DTYPES or down.dim() != 3:
        raise UnsupportedError(f"the weights of {name} are {tuple(down.shape)} of {down.dtype}; wanted three dimensions "
                               f"of {', '.join(str(d) for d in DTYPES)}")
    experts, d_model, d_expert = down.shape if not module.is_transposed else (down.shape[0], *down.shape[:0:-1])
    dtype = DTYPES[down.dtype]
    sizes = dict(d_model=d_model, d_expert=d_expert, experts=experts, top_k=top_k, bias=module.has_bias,
                 weight_layout="in_out" if module.is_transposed else "out_in", dtype=dtype,
                 gate_dtype="f64" if dtype == "f64" else gate_dtype)
    if not module.has_gate:
        return MLP(activation=_recognise(module.act_fn, _activations(), f"the activation of {name}"), **sizes)
    columns = "concat" if module.is_concatenated else "interleave"
    options = _recognise(module._apply_gate, _gates(module, columns), f"the gate of {name}")
    return GatedMLP(columns=columns, **options, **sizes)


Candidates = Iterator[tuple[Any, Callable[[Tensor], Tensor]]]


@torch.no_grad()
def _recognise(function: Callable[[Tensor], Tensor], candidates: Candidates, what: str) -> Any:
    """Which candidate has the function's values, on both sides of every kink."""
    side = torch.linspace(-15, 15, 121, dtype=torch.float64)
    probe = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).flatten(0, 1)
    values = function(probe).double()
    for found, candidate in candidates:
        expected = candidate(probe)
        # Some models compute their gates in float32 whatever the dtype.
        if values.shape == expected.shape and torch.allclose(values, expected, rtol=1e-5, atol=1e-6):
            return found
    raise UnsupportedError(f"{what} is none that a layer has ({', '.join(ACTIVATIONS)}; clamped at a limit or not)")


def _activations() -> Candidates:
    yield from ACTIVATIONS.items()


def _gates(module: nn.Module, columns: str) -> Candidates:
    """Gated units, with the numbers that the module has attributes for."""

    def attributes(*names: str) -> list[float]:
        values = (getattr(module, name, None) for name in names)
        return [float(v) for v in values if isinstance(v, (int, float))]

    def unit(probe: Tensor, activation: str, limit: Optional[float], alpha: float, offset: float) -> Tensor:
        gate, up = (probe[:, :1], probe[:, 1:])  # one column each: both layouts
        if limit is not None:
            gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        gate = gate * torch.sigmoid(alpha * gate) if alpha != 1.0 else ACTIVATIONS[activation](gate)
        return gate * (up + offset)

    limits: list[Union[float, None]] = [None, *attributes("limit", "swiglu_limit")]
    alphas = [1.0, *attributes("alpha", "swiglu_alpha")]
    for limit in limits:
        for alpha in alphas:
            for offset in (0.0, 1.0):
                for activation in ACTIVATIONS if alpha == 1.0 else ("silu",):
                    options = dict(activation=activation, limit=limit, alpha=alpha, up_offset=offset)
                    yield options, functools.partial(unit, activation=activation, limit=limit, alpha=alpha,
                                                     offset=offset)


def _is_experts(module: nn.Module) -> bool:
    """Whether transformers' decorator made it."""
    return all(hasattr(module, name) for name in ("has_gate", "has_bias", "is_transposed", "down_proj", "config"))
