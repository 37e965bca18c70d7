# SPDX-License-Identifier: Apache-2.0
"""Activations as scalar math, with PyTorch's results on NaN and infinities.

Each is a function of a region and an argument's name. A value or a subgradient
at a kink is PyTorch's: comparisons are made so that NaN passes through, and a
clamp's end points belong to its inside.
"""

from __future__ import annotations

import math
from typing import Callable

from ._text import Region


def sigmoid(r: Region, x: str) -> str:
    # exp(-x) may be infinite: the result is 0 then, and so is the derivative,
    # which moe-differentiate takes of 1 / (1 + exp(z)) as a whole.
    one = r.constant(1.0)
    return r.op("arith.divf", one, r.add(one, r.op("math.exp", r.op("arith.negf", x))))


def silu(r: Region, x: str) -> str:
    return r.mul(x, sigmoid(r, x))


def quick_gelu(r: Region, x: str) -> str:
    return r.mul(x, sigmoid(r, r.mul(r.constant(1.702), x)))


def gelu_erf(r: Region, x: str) -> str:
    erf = r.op("math.erf", r.mul(x, r.constant(math.sqrt(0.5))))
    return r.mul(r.mul(r.constant(0.5), x), r.add(r.constant(1.0), erf))


def gelu_tanh(r: Region, x: str) -> str:
    cube = r.mul(r.mul(x, x), x)
    inner = r.add(x, r.mul(r.constant(0.044715), cube))
    tanh = r.op("math.tanh", r.mul(r.constant(math.sqrt(2.0 / math.pi)), inner))
    return r.mul(r.mul(r.constant(0.5), x), r.add(r.constant(1.0), tanh))


def relu(r: Region, x: str) -> str:
    zero = r.constant(0.0)
    return r.select(r.compare("ugt", x, zero), x, zero)


def relu2(r: Region, x: str) -> str:
    y = relu(r, x)
    return r.mul(y, y)


def tanh(r: Region, x: str) -> str:
    return r.op("math.tanh", x)


def identity(r: Region, x: str) -> str:
    return x


ACTIVATIONS: dict[str, Callable[[Region, str], str]] = {
    "silu": silu,
    "gelu": gelu_erf,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "relu2": relu2,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "identity": identity,
}


def glu(activation: str, limit: float | None, alpha: float, up_offset: float) -> Callable:
    """``act(gate) * (up + up_offset)``, gpt-oss's clamps and slope included.

    With `limit`, gate is cut at `limit` from above and up at both sides; with
    `alpha` other than 1 (silu only), the gate is ``gate * sigmoid(alpha * gate)``.
    """

    def body(r: Region, gate: str, up: str) -> str:
        if limit is not None:
            top, bottom = r.constant(limit), r.constant(-limit)
            gate = r.select(r.compare("ogt", gate, top), top, gate)
            up = r.select(r.compare("ogt", up, top), top, up)
            up = r.select(r.compare("olt", up, bottom), bottom, up)
        if alpha != 1.0:
            gate = r.mul(gate, sigmoid(r, r.mul(r.constant(alpha), gate)))
        else:
            gate = ACTIVATIONS[activation](r, gate)
        if up_offset:
            up = r.add(up, r.constant(up_offset))
        return r.mul(gate, up)

    return body
