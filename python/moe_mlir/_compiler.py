# SPDX-License-Identifier: Apache-2.0
"""The programs: stages of compilation, and the oracle."""

from __future__ import annotations

import pathlib
import subprocess
import tempfile
from typing import Any, Mapping, Union

import numpy as np

from . import _arrays
from ._native import find_program
from .errors import CompileError, Error


def option_words(options: Mapping[str, Any]) -> list[str]:
    """``{"opt_level": 2, "fuse": False}`` as ``["opt-level=2", "fuse=false"]``."""
    words = []
    for key, value in options.items():
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, (list, tuple)):
            value = ",".join(map(str, value))
        word = f"{key.replace('_', '-')}={value}"
        if any(c.isspace() for c in word):
            raise ValueError(f"option {word!r} has a space in it")
        words.append(word)
    return words


def as_text(source: Any) -> bytes:
    """IR from a layer, a string, or bytes (text or MLIR bytecode)."""
    source = getattr(source, "text", source)
    if isinstance(source, str):
        return source.encode()
    if isinstance(source, (bytes, bytearray)):
        return bytes(source)
    raise TypeError(f"IR is a string, bytes or a layer, not {type(source).__name__}")


def stage(source: Any, name: str, options: Mapping[str, Any] = {}, target: str = "cpu") -> str:
    """The IR at a stage of compilation.

    Raises:
        CompileError: where the compiler refuses, with its diagnostics.
    """
    command = [str(find_program("moe-compile")), "-", f"--emit=mlir-stage={name}", f"--target={target}"]
    for word in option_words(options):
        command += ["--opt", word]
    done = subprocess.run(command, input=as_text(source), capture_output=True)
    if done.returncode:
        raise CompileError(done.stderr.decode(errors="replace").strip())
    return done.stdout.decode()


def explain(source: Any, options: Mapping[str, Any] = {}) -> str:
    """The report of ``moe-opt --moe-explain``, with its options.

    Raises:
        CompileError: where the compiler refuses, with its diagnostics.
    """
    with tempfile.TemporaryDirectory(prefix="moe-explain-") as folder:
        report = pathlib.Path(folder) / "report"
        words = " ".join([*option_words(options), f"output={report}"])
        command = [str(find_program("moe-opt")), "-", f"--moe-explain={words}", "-o", "/dev/null"]
        done = subprocess.run(command, input=as_text(source), capture_output=True)
        if done.returncode:
            raise CompileError(done.stderr.decode(errors="replace").strip())
        return report.read_text()


def interpret(source: Any, entry: str, *arrays: Any, round: bool = False) -> Any:
    """Runs an entry point op by op in double precision: the oracle.

    Slow and simple; every other way to run is tested against it.

    Args:
        source: IR text, or a layer.
        entry: the name of a public function.
        arrays: its arguments, torch tensors (on the CPU) or NumPy arrays.
        round: round each tensor result to its element type, as compiled code
            does, instead of at the end only.

    Returns:
        The result, or a tuple of results: torch tensors where an argument is
        one, else NumPy arrays.

    Raises:
        Error: with moe-run's line, for arguments that do not fit.
    """
    arrays = tuple(_arrays.adopt(a, f"argument {i}") for i, a in enumerate(arrays))
    with tempfile.TemporaryDirectory(prefix="moe-interpret-") as folder:
        path = pathlib.Path(folder)
        (path / "layer.mlir").write_bytes(as_text(source))
        command = [str(find_program("moe-run")), str(path / "layer.mlir"), f"--entry={entry}",
                   "--interpret", f"--out={path}/"]
        if round:
            command.append("--round")
        for index, array in enumerate(arrays):
            np.save(path / f"arg{index}.npy", _arrays.to_numpy_bits(array))
            command += ["--arg", str(path / f"arg{index}.npy")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Error(done.stderr.strip())
        results = []
        while (file := path / f"out{len(results)}.npy").exists():
            results.append(np.load(file))
    as_torch = any(_arrays.is_torch(a) for a in arrays)
    converted = tuple(_arrays.from_numpy_bits(r, as_torch) for r in results)
    return converted[0] if len(converted) == 1 else converted
