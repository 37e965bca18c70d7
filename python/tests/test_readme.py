# SPDX-License-Identifier: Apache-2.0
"""The programs of README.md do what it says they do."""

import os
import pathlib
import re
import shlex
import subprocess

from moe_mlir import _native

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.M | re.S)
    assert found, f"README.md has no {language} block"
    return found


def test_the_layer_in_pytorch(capsys):
    names: dict = {}
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), names)
    assert float(capsys.readouterr().out.partition("difference:")[2]) > 0
    assert names["out"].shape == (1000, 256)
    for name, weight in names["experts"].named_parameters():
        assert weight.grad.norm() > 0, name


def test_the_program_for_moe_opt(tmp_path):
    (program,) = blocks("mlir")
    (tmp_path / "linear.mlir").write_text(program)
    commands = [line for block in blocks("sh") for line in block.splitlines()
                if line.startswith(("moe-opt", "moe-run"))]
    assert len(commands) == 4
    printed = []
    for command in commands:
        name, *arguments = shlex.split(command, comments=True)
        done = subprocess.run([_native.find_program(name), *arguments], cwd=tmp_path, text=True,
                              capture_output=True, env={**os.environ, "MOE_MLIR_CACHE": "off"})
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        printed.append(done.stdout)
    gradients, kernels, compiled, interpreted = printed
    assert "@linear_joint" in gradients and "moe.weight_grad" in gradients
    assert "moe.grouped_matmul" in kernels and "moe.parallel_linear" not in kernels
    sums = [re.search(r"out0: float32 \(200, 32\) sum (\S+),", text)[1] for text in (compiled, interpreted)]
    assert abs(float(sums[0]) - float(sums[1])) < 1e-2


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text()):
        assert (README.parent / target).exists(), target
