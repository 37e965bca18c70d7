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


def test_every_op_of_moe_has_an_example():
    """In its description, where test/Docs runs it; moe.yield stands in those of others."""
    texts = [p.read_text() for p in (ROOT / "include" / "moe" / "Dialect" / "Moe").rglob("*.td")]
    ops = [found for text in texts for found in re.findall(r'^def Moe_\w+ : \w*Op<"(\w+)"(.*?)(?=^def |\Z)', text, re.M | re.S)]
    assert len(ops) > 20
    assert [name for name, text in ops if f"= moe.{name} " not in text.partition("```mlir")[2]] == ["yield"]


@pytest.fixture
def bare(tmp_path):
    """A checkout on a machine without a package, its user not root; programs that would change it say so."""
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    checkout.mkdir()
    programs.mkdir()
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    for name, text in {"id": "echo 1000", "dpkg-query": "exit 1", "apt-cache": "case $2 in *-22*) exit 1; esac", **dict.fromkeys(
            ("sudo", "apt-get", "pip", "curl", "wget"), f'echo "$0" >>{tmp_path}/called')}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    def setup(os_release="", **variables):
        (tmp_path / "os-release").write_text(os_release)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "MOE_OS_RELEASE": f"{tmp_path}/os-release"}
        environment.pop("MLIR_DIR", None)
        environment.update(variables)
        return subprocess.run([checkout / "scripts" / "setup"], env=environment, capture_output=True, text=True)

    setup.checkout, setup.called, setup.programs = checkout, tmp_path / "called", programs
    return setup


def test_setup_without_root_prints_the_line_and_stops(bare):
    done = bare()
    assert done.returncode == 1
    packages = [line for line in (ROOT / "scripts" / "apt-packages.txt").read_text().split("\n") if line and line[0] != "#"]
    assert f"apt-get update && apt-get install --no-install-recommends -y {' '.join(packages)}" in done.stderr
    assert not bare.called.exists() and not (bare.checkout / ".venv").exists()


SYSTEMS = {
    "Ubuntu": ('ID=ubuntu\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24.04.3 LTS"\n',
               "'deb https://apt.llvm.org/noble/ llvm-toolchain-noble-22 main' >/etc/apt/sources.list.d/llvm-22.list"),
    "Debian 12": ('ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12"\n', "bookworm-security"),
    "another": ('ID=other\nPRETTY_NAME="Other 1"\n', "MLIR_DIR=<its lib/cmake/mlir>"),
}


@pytest.mark.parametrize("user", ["echo 1000", "echo 0"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_setup_says_where_llvm_is(bare, system, user):
    """On a machine whose apt has all but LLVM 22; nothing is installed, root or not."""
    os_release, line = SYSTEMS[system]
    (bare.programs / "id").write_text(f"#!/bin/sh\n{user}\n")
    done = bare(os_release)
    assert done.returncode == 1
    name = re.search('PRETTY_NAME="(.*)"', os_release)[1]
    assert f"LLVM and MLIR 22 are not in the archives that apt knows on {name}.\n" in done.stderr
    assert line in done.stderr and "MLIR_DIR=<its lib/cmake/mlir> make" in done.stderr
    called = bare.called.read_text().split() if bare.called.exists() else []
    assert called == ([] if user == "echo 1000" else [f"{bare.programs}/apt-get"])  # its lists, at most
    assert not (bare.checkout / ".venv").exists()


def test_setup_with_another_mlir(bare):
    folder = bare.checkout / "mlir"
    done = bare(MLIR_DIR=str(folder))
    assert done.returncode == 1
    assert f"MLIR_DIR is '{folder}', where no MLIRConfig.cmake is; set it to the lib/cmake/mlir of an MLIR 22" in done.stderr
    folder.mkdir()
    (folder / "MLIRConfig.cmake").touch()
    done = bare(MLIR_DIR=str(folder))
    assert done.returncode == 1 and f"using MLIR from MLIR_DIR={folder}, and any clang" in done.stdout
    assert re.search(r"apt-get install --no-install-recommends -y clang cmake ninja-build .*python3-venv\n", done.stderr)
    assert "-22" not in done.stderr


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
