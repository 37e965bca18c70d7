# SPDX-License-Identifier: Apache-2.0
"""Layers in PyTorch, forward and backward.

>>> import torch, moe_mlir, moe_mlir.torch
>>> layer = moe_mlir.layers.GatedMLP(d_model=64, d_expert=32, experts=8, top_k=2)
>>> mlp = moe_mlir.torch.Operator(layer)  # doctest: +SKIP
>>> out = mlp(x, ids, gates, w1, w2)  # doctest: +SKIP
>>> out.sum().backward()  # doctest: +SKIP

`Operator` is a function of tensors; `MoE` is an `nn.Module` that owns the
weights. What a set of gradients needs is compiled when it is first asked for:
a tensor that does not require grad costs no kernel and keeps nothing.

- Saved tensors are `torch.autograd`'s: freed after backward, and one that was
  changed in place before backward is an error.
- ``torch.compile(fullgraph=True)`` sees one operator for forward and one for
  backward, whose shapes it knows for any number of tokens.
- dtypes are those of the layer. Under ``torch.autocast`` `MoE` converts its
  arguments, parameters included, to them; `Operator` never converts.
- With ``policy="recompute-all"`` backward is differentiable itself, to any order
  (``create_graph=True``, gradient penalties): it is a function of the cotangents
  and the arguments alone. With another policy that is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import weakref
from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor, nn

from . import _arrays, _compiler
from ._program import Program
from .errors import UnsupportedError
from .module import Entry, Module, compile

__all__ = ["MoE", "Operator"]

# One operator runs every entry point. An autograd.Function around a plain
# operator, rather than torch.library.register_autograd, costs half in eager
# mode and is not held by the caches of torch.compile when a layer changes.
_ENTRIES: dict[int, Entry] = {}
_OPERATORS: weakref.WeakValueDictionary[str, Operator] = weakref.WeakValueDictionary()
_numbers = itertools.count()
_library = torch.library.Library("moe_mlir", "DEF")
_library.define("run(int entry, Tensor[] inputs) -> Tensor[]")


def _run(entry: int, inputs: Sequence[Tensor]) -> list[Tensor]:
    results = _ENTRIES[entry](*inputs)
    return list(results) if isinstance(results, tuple) else [results]


def _run_fake(entry: int, inputs: Sequence[Tensor]) -> list[Tensor]:
    return [inputs[0].new_empty(shape, dtype=getattr(torch, dtype))
            for dtype, shape in _ENTRIES[entry].results(*inputs)]


_library.impl("run", _run, "CompositeExplicitAutograd")
torch.library.register_fake("moe_mlir::run", _run_fake, lib=_library)


class _Program(Program):
    """A program whose entry points the operator knows by number."""

    def __init__(self, module: Module, name: str, wrt: Sequence[int],
                 differentiate_again: Optional[Callable[[str], Operator]] = None):
        super().__init__(module, name, wrt)
        self.forward = self._register(self.forward_entry)
        self.integral = [i for i, o in enumerate(self.forward_entry.outputs[: self.results])
                         if not o["dtype"].startswith(("float", "bfloat"))]
        if self.backward_entry is not None:
            self.backward = self._register(self.backward_entry)
            self._differentiate_again = differentiate_again

    @functools.cached_property
    def backward_operator(self) -> Operator:
        """Backward as a differentiable function."""
        if not self._differentiate_again:
            raise UnsupportedError("backward of a compiled layer cannot be differentiated again, as forward keeps more "
                                   "than its arguments; give Operator or MoE policy='recompute-all', or call "
                                   "backward() or grad() without create_graph=True")
        return self._differentiate_again(self.backward_entry.name)

    def _register(self, entry: Entry) -> int:
        number = next(_numbers)
        _ENTRIES[number] = entry
        weakref.finalize(self, _ENTRIES.pop, number)
        return number


class _Differentiable(torch.autograd.Function):
    """Calls a program; ``apply(program, *arguments)``."""

    @staticmethod
    def forward(ctx: Any, program: _Program, *arguments: Tensor) -> tuple[Tensor, ...]:
        outputs = torch.ops.moe_mlir.run(program.forward, list(arguments))
        everything = [*arguments, *outputs]
        ctx.program = program
        ctx.save_for_backward(*[everything[i] for i in program.residuals])
        results = tuple(outputs[: program.results])
        ctx.mark_non_differentiable(*[results[i] for i in program.integral])
        return results

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Optional[Tensor], ...]:
        program = ctx.program
        # Autograd makes expanded ones, of a sum for example.
        given = [cotangents[i].contiguous() for i in program.cotangents]
        # Not once_differentiable: it says nothing where no cotangent requires
        # grad, and a gradient penalty would silently have no gradient.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            outputs = program.backward_operator(*given, *ctx.saved_tensors)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        else:
            outputs = torch.ops.moe_mlir.run(program.backward, [*given, *ctx.saved_tensors])
        gradients: list[Optional[Tensor]] = [None] * program.arguments
        for argument, gradient in zip(program.wrt, outputs):
            gradients[argument] = gradient
        return (None, *gradients)


def _function_alone(text: str, name: str) -> str:
    """A module of one of the functions of a backward stage, as if a user had written it."""
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"  func.func @{name}("))
    end = lines.index("  }", begin)
    header = re.sub(r" attributes \{moe\.backward = .*\} \{$", " {", lines[begin])
    header = re.sub(r'moe\.kind = "\w+", ', "", header)
    aliases = [line for line in lines if line.startswith("#")]
    return "\n".join([*aliases, header, *lines[begin + 1 : end + 1]])


class Operator:
    """An entry point of a layer as a differentiable function of torch tensors.

    Call it with the arguments of ``layer.inputs(entry)``, in order or by name.
    The result is a tensor, or a tuple of tensors, with gradients for exactly
    the arguments that require grad.

    Args:
        source: a layer of `moe_mlir.layers`, or IR text or bytecode.
        entry: its entry point; default: the layer's first, or ``forward``.
        target: as for `moe_mlir.compile`; default: the device that the tensors
            of a call are on.
        options: of the compiler; ``policy`` and ``budget_bytes`` say what
            forward keeps for backward.

    Raises:
        CompileError: when it is called, where the compiler refuses.
    """

    def __init__(self, source: Any, entry: Optional[str] = None, target: Any = None, **options: Any):
        functions = getattr(source, "_functions", None)
        self.entry = entry or (source.entries[0] if functions else "forward")
        # Of a layer only the entry point is compiled.
        self._function, self._text = functions[self.entry] if functions else (None, source)
        self._target, self._options = target, options
        self._programs: dict[tuple[str, tuple[int, ...]], _Program] = {}
        self._key = str(next(_numbers))
        _OPERATORS[self._key] = self

    def __repr__(self) -> str:
        return f"<moe_mlir.torch.Operator {self.entry}>"

    def program(self, wrt: Sequence[int] = (), device: str = "cpu") -> _Program:
        """Compiles, once for each device, what the gradients of these arguments need."""
        target, wrt = str(self._target or device), tuple(wrt)
        found = self._programs.get((target, wrt))
        if found is None:
            gradients = {"grad": wrt} if wrt else {}
            module = compile(self._text, target, **self._options, **gradients)
            again = None
            if self._options.get("policy") == "recompute-all":
                again = functools.partial(self._backward_operator, gradients)
            found = self._programs.setdefault((target, wrt), _Program(module, self.entry, wrt, again))
        return found

    def _backward_operator(self, gradients: dict[str, Any], name: str) -> Operator:
        """The backward function of that name, of a call with these gradients."""
        options = {**self._options, **gradients}
        text = _compiler.stage(self._text, "differentiated", options)
        return Operator(_function_alone(text, name), name, self._target, **self._options)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the arguments, in order."""
        if self._function:
            return tuple(a.name for a in self._function.arguments)
        return tuple(a["name"] for a in _ENTRIES[self.program().forward].inputs)

    def __call__(self, *arguments: Tensor, **named: Tensor) -> Any:
        if named:
            arguments = self._bind(arguments, named)
        for argument in arguments:
            if not isinstance(argument, Tensor):
                raise TypeError(f"{self.entry} takes torch tensors, got {type(argument).__name__}")
        wrt = ()
        if torch.is_grad_enabled():
            wrt = tuple(i for i, a in enumerate(arguments) if a.requires_grad)
        program = _program(self._key, wrt, str(arguments[0].device) if arguments else "cpu")
        if wrt:
            results = _Differentiable.apply(program, *arguments)
        else:
            results = tuple(torch.ops.moe_mlir.run(program.forward, list(arguments)))
        return results[0] if len(results) == 1 else results

    def _bind(self, arguments: Sequence[Tensor], named: dict[str, Tensor]) -> tuple[Tensor, ...]:
        rest = self.names[len(arguments) :]
        if set(rest) != set(named):
            missing, unknown = sorted(set(rest) - set(named)), sorted(set(named) - set(rest))
            raise TypeError(f"{self.entry} takes ({', '.join(self.names)})"
                            + (f"; missing: {', '.join(missing)}" if missing else "")
                            + (f"; unknown or given twice: {', '.join(unknown)}" if unknown else ""))
        return (*arguments, *(named[name] for name in rest))


# While torch.compile traces a call, the layer is compiled, not traced.
@torch.compiler.assume_constant_result
def _program(operator: str, wrt: tuple[int, ...], device: str) -> _Program:
    return _OPERATORS[operator].program(wrt, device)


class MoE(nn.Module):
    """A layer as a module that owns its weights.

    ``forward`` takes the layer's other arguments, in order or by name:
    ``MoE(layers.GatedMLP(...))(x, ids, gates)``.

    Every argument without a dimension in T is a parameter of its own name (w1,
    w2, ..., b1, ...), but for a router's selection bias (E), which is a buffer.
    Weights start uniform in +-1/sqrt(inputs), biases and the B of adapters at 0.

    Args:
        layer: a layer of `moe_mlir.layers`.
        entry: its entry point; default: the first.
        device: of the parameters. ``.to("cuda")`` moves them later: what runs is
            compiled for the device they are on.
        target, options: as for `Operator`.
    """

    def __init__(self, layer: Any, entry: Optional[str] = None, *, device: Any = None,
                 target: Any = None, **options: Any):
        super().__init__()
        self.layer = layer
        self.operator = Operator(layer, entry, target, **options)
        any_tokens = dataclasses.replace(layer, tokens=None)
        self._arguments = any_tokens.inputs(self.operator.entry)
        for argument in self._arguments:
            if any(isinstance(d, str) for d in argument.dims):
                continue
            value = torch.empty(argument.dims, dtype=getattr(torch, argument.numpy_dtype), device=device)
            if len(argument.dims) == 1:
                self.register_buffer(argument.name, value)
            else:
                self.register_parameter(argument.name, nn.Parameter(value))
        self._given = [a.name for a in self._arguments if not hasattr(self, a.name)]
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weights anew."""
        in_axis = 2 if getattr(self.layer, "weight_layout", "out_in") == "out_in" else 1
        for name, value in [*self.named_parameters(), *self.named_buffers()]:
            if value.dim() < 3 or name.endswith("_b"):
                value.zero_()
            else:
                bound = value.shape[in_axis] ** -0.5
                value.uniform_(-bound, bound)

    def extra_repr(self) -> str:
        return repr(self.layer)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        given = dict(zip(self._given, inputs))
        if len(inputs) > len(self._given) or set(given) & set(named) or {*given, *named} != {*self._given}:
            raise TypeError(f"takes ({', '.join(self._given)}), got {len(inputs)} tensors"
                            + (f" and {', '.join(named)}" if named else ""))
        given.update(named)
        arguments = [given[a.name] if a.name in given else getattr(self, a.name)
                     for a in self._arguments]
        if arguments and torch.is_autocast_enabled(arguments[0].device.type):
            arguments = [t.to(getattr(torch, a.numpy_dtype)) if t.is_floating_point() else t
                         for a, t in zip(self._arguments, arguments)]
        return self.operator(*arguments)
