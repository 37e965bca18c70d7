# SPDX-License-Identifier: Apache-2.0
"""compute-sanitizer's tools find nothing in small layers, rows and routers."""

import pathlib
import subprocess
import sys

import gpu
import gpu_sanitize
import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.skipif(gpu.DRY or not gpu_sanitize.find_program(), reason="no compute-sanitizer: it comes with the CUDA toolkit")
@pytest.mark.parametrize("tool", gpu_sanitize.TOOLS)
def test_nothing_is_found(tool):
    script = pathlib.Path(gpu_sanitize.__file__).resolve()
    done = subprocess.run([sys.executable, script, "--tools", tool], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
