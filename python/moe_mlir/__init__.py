# SPDX-License-Identifier: Apache-2.0
"""moe-mlir: a compiler for sparse Mixture-of-Experts layers.

>>> import numpy as np, moe_mlir
>>> layer = moe_mlir.layers.GatedMLP(d_model=64, d_expert=32, experts=8, top_k=2)
>>> mlp = layer.compile()  # doctest: +SKIP
>>> out = mlp(x, ids, gates, w1, w2)  # doctest: +SKIP

`layers` writes IR, `compile` makes something to call of it, `interpret` runs it
op by op in double precision. ``python -m moe_mlir.doctor`` looks over the
installation.
"""

from . import errors, layers
from ._compiler import interpret
from .errors import Error
from .module import Entry, Module, compile, load

__version__ = "0.1.0"


def version() -> str:
    """The version of the library that is loaded."""
    from ._native import library

    return library().moe_version().decode()


__all__ = ["Entry", "Error", "Module", "compile", "errors", "interpret", "layers", "load", "version"]
