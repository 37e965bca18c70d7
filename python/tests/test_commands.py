# SPDX-License-Identifier: Apache-2.0
"""The commands of a checkout: what `make` lists, and `scripts/setup` on a machine that lacks all."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").is_file(), reason="not a checkout")


def test_make_lists_its_commands():
    done = subprocess.run(["make", "-s", "-C", ROOT], capture_output=True, text=True, check=True)
    listed = set(re.findall(r"^  make ([a-z-]+)", done.stdout, re.M))
    assert {"demo", "test", "lit", "unit", "pytest", "wheel", "docs", "format", "fuzz", "bench", "gpu-test"} <= listed
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert listed == set(phony)


def test_every_make_command_that_is_named_exists():
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)[1].split()
    for page in [ROOT / "README.md", ROOT / ".ci" / "run", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.M):
            assert name in phony, f"{page.name} names make {name}"


def test_every_pass_and_op_is_in_a_lit_test():
    """By name; that a test says enough of it is for reviews."""
    tests = "\n".join(p.read_text() for p in (ROOT / "test").rglob("*") if p.suffix in (".mlir", ".test"))
    definitions = {p: p.read_text() for p in (ROOT / "include").rglob("*.td")}
    passes = [name for text in definitions.values() for name in re.findall(r':\s*Pass<"([\w-]+)"', text)]
    ops = [f"{dialect.lower()}.{name}" for text in definitions.values()
           for dialect, name in re.findall(r'^def (Moe|NVTile)_\w+ : \w*Op<"(\w+)"', text, re.M)]
    assert len(passes) > 20 and len(ops) > 45
    assert not [name for name in passes + ops if not re.search(rf"{name}(?![\w-])", tests)]


@pytest.fixture
def bare(tmp_path):
    """A checkout on a machine without a package, its user not root; programs that would change it say so."""
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    checkout.mkdir()
    programs.mkdir()
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    for name, text in {"id": "echo 1000", "dpkg-query": "exit 1", **dict.fromkeys(
            ("sudo", "apt-get", "pip", "curl", "wget"), f'echo "$0" >>{tmp_path}/called')}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    def setup():
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        environment.pop("MLIR_DIR", None)
        return subprocess.run([checkout / "scripts" / "setup"], env=environment, capture_output=True, text=True)

    setup.checkout, setup.called = checkout, tmp_path / "called"
    return setup


def test_setup_without_root_prints_the_line_and_stops(bare):
    done = bare()
    assert done.returncode == 1
    packages = [line for line in (ROOT / "scripts" / "apt-packages.txt").read_text().split("\n") if line and line[0] != "#"]
    assert f"apt-get update && apt-get install --no-install-recommends -y {' '.join(packages)}" in done.stderr
    assert not bare.called.exists() and not (bare.checkout / ".venv").exists()


def test_a_second_setup_does_nothing(bare):
    venv = bare.checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/bin/true")
    scripts = bare.checkout / "scripts"
    lists = [scripts / name for name in ("setup", "apt-packages.txt", "python-packages.txt")]
    stamp = hashlib.sha256(b"".join(f.read_bytes() for f in lists) + b"\n").hexdigest()
    (venv / ".moe-setup").write_text(f"{stamp}  -\n")
    done = bare()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not bare.called.exists()
    # Another list of packages is another setup.
    with lists[2].open("a") as file:
        file.write("another-package\n")
    assert bare().returncode == 1
