# SPDX-License-Identifier: Apache-2.0
"""Layers, written as IR from a few numbers.

>>> from moe_mlir import layers
>>> mlp = layers.GatedMLP(d_model=64, d_expert=32, experts=8, top_k=2)
>>> print(mlp.text)  # doctest: +ELLIPSIS
func.func @forward(
...

Only the IR is written here; what it means, how it is fused and run is the
compiler's. `Layer.ir` shows the stages that it goes through.
"""

from ._activations import ACTIVATIONS as _ACTIVATIONS
from ._layer import STAGES, Layer
from ._text import Argument
from .attention import MixtureOfAttention
from .linear import Adapter, ParallelLinear
from .mlp import MLP, GatedMLP
from .router import Router
from .routing import Routing

activations = tuple(_ACTIVATIONS)
"""The names of the activations."""

__all__ = [
    "Adapter",
    "Argument",
    "GatedMLP",
    "Layer",
    "MLP",
    "MixtureOfAttention",
    "ParallelLinear",
    "Router",
    "Routing",
    "STAGES",
    "activations",
]
