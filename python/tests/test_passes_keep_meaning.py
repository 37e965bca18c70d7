# SPDX-License-Identifier: Apache-2.0
"""Every test of the oracle's ops again, after passes: the oracle runs their output too.

Unspecified rows have to stay where they were: a pass that reads them, or writes
others, is seen as NaN.
"""

import pathlib
import tempfile

import oracle
import pytest
import test_interpreter_ops as ops
import test_interpreter_route as route
from test_interpreter_ops import *  # noqa: F403 (the tests themselves)
from test_interpreter_route import *  # noqa: F403

PIPELINES = {
    "kernels": "--canonicalize --cse --moe-expand-assignment --moe-form-kernels --canonicalize --cse",
    "fused": "--canonicalize --cse --moe-expand-assignment --moe-form-kernels --moe-fuse",
}


@pytest.fixture(params=PIPELINES, autouse=True)
def after_passes(request, monkeypatch):
    def interpret(text, *arguments, **options):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "layer.mlir"
            file.write_text(text)
            transformed = oracle.run_tool("moe-opt", *PIPELINES[request.param].split(), file)
        return oracle.interpret(transformed, *arguments, **options)

    monkeypatch.setattr(ops, "interpret", interpret)
    monkeypatch.setattr(route, "interpret", interpret)
