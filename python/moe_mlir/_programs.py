# SPDX-License-Identifier: Apache-2.0
"""The programs of the wheel as commands."""

import os
import sys

from ._native import find_program


def _start(name: str) -> None:
    program = str(find_program(name))
    os.execv(program, [program, *sys.argv[1:]])


def moe_opt() -> None:
    """Runs moe-opt."""
    _start("moe-opt")


def moe_run() -> None:
    """Runs moe-run."""
    _start("moe-run")
