# SPDX-License-Identifier: Apache-2.0
"""What all layers share: sizes, text, stages, compiling, running the oracle."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any, Optional, Sequence

from ._text import FLOATS, Argument, Dim, Function
from .routing import choice

STAGES = ("input", "differentiated", "expanded", "fused", "bufferized", "loops", "kernels", "nvvm", "llvm")
"""The names of the stages that `Layer.ir` shows, in order: "loops" of the CPU, "kernels" and "nvvm" of GPUs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """Base of the layers: a description in numbers that writes its IR.

    A layer computes nothing. `text` is its IR, `compile` gives something to
    call, `interpret` runs the text op by op in double precision.
    """

    dtype: str = "f32"
    """Of rows and weights: ``"f32"``, ``"bf16"``, ``"f16"`` or ``"f64"``."""
    tokens: Optional[int] = None
    """T, for a layer specialised to one number of tokens; None: any."""

    def __post_init__(self) -> None:
        choice("dtype", self.dtype, FLOATS)
        if self.tokens is not None:
            positive(tokens=self.tokens)

    # Written by each layer.

    def _write(self) -> list[tuple[Function, str]]:
        """Each entry point's function with its text."""
        raise NotImplementedError

    # Shared by all.

    @functools.cached_property
    def _functions(self) -> dict[str, tuple[Function, str]]:
        return {f.name: (f, text) for f, text in self._write()}

    @property
    def _T(self) -> Dim:
        return "T" if self.tokens is None else self.tokens

    @property
    def _compute(self) -> str:
        return "f64" if self.dtype == "f64" else "f32"

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of the entry points; most layers have one, ``forward``."""
        return tuple(self._functions)

    def inputs(self, entry: Optional[str] = None) -> tuple[Argument, ...]:
        """The arguments of an entry point (default: the first), in order."""
        return tuple(self._functions[entry or self.entries[0]][0].arguments)

    def outputs(self, entry: Optional[str] = None) -> tuple[Argument, ...]:
        """The results of an entry point (default: the first), in order."""
        return tuple(self._functions[entry or self.entries[0]][0].results)

    @property
    def text(self) -> str:
        """The layer in the ``moe`` dialect."""
        return "\n".join(text for _, text in self._functions.values())

    def __str__(self) -> str:
        return self.text

    def ir(self, stage: str = "input", target: str = "cpu", **options: Any) -> str:
        """The layer's IR at a stage of compilation.

        Args:
            stage: one of ``STAGES``: "input", "differentiated", "expanded",
                "fused", "bufferized", "loops" (of the CPU), "kernels" and
                "nvvm" (of GPUs), "llvm".
            target: as for `moe_mlir.compile`.
            options: options of the compiler, as for `moe_mlir.compile`;
                "differentiated" is there with ``grad`` alone, and the stages
                after it then show forward and backward.

        Raises:
            ValueError: for a stage that does not exist.
            moe_mlir.Error: where the compiler is missing or refuses.
        """
        from .. import _compiler

        choice("stage", stage, STAGES)
        return _compiler.stage(self.text, stage, options, str(target))

    def explain(self, *, target: Any = "cpu", tokens: Optional[int] = None, as_dict: bool = False, **options: Any):
        """What the layer becomes: kernels with FLOPs and bytes, buffers kept and
        why, buffers removed, residuals, workspace, and fusions that were not
        made with their reasons.

        Args:
            target: "cpu", or the architecture of a GPU ("sm_90a"): then also
                which kernels run there, and why a matrix product runs without
                tensor cores.
            tokens: state sizes at this number of tokens; None: in terms of T.
            as_dict: the report as a dict in place of text. A size is a number,
                or ``{"T": bytes a token, "const": bytes}``.
            options: options of the gradients, as for `moe_mlir.compile`:
                ``grad="all"`` explains forward and backward.

        Returns:
            str or dict: `target`, `functions` (each with `kernels`, `buffers`,
            `workspace`, and a backward function's `residuals`), `fused`, `refused`.
            On a GPU each kernel has `variants`, of which the first whose guard
            `from` holds runs: a `structure`, its `tile`, `stages` and `buffers`,
            the order of its `reduction`, and for `simt` a `reason`.
        """
        from .. import _compiler

        if tokens is not None:
            if not isinstance(tokens, int) or tokens < 0:
                raise ValueError(f"tokens is {tokens!r}; it has to be an integer of at least 0")
            options["at"] = tokens
        report = _compiler.explain(self.text, {**options, "target": str(target), "json": as_dict})
        return json.loads(report) if as_dict else report

    def compile(self, target: Any = "cpu", **options: Any):
        """Compiles the layer: ``moe_mlir.compile(layer.text, target, ...)``.

        Returns:
            moe_mlir.Module: call it with the arguments of `inputs`.
        """
        from .. import compile

        return compile(self.text, target, **options)

    def interpret(self, *arrays: Any, entry: Optional[str] = None, round: bool = False):
        """Runs an entry point op by op in double precision: the oracle."""
        from .. import interpret

        return interpret(self.text, entry or self.entries[0], *arrays, round=round)


def positive(**sizes: int) -> None:
    """Raises ValueError for a size below 1, naming it."""
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is {size!r}; it has to be an integer of at least 1")


def check_top_k(top_k: int, experts: int) -> None:
    """Raises ValueError unless 1 <= top_k <= experts."""
    positive(top_k=top_k, experts=experts)
    if top_k > experts:
        raise ValueError(f"top_k is {top_k}, more than the {experts} experts there are")
