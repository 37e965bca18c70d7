# SPDX-License-Identifier: Apache-2.0
"""What a result has to say about where it was measured."""

from __future__ import annotations

import pathlib
import platform
import re

import moe_mlir
import torch

FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")


def describe() -> dict[str, object]:
    """The CPU, threads and versions, without the machine's name."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", text)
    family = re.search(r"cpu family\s*: (.*)", text), re.search(r"model\s*: (.*)", text)
    flags = set(re.search(r"flags\s*: (.*)", text).group(1).split())
    return {
        "cpu": f"{name.group(1)} (family {family[0].group(1)}, model {family[1].group(1)})",
        "features": [f for f in FEATURES if f in flags],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "moe_mlir": moe_mlir.__version__,
        "python": platform.python_version(),
    }
