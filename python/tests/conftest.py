# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

import ctypes
import os
import pathlib

import pytest

BUILD = pathlib.Path(os.environ.get("MOE_BUILD_DIR", pathlib.Path(__file__).resolve().parents[2] / "build"))

# Tests share compiled modules with each other and with earlier runs, and leave
# the user's own cache alone. Entries are keyed by the compiler: a rebuilt one
# finds none of them.
if BUILD.is_dir():
    os.environ.setdefault("MOE_MLIR_CACHE", str(BUILD / "test-cache"))

# Where there are more threads than cores, waiting threads give theirs up.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def no_gpu() -> str:
    """Why no test can run on a GPU; empty where one is, or where the tests run dry (gpu.py)."""
    if os.environ.get("MOE_GPU_TESTS") == "dry-run":
        return ""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver: libcuda.so.1 is not there"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return f"no NVIDIA GPU: the driver found {count.value} (CUDA error {status})"
    return ""


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = no_gpu() if marked else ""
    if reason:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))
