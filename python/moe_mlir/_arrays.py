# SPDX-License-Identifier: Apache-2.0
"""torch tensors and NumPy arrays as DLTensors, without a copy.

Neither torch nor ml_dtypes is imported before a caller hands one in.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Sequence

import numpy as np

from .errors import ArgumentError, Error

# DLDataType codes and bits.
DTYPES = {
    "float64": (2, 64),
    "float32": (2, 32),
    "float16": (2, 16),
    "bfloat16": (4, 16),
    "int64": (0, 64),
    "int32": (0, 32),
    "int16": (0, 16),
    "int8": (0, 8),
    "uint8": (1, 8),
    "bool": (6, 8),
}
CPU, CUDA, CUDA_HOST = 1, 2, 3

# Bytes of workspace that a thread keeps from call to call, at most.
KEPT_BYTES = 256 << 20
_kept = threading.local()


def is_torch(array: Any) -> bool:
    """Whether it is a torch tensor; torch stays unimported where it is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def adopt(array: Any, name: str) -> Any:
    """The array itself if torch's or NumPy's, else NumPy's view of it.

    Raises:
        TypeError: for what does not speak DLPack; `name` is what errors call it.
    """
    if is_torch(array) or isinstance(array, np.ndarray):
        return array
    if hasattr(array, "__dlpack__"):
        try:
            return np.from_dlpack(array)
        except (BufferError, RuntimeError):
            # NumPy's DLPack has no bfloat16; JAX's arrays are NumPy's with that of ml_dtypes.
            if str(getattr(array, "dtype", "")) != "bfloat16" or array.__dlpack_device__()[0] != CPU:
                raise
            view = np.asarray(array)
            view.flags.writeable = False  # it may be a copy
            return view
    raise TypeError(f"{name} is a {type(array).__name__}, wanted a torch tensor or a NumPy array; "
                    "convert it with torch.as_tensor or numpy.asarray")


def describe(array: Any, name: str) -> tuple[int, int, int, int, int, Sequence[int], Sequence[int]]:
    """data, device type, device id, dtype code, bits, shape, strides in elements.

    Raises:
        ArgumentError: for dtypes and devices that no compiled module takes;
            `name` is what errors call the array.
    """
    if is_torch(array):
        dtype = str(array.dtype).partition(".")[2]
        device = array.device
        if device.type == "cpu":
            where = (CPU, 0)
        elif device.type == "cuda":
            where = (CUDA, device.index or 0)
        else:
            raise ArgumentError(f"{name} is on {device}; move it with .to('cpu') or .to('cuda')")
        if array.layout is not sys.modules["torch"].strided:
            raise ArgumentError(f"{name} has the layout {array.layout}; convert it with .to_dense()")
        if array.is_neg():
            raise ArgumentError(f"{name} is a view that negates what is in memory; call .resolve_neg() on it")
        data, shape, strides = array.data_ptr(), array.shape, array.stride()
    else:
        dtype = array.dtype.name
        where = (CPU, 0)
        data, shape = array.__array_interface__["data"][0], array.shape
        if not array.dtype.isnative:
            raise ArgumentError(f"{name} is not in this machine's byte order; convert it with "
                                f"{name}.astype({name}.dtype.newbyteorder('='))")
        size = array.itemsize
        if any(stride % size for stride in array.strides):
            raise ArgumentError(f"the strides of {name} are no multiples of its element; "
                                "copy it with numpy.ascontiguousarray")
        strides = [stride // size for stride in array.strides]
    if dtype not in DTYPES:
        raise ArgumentError(f"{name} has the dtype {dtype}, which is not among {', '.join(DTYPES)}")
    code, bits = DTYPES[dtype]
    return data, where[0], where[1], code, bits, shape, strides


def empty(dtype: str, shape: Sequence[int], like: Any) -> Any:
    """An uninitialised array of the kind, and on the device, of `like`."""
    if is_torch(like):
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)
    if dtype == "bfloat16":
        return np.empty(shape, _bfloat16())
    return np.empty(shape, dtype)


def empty_bytes(size: int, align: int, like: Any) -> Any:
    """So many bytes, aligned, of the kind and on the device of `like`."""
    if is_torch(like) and align <= 64:
        return empty("uint8", (size,), like)
    raw = np.empty(size + align, np.uint8)
    offset = -raw.__array_interface__["data"][0] % align
    return raw[offset : offset + size]


def workspace(size: int, align: int, like: Any) -> Any:
    """`empty_bytes` for one call, which a thread keeps for its next call on the CPU.

    New pages come from the system zeroed, one fault each: for a training step as much time as
    some of its kernels take. A call leaves nothing in its workspace, so any other may use it.
    """
    on_cpu = not is_torch(like) or like.device.type == "cpu"
    if not on_cpu or align > 64 or size > KEPT_BYTES:
        return empty_bytes(size, align, like)
    kept = getattr(_kept, "bytes", None)
    if kept is None or kept.nbytes < size:
        forget_workspace()
        kept = _kept.bytes = empty_bytes(size, 64, like)
    return kept


def forget_workspace() -> None:
    """Frees what this thread keeps."""
    _kept.bytes = None


def _bfloat16() -> np.dtype:
    try:
        import ml_dtypes
    except ImportError as error:
        raise Error("NumPy has no bfloat16 of its own; pip install ml_dtypes, or use torch") from error
    return np.dtype(ml_dtypes.bfloat16)


def to_numpy_bits(array: Any) -> np.ndarray:
    """A NumPy array with the same bits, bfloat16 as the two bytes that .npy has."""
    if is_torch(array):
        array = array.detach().cpu().contiguous()
        if str(array.dtype) == "torch.bfloat16":
            return array.view(sys.modules["torch"].int16).numpy().view("V2")
        return array.numpy()
    if array.dtype.name == "bfloat16":
        return np.ascontiguousarray(array).view("V2")
    return array


def from_numpy_bits(array: np.ndarray, as_torch: bool) -> Any:
    """The inverse of `to_numpy_bits`."""
    two_bytes = array.dtype == np.dtype("V2")
    if as_torch:
        torch = sys.modules["torch"]
        if two_bytes:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    return array.view(_bfloat16()) if two_bytes else array
