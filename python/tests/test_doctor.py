# SPDX-License-Identifier: Apache-2.0
"""python -m moe_mlir.doctor on this machine, and on broken ones."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from moe_mlir import _native, doctor


def findings(subject, **environment):
    """What a fresh doctor finds: (exit code, findings of the subject)."""
    variables = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    done = subprocess.run([sys.executable, "-m", "moe_mlir.doctor", "--json"], capture_output=True, text=True,
                          env=variables)
    assert not done.stderr, done.stderr
    found = [doctor.Finding(**f) for f in json.loads(done.stdout)]
    for f in found:
        assert f.text and "\n" not in f.text
        assert bool(f.remedy) == (f.level in (doctor.WARNING, doctor.PROBLEM)), f
    return done.returncode, [f for f in found if f.subject == subject]


def check(name, monkeypatch, **environment):
    """One check in this process, with variables set or (None) unset."""
    for key, value in environment.items():
        monkeypatch.delenv(key, raising=False) if value is None else monkeypatch.setenv(key, str(value))
    return list(getattr(doctor, f"check_{name}")())


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_this_machine_is_well():
    code, found = findings("trial")
    assert code == 0
    assert [f.level for f in found] == ["ok"] and "agrees with NumPy" in found[0].text


def test_the_report():
    done = subprocess.run([sys.executable, "-m", "moe_mlir.doctor"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "moe-mlir works here: 0 problems" in done.stdout
    assert "\033" not in done.stdout
    text = doctor.report([doctor.Finding("problem", "it", "is bad", "mend it")], colour=True)
    assert "\033[31m" in text and "-> mend it" in text and "does not work here: 1 problem, 0 warnings" in text


def test_no_library(tmp_path):
    code, found = findings("library", MOE_MLIR_LIBRARY=str(tmp_path / "none.so"))
    assert code == 1 and [f.level for f in found] == ["problem"]
    assert "none.so, which is no file" in found[0].text and "MOE_MLIR_LIBRARY" in found[0].remedy


def test_a_library_that_is_none(tmp_path):
    path = tmp_path / "bad.so"
    path.write_bytes(b"\x7fELF and then nothing")
    code, found = findings("library", MOE_MLIR_LIBRARY=str(path))
    assert code == 1 and "does not load" in found[0].text


def test_no_compiler(tmp_path):
    code, found = findings("moe-compile", MOE_MLIR_COMPILER=str(tmp_path / "none"))
    assert code == 1 and found[0].level == "problem" and "none, which is no file" in found[0].text


@pytest.mark.parametrize("text, message", [("exit 3", "ends with 3"), ("echo moe-compile 9.9.9", "says 'moe-compile 9.9.9'"),
                                           ("kill -SEGV $$", "ends with -11")])
def test_a_compiler_that_is_none(tmp_path, monkeypatch, text, message):
    own = script(tmp_path / "moe-compile", text)
    found = check("programs", monkeypatch, MOE_MLIR_COMPILER=own)
    assert found[0].level == "problem" and message in found[0].text


def test_a_compiler_that_is_no_program(tmp_path, monkeypatch):
    own = tmp_path / "moe-compile"
    own.write_text("hello")
    found = check("programs", monkeypatch, MOE_MLIR_COMPILER=own)
    assert found[0].level == "problem" and "ermission denied" in found[0].text


def test_an_installation_without_moe_run(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    shutil.copy(_native.find_program("moe-compile"), home / "bin")
    monkeypatch.setattr(_native, "homes", lambda: [home])
    found = check("programs", monkeypatch, MOE_MLIR_COMPILER=None, PATH=str(tmp_path))
    assert [(f.subject, f.level) for f in found] == [("moe-compile", "ok"), ("moe-run", "warning"), ("moe-opt", "note")]


def test_a_compiler_that_crashes():
    code, found = findings("trial", MOE_MLIR_TEST_CRASH="segv")
    assert code == 1 and found[0].level == "problem" and "CompilerCrash" in found[0].text


def test_a_trial_that_dies(monkeypatch):
    monkeypatch.setattr(doctor, "TRIAL", "import os; os.abort()")
    (found,) = check("trial", monkeypatch)
    assert found.level == "problem" and "died of signal 6" in found.text


def test_a_trial_with_wrong_numbers(monkeypatch):
    monkeypatch.setattr(doctor, "TRIAL", doctor.TRIAL.replace("layer.compile()(x", "layer.compile()(x + 1"))
    (found,) = check("trial", monkeypatch)
    assert found.level == "problem" and "results are off by" in found.text


# Cache folders that cannot be used. Permissions mean nothing to root, so none of
# these relies on them alone.
def test_the_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    (found,) = check("cache", monkeypatch, MOE_MLIR_CACHE=folder)
    assert found.level == "ok" and "made when first used" in found.text and not folder.exists()
    folder.mkdir()
    (folder / "entry").write_bytes(b"x" * 2_000_000)
    (found,) = check("cache", monkeypatch, MOE_MLIR_CACHE=folder)
    assert found.level == "ok" and "1 files, 2 MB" in found.text
    assert [p.name for p in folder.iterdir()] == ["entry"], "the doctor leaves nothing behind"


def test_where_the_cache_is(monkeypatch):
    for environment, expected in [({"MOE_MLIR_CACHE": "/a"}, "/a"), ({"XDG_CACHE_HOME": "/b", "HOME": "/h"}, "/b/moe-mlir"),
                                  ({"HOME": "/h"}, "/h/.cache/moe-mlir"), ({"MOE_MLIR_CACHE": "off"}, None), ({}, None)]:
        for name in ("MOE_MLIR_CACHE", "XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert doctor.cache_folder() == (pathlib.Path(expected) if expected else None)


@pytest.mark.parametrize("where", ["off", "/proc/moe-mlir", "{file}", "{file}/below", "{locked}"])
def test_a_cache_that_cannot_be_used(tmp_path, monkeypatch, where):
    file, locked = tmp_path / "file", tmp_path / "locked"
    file.write_text("")
    locked.mkdir(mode=0o500)
    if where == "{locked}" and os.geteuid() == 0:
        # Root writes anywhere; the file system says no instead.
        def refuse(*arguments, **keywords):
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)
    (found,) = check("cache", monkeypatch, MOE_MLIR_CACHE=where.format(file=file, locked=locked))
    assert found.level == "warning" and "compiles every layer anew" in found.text
    assert "MOE_MLIR_CACHE" in found.remedy


def test_a_broken_cache_is_no_problem():
    code, found = findings("cache", MOE_MLIR_CACHE="/proc/moe-mlir")
    assert code == 0 and found[0].level == "warning"


def test_a_full_disk_and_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_locks", lambda descriptor: False)
    (found,) = check("cache", monkeypatch, MOE_MLIR_CACHE=tmp_path)
    assert found.level == "warning" and "no file locks" in found.text
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    (found,) = check("cache", monkeypatch, MOE_MLIR_CACHE=tmp_path)
    assert found.level == "warning" and "free some space" in found.remedy


def test_threads(monkeypatch):
    cores = len(os.sched_getaffinity(0))
    assert [f.subject for f in check("cpu", monkeypatch, MOE_NUM_THREADS=None, OMP_NUM_THREADS="1")] == ["CPU"]
    found = check("cpu", monkeypatch, OMP_NUM_THREADS="many")[1]
    assert found.level == "warning" and "'many', no number of threads" in found.text
    found = check("cpu", monkeypatch, OMP_NUM_THREADS=str(cores + 1))[1]
    assert found.level == "warning" and f"more than the {cores} cores" in found.text


# A driver of our own, so that every branch runs where there is no GPU.
DRIVER = r"""
#include <stdio.h>
#include <string.h>
int cuInit(unsigned f) { return INIT; }
int cuDriverGetVersion(int *v) { *v = VERSION; return 0; }
int cuDeviceGetCount(int *n) { *n = DEVICES; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *name, int n, int d) { snprintf(name, n, "Fake %d", d); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int d) { *bytes = 80ull << 30; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 - 2 * d : 0; return 0; }
"""


@pytest.fixture(scope="module")
def fake_driver(tmp_path_factory):
    compiler = shutil.which("clang-22") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler to build a fake driver with")
    folder = tmp_path_factory.mktemp("drivers")
    (folder / "driver.c").write_text(DRIVER)

    def build(init=0, version=13000, devices=1):
        library = folder / f"libcuda-{init}-{version}-{devices}.so"
        subprocess.run([compiler, "-shared", "-fPIC", f"-DINIT={init}", f"-DVERSION={version}", f"-DDEVICES={devices}",
                        folder / "driver.c", "-o", library], check=True)
        return library

    return build


def test_gpus(fake_driver, monkeypatch):
    (found,) = check("gpu", monkeypatch, MOE_LIBCUDA=fake_driver())
    assert found.level == "ok" and "0: Fake 0, sm_90, 80 GiB; driver for CUDA 13.0" in found.text
    new, old = check("gpu", monkeypatch, MOE_LIBCUDA=fake_driver(devices=2))
    assert (new.level, old.level) == ("ok", "warning") and "sm_70" in old.text
    (found,) = check("gpu", monkeypatch, MOE_LIBCUDA=fake_driver(version=11080))
    assert found.level == "warning" and "driver for CUDA 11.8" in found.text and "12.0 is the oldest" in found.remedy
    (found,) = check("gpu", monkeypatch, MOE_LIBCUDA=fake_driver(devices=0))
    assert found.level == "note" and "CUDA_VISIBLE_DEVICES" in found.text
    (found,) = check("gpu", monkeypatch, MOE_LIBCUDA=fake_driver(init=999))
    assert found.level == "warning" and "cuInit gives 999" in found.text
    (found,) = check("gpu", monkeypatch, MOE_LIBCUDA="/none/libcuda.so")
    assert found.level == "warning" and "does not load" in found.text


def test_ptxas(fake_driver, tmp_path, monkeypatch):
    release = 'echo "Cuda compilation tools, release {}, V{}.1"'
    old, new = (script(tmp_path / v / "bin" / "ptxas", release.format(v, v)) for v in ("12.8", "13.1"))
    environment = {"MOE_PTXAS": None, "MOE_LIBCUDA": fake_driver(), "CUDA_HOME": tmp_path / "12.8",
                   "PATH": f"{new.parent}:/usr/bin:/bin"}
    monkeypatch.setattr(_native.importlib.util, "find_spec", lambda name: None)
    (found,) = check("ptxas", monkeypatch, **environment)
    assert found.level == "ok" and found.text == f"CUDA 13.1, {new}"
    (found,) = check("ptxas", monkeypatch, **{**environment, "MOE_LIBCUDA": fake_driver(version=12040)})
    assert found.text == f"CUDA 12.8, {old}"
    (found,) = check("ptxas", monkeypatch, **{**environment, "MOE_LIBCUDA": fake_driver(version=12040), "MOE_PTXAS": new})
    assert found.level == "warning" and "of CUDA 13, newer than the driver's CUDA 12" in found.text
    (found,) = check("ptxas", monkeypatch, **{**environment, "MOE_PTXAS": tmp_path / "none"})
    assert found.level == "warning" and "No such file" in found.text
    (found,) = check("ptxas", monkeypatch, **{**environment, "MOE_PTXAS": script(tmp_path / "odd", "echo hello")})
    assert found.level == "warning" and "names no CUDA release" in found.text
    environment |= {"MOE_PTXAS": None, "CUDA_HOME": tmp_path / "none", "PATH": "/none"}
    (found,) = check("ptxas", monkeypatch, **environment)
    assert found.level == "note" and "nvidia-cuda-nvcc" in found.text


def test_frameworks(monkeypatch):
    versions = {"numpy": "1.21.0", "torch": "2.13.0+cpu"}

    def version(name):
        if name not in versions:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    found = {f.subject: f for f in check("frameworks", monkeypatch)}
    assert found["numpy"].level == "warning" and found["numpy"].remedy == "pip install 'numpy>=1.23'"
    assert found["torch"].level == "ok" and found["ml_dtypes"].level == "note" and "jax" not in found


def test_variables_that_mean_nothing(monkeypatch):
    found = check("environment", monkeypatch, MOE_MLIR_CASHE="/tmp", MOE_PTXAS="/p")
    assert [(f.level, f.text) for f in found if "CASHE" in f.text] == [
        ("warning", "MOE_MLIR_CASHE=/tmp means nothing to moe-mlir")]
    assert "MOE_PTXAS=/p" in [f.text for f in found if f.level == "note"]


def test_the_variables_are_those_of_the_sources():
    """Every variable that the library or the package reads is known to the doctor."""
    import re

    root = pathlib.Path(__file__).resolve().parents[2]
    files = [*root.glob("lib/**/*.cpp"), *root.glob("tools/**/*.cpp"), *root.glob("python/moe_mlir/**/*.py")]
    read = {name for file in files for name in re.findall(
        r"(?:getenv\(|environ\.get\(|environ\[)\s*\"(MOE_\w+)\"", file.read_text())}
    assert read and read <= doctor.VARIABLES


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def check_moon():
        raise RuntimeError("no moon")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (check_moon,))
    assert doctor.main([]) == 0
    (found,) = doctor.examine()
    assert (found.level, found.subject) == ("warning", "moon") and "RuntimeError: no moon" in found.text
