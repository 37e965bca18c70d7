# SPDX-License-Identifier: Apache-2.0
"""Layers in JAX on the CPU, forward and backward, under `jax.jit` and `jax.grad`.

>>> import jax, moe_mlir, moe_mlir.jax
>>> layer = moe_mlir.layers.GatedMLP(d_model=64, d_expert=32, experts=8, top_k=2, id_dtype="i32")
>>> mlp = jax.jit(moe_mlir.jax.Operator(layer))  # doctest: +SKIP
>>> out = mlp(x, ids, gates, w1, w2)  # doctest: +SKIP

Compiled code reads JAX's arrays where they are and is called back by the program that XLA
makes. What a set of gradients needs is compiled when it is first traced; a gradient that is not
asked for runs no kernel and keeps nothing. Without ``jax_enable_x64`` JAX has no 64-bit
integers: give the layer ``id_dtype="i32"``.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import jax
import numpy as np
from jax import numpy as jnp

from ._program import Program
from .errors import ArgumentError
from .module import Entry, compile

__all__ = ["Operator"]


def _call(entry: Entry, arguments: Sequence[Any]) -> Sequence[Any]:
    """The entry point as an operation of a traced program; shapes are checked now, not when it runs."""
    entry._check_shapes([np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in arguments])
    shapes = []
    for output, (dtype, shape) in zip(entry.outputs, entry.results(*arguments)):
        if jax.dtypes.canonicalize_dtype(dtype) != np.dtype(dtype):
            raise ArgumentError(f"result {output['name']} of {entry.name} is {dtype}, which JAX has with jax_enable_x64 "
                                "alone; set it, or give the layer narrower dtypes (id_dtype='i32')")
        shapes.append(jax.ShapeDtypeStruct(shape, dtype))

    def run(*arrays: Any) -> tuple[np.ndarray, ...]:
        results = entry(*map(np.asarray, arrays))
        return results if isinstance(results, tuple) else (results,)

    return jax.pure_callback(run, tuple(shapes), *arguments, vmap_method="sequential")


class _Program(Program):
    """What is kept for backward carries it along: it is part of the program that is traced."""

    def gradients(self, *kept: Any, cotangents: Sequence[Any]) -> tuple[Any, ...]:
        """One for each argument of forward; None where none was asked for."""
        gradients = [None] * self.arguments
        if self.backward_entry is not None:
            given = [cotangents[i] for i in self.cotangents]
            given = [jnp.zeros(c.shape, c.dtype) if isinstance(c, jax.custom_derivatives.SymbolicZero) else c for c in given]
            for argument, gradient in zip(self.wrt, _call(self.backward_entry, [*given, *kept])):
                gradients[argument] = gradient
        return tuple(gradients)


class Operator:
    """An entry point of a layer as a differentiable function of JAX arrays.

    Call it with the arguments of ``layer.inputs(entry)``, in order; dtypes are those of the
    layer. The result is an array, or a tuple of arrays, with gradients (`jax.grad`, `jax.vjp`)
    once; backward itself has none. It runs on the CPU, whatever the default device is.

    Args:
        source: a layer of `moe_mlir.layers`, or IR text or bytecode.
        entry: its entry point; default: the layer's first, or ``forward``.
        options: of the compiler; ``policy`` and ``budget_bytes`` say what
            forward keeps for backward.

    Raises:
        CompileError: when it is called, where the compiler refuses.
        ArgumentError: when it is called, for shapes and dtypes that are not the layer's.
    """

    def __init__(self, source: Any, entry: Optional[str] = None, **options: Any):
        functions = getattr(source, "_functions", None)
        self.entry = entry or (source.entries[0] if functions else "forward")
        # Of a layer only the entry point is compiled.
        self._text = functions[self.entry][1] if functions else source
        self._options = options
        self._programs: dict[tuple[int, ...], _Program] = {}
        self._function = jax.custom_vjp(self._plain)
        self._function.defvjp(self._forward, self._backward, symbolic_zeros=True)

    def __repr__(self) -> str:
        return f"<moe_mlir.jax.Operator {self.entry}>"

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*map(jnp.asarray, arguments))

    def _program(self, wrt: Sequence[int] = ()) -> _Program:
        wrt = tuple(wrt)
        if wrt not in self._programs:
            gradients = {"grad": wrt} if wrt else {}
            self._programs[wrt] = _Program(compile(self._text, **self._options, **gradients), self.entry, wrt)
        return self._programs[wrt]

    def _plain(self, *arguments: Any) -> Any:
        results = _call(self._program().forward_entry, arguments)
        return results[0] if len(results) == 1 else tuple(results)

    def _forward(self, *primals: Any) -> tuple[Any, Any]:
        arguments = [p.value for p in primals]
        wrt = [i for i, p in enumerate(primals) if p.perturbed and jnp.issubdtype(p.value.dtype, jnp.inexact)]
        program = self._program(wrt)
        everything = [*arguments, *_call(program.forward_entry, arguments)]
        results = tuple(everything[len(arguments) :][: program.results])
        kept = [everything[i] for i in program.residuals] if wrt else []
        return results[0] if len(results) == 1 else results, jax.tree_util.Partial(program.gradients, *kept)

    @staticmethod
    def _backward(gradients: Any, cotangents: Any) -> tuple[Any, ...]:
        return gradients(cotangents=cotangents if isinstance(cotangents, (tuple, list)) else (cotangents,))
