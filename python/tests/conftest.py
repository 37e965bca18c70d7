# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

import os
import pathlib

BUILD = pathlib.Path(os.environ.get("MOE_BUILD_DIR", pathlib.Path(__file__).resolve().parents[2] / "build"))

# Tests share compiled modules with each other and with earlier runs, and leave
# the user's own cache alone. Entries are keyed by the compiler: a rebuilt one
# finds none of them.
if BUILD.is_dir():
    os.environ.setdefault("MOE_MLIR_CACHE", str(BUILD / "test-cache"))

# Where there are more threads than cores, waiting threads give theirs up.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
