# SPDX-License-Identifier: Apache-2.0
"""Compiled modules, called on torch tensors and NumPy arrays."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import struct
import sys
import warnings
from typing import Any, Callable, Mapping, Optional, Sequence

from . import _arrays, _native
from ._compiler import as_text, option_words
from .errors import ArgumentError, PerformanceWarning

_TERM = re.compile(r"(?:(\d+)\*)?([A-Za-z_]\w*)|(\d+)")


def _linear(expression: Any) -> Callable[[Mapping[str, int]], int]:
    """A manifest's dimension, ``512`` or ``"2*T+1"``, as a function of the symbols."""
    if isinstance(expression, int):
        return lambda symbols: expression
    terms = []
    for part in expression.split("+"):
        match = _TERM.fullmatch(part.strip())
        if not match:
            raise ArgumentError(f"the manifest's dimension {expression!r} is not understood")
        factor, name, constant = match.groups()
        terms.append((int(factor or 1), name) if name else (int(constant), None))
    return lambda symbols: sum(f * symbols[n] if n else f for f, n in terms)


class Entry:
    """One entry point of a compiled module.

    Call it with its inputs and inouts, in order. Tensors are used where they
    are: nothing is copied, nothing moved, and what does not fit is an error
    that says how to make it fit.
    """

    def __init__(self, module: Module, name: str, manifest: dict):
        self._module, self.name, self.manifest = module, name, manifest
        self._encoded = name.encode()
        self.inputs: list[dict] = manifest["inputs"]
        self.inouts: list[dict] = manifest.get("inouts", [])
        self.outputs: list[dict] = manifest["outputs"]
        self._arguments = self.inputs + self.inouts
        self._names = [*(a["name"] for a in self._arguments + self.outputs), "workspace"]
        # Where each symbol is read: its smallest multiple, argument, dimension.
        self._bindings: dict[str, tuple[int, int, int]] = {}
        for index, argument in enumerate(self._arguments):
            for axis, dim in enumerate(argument["dims"]):
                match = _TERM.fullmatch(dim) if isinstance(dim, str) else None
                if match and match[2]:
                    found = (int(match[1] or 1), index, axis)
                    if found[0] < self._bindings.get(match[2], (1 << 62,))[0]:
                        self._bindings[match[2]] = found
        self._output_dims = [[_linear(dim) for dim in o["dims"]] for o in self.outputs]
        workspace = manifest["workspace"]
        self._align = workspace["align"]
        self._temporaries = [(_linear(one["bytes"]), one["after"]) for one in workspace["temporaries"]]

    def __repr__(self) -> str:
        def show(arguments: Sequence[dict]) -> str:
            return ", ".join(f"{a['name']}: {a['dtype']}({', '.join(map(str, a['dims']))})"
                             for a in arguments)

        return f"{self.name}({show(self._arguments)}) -> {show(self.outputs)}"

    def workspace_size(self, **symbols: int) -> int:
        """Bytes of workspace for given sizes: ``workspace_size(T=4096)``."""
        ends: list[int] = []
        for size, after in self._temporaries:
            begin = max((ends[below] for below in after), default=0)
            ends.append(begin + -(-size(symbols) // self._align) * self._align)
        return max(ends, default=0)

    def _symbols(self, arrays: Sequence[Any]) -> dict[str, int]:
        return {name: arrays[i].shape[axis] // factor
                for name, (factor, i, axis) in self._bindings.items()}

    def results(self, *arrays: Any) -> list[tuple[str, list[int]]]:
        """dtype and shape of each result for these arguments, which are not read."""
        symbols = self._symbols(arrays)
        return [(o["dtype"], [dim(symbols) for dim in dims])
                for o, dims in zip(self.outputs, self._output_dims)]

    def __call__(self, *arrays: Any, out: Any = None, workspace: Any = None) -> Any:
        """Runs the entry point.

        Args:
            arrays: the inputs, then the inouts (updated in place), as the
                manifest says: dtypes are exact, rows contiguous.
            out: where results go, one array or a sequence; default: new ones.
            workspace: at least `workspace_size` bytes, int8 or uint8; default: new, or, on the
                CPU and up to 256 MiB, what this thread kept from an earlier call.

        Returns:
            The result or a tuple of results: torch tensors where an argument is
            one, else NumPy arrays.

        Raises:
            ArgumentError: naming the argument, what it is and should be.
            TypeError: for what is neither torch's nor NumPy's nor DLPack's.
        """
        if len(arrays) != len(self._arguments):
            names = ", ".join(a["name"] for a in self._arguments)
            raise ArgumentError(f"{self.name} takes {len(self._arguments)} arguments ({names}), got {len(arrays)}")
        arrays = tuple(map(_arrays.adopt, arrays, self._names))
        self._refuse_lost_gradients(arrays)
        like = next((a for a in arrays if _arrays.is_torch(a)), arrays[0] if arrays else None)
        try:
            symbols = self._symbols(arrays)
        except IndexError:
            self._check_shapes(arrays)
            raise
        outputs = None if out is None else self._given(out)
        try:
            if outputs is None:
                outputs = tuple(
                    _arrays.empty(o["dtype"], [dim(symbols) for dim in dims], like)
                    for o, dims in zip(self.outputs, self._output_dims)
                )
            if workspace is None:
                workspace = _arrays.workspace(self.workspace_size(**symbols), self._align, like)
        except (RuntimeError, MemoryError):  # too large, perhaps because a shape is wrong
            self._check_shapes(arrays)
            raise
        call = (*arrays, *outputs, _arrays.adopt(workspace, "workspace"))
        self._refuse_read_only(call[len(self.inputs) :])
        packed = _Packed(call, self._names)
        stream = None
        if packed.cuda:
            # Of the device of the tensors that are on one; the library says if not all are.
            device = next(a.device for a in call if _arrays.is_torch(a) and a.is_cuda)
            stream = sys.modules["torch"].cuda.current_stream(device).cuda_stream
        _native.check(self._module._library.moe_invoke(
            self._module._handle, self._encoded, packed.pointers, len(call), stream))
        return outputs[0] if len(outputs) == 1 else outputs

    def _given(self, out: Any) -> tuple[Any, ...]:
        """The arrays of `out`, one a result."""
        outputs = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        if len(outputs) != len(self.outputs):
            raise ArgumentError(f"{self.name} has {len(self.outputs)} results, out has {len(outputs)}")
        outputs = tuple(map(_arrays.adopt, outputs, self._names[len(self._arguments) :]))
        self._refuse_lost_gradients(outputs, len(self._arguments))
        return outputs

    def _check_shapes(self, arrays: Sequence[Any]) -> None:
        """Lets the library say what is wrong with the shapes."""
        size = ctypes.c_uint64()
        packed = _Packed(arrays, self._names)
        _native.check(self._module._library.moe_workspace_size(
            self._module._handle, self._encoded, packed.pointers, len(arrays), size))

    def _refuse_read_only(self, written: Sequence[Any]) -> None:
        for name, array in zip(self._names[len(self.inputs) :], written):
            if not _arrays.is_torch(array) and not array.flags.writeable:
                raise ArgumentError(f"{name} of {self.name} is read-only and the call writes it; pass a copy")

    def _refuse_lost_gradients(self, arrays: Sequence[Any], first: int = 0) -> None:
        torch = sys.modules.get("torch")
        if torch is None or not torch.is_grad_enabled():
            return
        for index, array in enumerate(arrays):
            if _arrays.is_torch(array) and array.requires_grad:
                raise ArgumentError(
                    f"{self._names[first + index]} of {self.name} requires grad and {self.name} has no gradient "
                    "here; use moe_mlir.torch.Operator, call it under torch.no_grad(), or detach() the tensor")


class _Packed:
    """DLTensors and the pointers to them, in one block of memory."""

    _TENSOR = "QiiiBBHQQQ"
    _SIZE = struct.calcsize("@" + _TENSOR)

    def __init__(self, arrays: Sequence[Any], names: Sequence[str]):
        described = list(map(_arrays.describe, arrays, names))
        count = len(described)
        self.cuda = any(d[1] == _arrays.CUDA for d in described)
        numbers = sum(2 * len(d[5]) for d in described)
        tensors_at = 8 * count
        numbers_at = tensors_at + self._SIZE * count
        self._block = ctypes.create_string_buffer(max(numbers_at + 8 * numbers, 1))
        base = ctypes.addressof(self._block)
        fields: list[int] = []
        shapes: list[int] = []
        for data, device, device_id, code, bits, shape, strides in described:
            at = base + numbers_at + 8 * len(shapes)
            fields += (data, device, device_id, len(shape), code, bits, 1, at, at + 8 * len(shape), 0)
            shapes += shape
            shapes += strides
        struct.pack_into(f"@{count}Q{self._TENSOR * count}{numbers}q", self._block, 0,
                         *(base + tensors_at + self._SIZE * i for i in range(count)), *fields, *shapes)
        self.pointers = base


class Module:
    """A compiled module: its entry points by name.

    ``module["forward"](x, ids, gates, w1, w2)``; with one entry point, or one
    named ``forward``, also ``module(x, ids, gates, w1, w2)``.
    """

    def __init__(self, handle: ctypes.c_void_p, again: tuple[Callable, tuple]):
        self._library = _native.library()
        self._handle = handle
        self._again = again
        self.manifest: dict = json.loads(self._library.moe_module_manifest(handle))
        self._entries = {name: Entry(self, name, entry)
                         for name, entry in self.manifest["entries"].items()}

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of the entry points."""
        return tuple(self._entries)

    def __getitem__(self, entry: str) -> Entry:
        try:
            return self._entries[entry]
        except KeyError:
            raise KeyError(f"no entry {entry!r}; the module has {', '.join(self._entries)}") from None

    def __call__(self, *arrays: Any, **keywords: Any) -> Any:
        """Runs the only entry point, or the one named ``forward``; see `Entry`."""
        name = "forward" if "forward" in self._entries else next(iter(self._entries), None)
        if name is None or (name != "forward" and len(self._entries) > 1):
            raise ArgumentError(f"say which entry to call, as module[name](...): {', '.join(self._entries)}")
        return self._entries[name](*arrays, **keywords)

    def __repr__(self) -> str:
        lines = [f"  {entry!r}" for entry in self._entries.values()]
        return "\n".join([f"<moe_mlir.Module for {self.manifest['target']}", *lines]) + ">"

    # Nothing in a module changes: a copy is the module itself, and a pickle says
    # how to make it again, from its text through the cache or from its file.

    def __copy__(self) -> Module:
        return self

    def __deepcopy__(self, memo: dict) -> Module:
        return self

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self._again

    def __del__(self) -> None:
        handle, self._handle = getattr(self, "_handle", None), None
        if handle:
            self._library.moe_module_release(handle)


def compile(source: Any, target: Any = "cpu", **options: Any) -> Module:
    """Compiles a module of the ``moe`` dialect, or takes it from the cache.

    Args:
        source: IR text, MLIR bytecode, or a layer of `moe_mlir.layers`.
        target: ``"cpu"``; ``"cuda"`` or ``"cuda:1"``, as torch names devices, for a
            GPU of this machine; or the GPU to compile for, which need not be here:
            ``"sm_80"``, ``"sm_86"``, ``"sm_89"``, ``"sm_90"``, ``"sm_90a"`` (Hopper),
            ``"sm_100"``, ``"sm_120"``. Calls then take torch tensors on a GPU, and run
            on its current stream.
        options: of the compiler, underscores for dashes: ``cpu="x86-64-v3"``,
            ``opt_level=2``; docs/RuntimeABI.md lists them.

    Returns:
        Module: call it on torch tensors or NumPy arrays.

    Raises:
        CompileError: the module is refused; the message is the diagnostics.
        NotFoundError: the library or the compiler is not installed.
        UnsupportedError: the target is not built.
        LoadError: the target is this machine's GPU, and there is no driver.
    """
    text = as_text(source)
    target = str(target)
    if target != "cpu":  # the library itself looks at CUDA_HOME and PATH
        torch = sys.modules.get("torch")
        if target == "cuda" and torch is not None and torch.cuda.is_available():
            target = f"cuda:{torch.cuda.current_device()}"
        os.environ.setdefault("MOE_PTXAS_FALLBACK", os.pathsep.join(map(str, _native.ptxas_places())))
    words = " ".join(option_words(options))
    given = _native.Options(ctypes.sizeof(_native.Options), target.encode(), words.encode() or None)
    handle = ctypes.c_void_p()
    _native.check(_native.library().moe_compile(text, len(text), given, handle))
    module = Module(handle, (functools.partial(compile, **options), (text, target)))
    _warn_of_simt(module.manifest)
    return module


_warned: set[tuple[str, str]] = set()


def _warn_of_simt(manifest: dict) -> None:
    """Products that run without tensor cores, once a process for each target and reason."""
    target = manifest["target"]
    found: dict[str, list[str]] = {}
    for name, entry in manifest["entries"].items():
        for reason in entry.get("simt", ()):
            if (target, reason) not in _warned:
                found.setdefault(reason, []).append(name)
    if not found:
        return
    _warned.update((target, reason) for reason in found)
    what = "\n".join(f"  {', '.join(names)}: moe.{reason}" for reason, names in found.items())
    # At the line of the caller's that is outside this package.
    level, frame = 1, sys._getframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(f"matrix products run without tensor cores on {target}, as SIMT kernels:\n{what}",
                  PerformanceWarning, stacklevel=level)


def load(path: Any) -> Module:
    """Loads what ``moe-compile -o`` wrote.

    Raises:
        LoadError: unreadable, damaged, or for another ABI or CPU.
    """
    handle = ctypes.c_void_p()
    _native.check(_native.library().moe_module_load(str(path).encode(), handle))
    return Module(handle, (load, (str(path),)))
