# SPDX-License-Identifier: Apache-2.0
"""Where the programs and the library are, and the C API by ctypes.

Looked for in this order: the variable of its own (MOE_MLIR_LIBRARY,
MOE_MLIR_COMPILER), MOE_MLIR_HOME with bin/ and lib/ in it, this package (where
a wheel puts them), the build folder of a checkout, and for programs PATH.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import pathlib
import shutil
from typing import Iterator

from .errors import BY_STATUS, Error, NotFoundError

LIBRARY = "libmoe_mlir.so"
PACKAGE = pathlib.Path(__file__).resolve().parent


def homes() -> Iterator[pathlib.Path]:
    """The folders whose bin/ and lib/ are searched."""
    if os.environ.get("MOE_MLIR_HOME"):
        yield pathlib.Path(os.environ["MOE_MLIR_HOME"])
    yield PACKAGE
    yield PACKAGE.parents[1] / "build"


def find_program(name: str) -> pathlib.Path:
    """The path of moe-compile, moe-run or moe-opt.

    Raises:
        NotFoundError: naming the places.
    """
    own = os.environ.get("MOE_MLIR_COMPILER") if name == "moe-compile" else None
    if own:
        if pathlib.Path(own).is_file():
            return pathlib.Path(own)
        raise NotFoundError(f"MOE_MLIR_COMPILER is {own}, which is no file")
    places = [home / "bin" / name for home in homes()]
    for place in places:
        if place.is_file():
            return place
    on_path = shutil.which(name)
    if on_path:
        return pathlib.Path(on_path)
    raise _not_found(name, places, "PATH")


def find_library() -> pathlib.Path:
    """The path of libmoe_mlir.so.

    Raises:
        NotFoundError: naming the places.
    """
    own = os.environ.get("MOE_MLIR_LIBRARY")
    if own:
        if pathlib.Path(own).is_file():
            return pathlib.Path(own)
        raise NotFoundError(f"MOE_MLIR_LIBRARY is {own}, which is no file")
    places = [home / "lib" / LIBRARY for home in homes()]
    for place in places:
        if place.is_file():
            return place
    raise _not_found(LIBRARY, places)


def ptxas_places() -> Iterator[pathlib.Path]:
    """Where ptxas may be: MOE_PTXAS alone, else CUDA_HOME, PATH, NVIDIA's wheel, Triton's."""
    if os.environ.get("MOE_PTXAS"):
        yield pathlib.Path(os.environ["MOE_PTXAS"])
        return
    yield pathlib.Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda") / "bin" / "ptxas"
    on_path = shutil.which("ptxas")
    if on_path:
        yield pathlib.Path(on_path)
    for package, pattern in (("nvidia", "*/bin/ptxas"), ("triton", "backends/nvidia/bin/ptxas*")):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            yield from sorted(pathlib.Path(folder).glob(pattern))


def _not_found(name: str, places: list[pathlib.Path], *more: str) -> NotFoundError:
    where = ", ".join([*map(str, places), *more])
    return NotFoundError(f"{name} was not found (looked at {where}); install the wheel, run `make build` "
                         "in a checkout, or set MOE_MLIR_HOME to a folder with bin/ and lib/")


class Options(ctypes.Structure):
    """moe_options."""

    _fields_ = [("struct_size", ctypes.c_size_t), ("target", ctypes.c_char_p),
                ("pipeline_options", ctypes.c_char_p)]


@functools.cache
def library() -> ctypes.CDLL:
    """The C API, loaded once.

    Raises:
        NotFoundError: where there is no library.
        Error: where it does not load.
    """
    path = find_library()
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise Error(f"{path} does not load: {error}") from error
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    for name, result, arguments in [
        ("moe_compile", ctypes.c_int, [text, size, ctypes.POINTER(Options), ctypes.POINTER(pointer)]),
        ("moe_module_load", ctypes.c_int, [text, ctypes.POINTER(pointer)]),
        ("moe_module_manifest", text, [pointer]),
        ("moe_workspace_size", ctypes.c_int,
         [pointer, text, pointer, size, ctypes.POINTER(ctypes.c_uint64)]),
        ("moe_invoke", ctypes.c_int, [pointer, text, pointer, size, pointer]),
        ("moe_module_release", None, [pointer]),
        ("moe_last_error", text, []),
        ("moe_version", text, []),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def check(status: int) -> None:
    """Raises the exception of a status other than MOE_OK."""
    if status:
        message = library().moe_last_error().decode(errors="replace")
        raise BY_STATUS.get(status, Error)(message)
