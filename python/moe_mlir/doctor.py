# SPDX-License-Identifier: Apache-2.0
"""Looks over the installation, and says what to do about each problem.

    python -m moe_mlir.doctor [--json]

Exits with 1 where something is broken that every user needs: library, compiler,
a compiled layer that gives the right numbers. What only some need, a cache or a
GPU, is a warning. Nothing is changed on the machine.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Callable, Iterator, Optional, Sequence

from . import _native

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        level: ``"ok"``; ``"note"``, where nothing is wrong but something is
            absent; ``"warning"``; ``"problem"``, after which moe-mlir does not work.
        subject, text: what was looked at, and what was found.
        remedy: what to do; never empty for warnings and problems.
    """

    level: str
    subject: str
    text: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]

INSTALL = "install the wheel again (pip install --force-reinstall), or run `make build` in a checkout"


# ---- the parts of moe-mlir -----------------------------------------------------


def check_python() -> Iterator[Finding]:
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        yield Finding(PROBLEM, "platform", machine, "moe-mlir is built for Linux on x86-64")
    elif sys.version_info < (3, 10):
        yield Finding(PROBLEM, "platform", machine, "use Python 3.10 or later")
    else:
        yield Finding(OK, "platform", machine)


def check_library() -> Iterator[Finding]:
    from . import __version__

    try:
        path = _native.find_library()
        version = _native.library().moe_version().decode()
    except Exception as error:
        yield Finding(PROBLEM, "library", str(error), f"{INSTALL}; unset MOE_MLIR_LIBRARY where it is set")
        return
    if version != __version__:
        yield Finding(PROBLEM, "library", f"{path} is of version {version}, this package of {__version__}", INSTALL)
    else:
        yield Finding(OK, "library", f"{version}, {path}")


def check_programs() -> Iterator[Finding]:
    from . import __version__

    for name, needed in (("moe-compile", True), ("moe-run", False), ("moe-opt", False)):
        level = PROBLEM if needed else WARNING
        loss = "" if needed else "; without it there is no moe_mlir.interpret" if name == "moe-run" else ""
        try:
            path = _native.find_program(name)
            version = _version(path)
        except Exception as error:
            if name == "moe-opt":
                yield Finding(NOTE, name, "not found; only compiler engineers need it")
            else:
                yield Finding(level, name, f"{error}{loss}", f"{INSTALL}; unset MOE_MLIR_COMPILER where it is set")
            continue
        if needed and __version__ not in version:
            yield Finding(PROBLEM, name, f"{path} says {version!r}, this package is {__version__}", INSTALL)
        else:
            yield Finding(OK, name, f"{version}, {path}")


def _version(path: pathlib.Path) -> str:
    done = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise OSError(f"{path} --version ends with {done.returncode}: {_last_line(done.stderr)}")
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return next((line for line in lines if re.search(r"\d+\.\d+", line)), lines[0] if lines else "no version")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


TRIAL = """
import numpy as np, moe_mlir
layer = moe_mlir.layers.MLP(d_model=32, d_expert=16, experts=4, top_k=2, activation="relu")
r = np.random.default_rng(0)
x, w1, w2 = (r.standard_normal(s, np.float32) for s in ((9, 32), (4, 16, 32), (4, 32, 16)))
ids, gates = np.argsort(r.random((9, 4)), axis=1)[:, :2].copy(), r.random((9, 2), np.float32)
h = np.maximum(np.einsum("td,tknd->tkn", x, w1[ids]), 0)
want = np.einsum("tkn,tkdn,tk->td", h, w2[ids], gates)
got = layer.compile()(x, ids, gates, w1, w2)
error = np.abs(got - want).max() / np.abs(want).max()
assert error < 1e-5, f"results are off by {error:.1e}"
print(f"a layer was compiled, and agrees with NumPy to {error:.0e}")
"""


def check_trial() -> Iterator[Finding]:
    """In a process of its own, so that a crash is a finding; without the cache."""
    environment = {**os.environ, "MOE_MLIR_CACHE": "off", "PYTHONPATH": os.pathsep.join(
        [str(_native.PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}
    try:
        done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True, timeout=120,
                              env=environment)
    except subprocess.TimeoutExpired:
        yield Finding(PROBLEM, "trial", "compiling a small layer took more than two minutes",
                      "look for what keeps the machine busy, or for a file system that hangs")
        return
    if done.returncode == 0:
        yield Finding(OK, "trial", done.stdout.strip())
    elif done.returncode < 0:
        yield Finding(PROBLEM, "trial", f"the process died of signal {-done.returncode}",
                      'compile with cpu="x86-64" to see whether the code generator mistakes this CPU, and report it')
    else:
        yield Finding(PROBLEM, "trial", _last_line(done.stderr), "see the problems above; if there are none, report it")


# ---- the machine ----------------------------------------------------------------


def cache_folder() -> Optional[pathlib.Path]:
    """Where compiled modules are kept; None where caching is off."""
    own = os.environ.get("MOE_MLIR_CACHE")
    if own == "off":
        return None
    if own:
        return pathlib.Path(own)
    if os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "moe-mlir"
    return pathlib.Path(os.environ["HOME"]) / ".cache" / "moe-mlir" if os.environ.get("HOME") else None


def check_cache() -> Iterator[Finding]:
    folder = cache_folder()
    slow = "every process compiles every layer anew"
    remedy = "set MOE_MLIR_CACHE to a folder of yours on a local disk"
    if folder is None:
        off = os.environ.get("MOE_MLIR_CACHE") == "off"
        yield Finding(WARNING, "cache", f"{'off' if off else 'neither HOME nor MOE_MLIR_CACHE is set'}: {slow}",
                      "unset MOE_MLIR_CACHE, which is off" if off else remedy)
        return
    # As the library does: make the folder, write beside the name, rename, lock.
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        if nearest == folder:
            with tempfile.NamedTemporaryFile(dir=folder, prefix="doctor-") as file:
                file.write(b"\0" * 65536)
                file.flush()
                locks = _locks(file.fileno())
        elif not os.access(nearest, os.W_OK | os.X_OK) or not nearest.is_dir() or _is_virtual(nearest):
            raise PermissionError(f"{nearest} cannot be written")
        else:
            yield Finding(OK, "cache", f"{folder}, made when first used")
            return
    except OSError as error:
        yield Finding(WARNING, "cache", f"{folder} cannot be used ({error.strerror or error}): {slow}", remedy)
        return
    entries = [e for e in os.scandir(folder) if e.is_file(follow_symlinks=False)]
    size, free = sum(e.stat().st_size for e in entries) / 1e6, shutil.disk_usage(folder).free / 1e6
    text = f"{folder}: {len(entries)} files, {size:.0f} MB; {free:.0f} MB free"
    if free < 100:
        yield Finding(WARNING, "cache", text, f"free some space (removing the folder is safe), or {remedy}")
    elif not locks:
        yield Finding(WARNING, "cache", f"{text}; no file locks: processes that start together all compile", remedy)
    else:
        yield Finding(OK, "cache", text)


def _locks(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _is_virtual(folder: pathlib.Path) -> bool:
    """/proc and /sys say they can be written, to root, and cannot."""
    return folder.absolute().parts[1:2] in (("proc",), ("sys",))


def check_cpu() -> Iterator[Finding]:
    with open("/proc/cpuinfo") as file:
        text = file.read()
    flags = set((re.search(r"^flags\s*:(.*)$", text, re.M) or [None, ""])[1].split())
    model = (re.search(r"^model name\s*:\s*(.*)$", text, re.M) or [None, "unknown"])[1]
    wanted = ("avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512_bf16", "amx_bf16")
    have = [flag for flag in wanted if flag in flags]
    cores = len(os.sched_getaffinity(0))
    summary = f"{model}, {cores} core{'s' if cores > 1 else ''} for this process; {' '.join(have) or 'no AVX2'}"
    if not {"avx2", "fma"} <= flags:
        yield Finding(WARNING, "CPU", summary,
                      "layers run, slowly; in a virtual machine, pass the host's CPU through (for QEMU, -cpu host)")
    else:
        yield Finding(OK, "CPU", summary)
    for name in ("MOE_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name)
        if value and not (value.isdigit() and int(value) > 0):
            yield Finding(WARNING, "threads", f"{name} is {value!r}, no number of threads", f"unset {name}")
        elif value and int(value) > cores:
            yield Finding(WARNING, "threads", f"{name} is {value}, more than the {cores} cores",
                          f"set {name} to {cores}")


def open_driver() -> Optional[ctypes.CDLL]:
    """libcuda, as the runtime opens it; None where there is none."""
    try:
        return ctypes.CDLL(os.environ.get("MOE_LIBCUDA") or "libcuda.so.1")
    except OSError:
        return None


def driver_version(driver: ctypes.CDLL) -> tuple[int, int]:
    """The CUDA version that a driver supports."""
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return version.value // 1000, version.value % 1000 // 10


def check_gpu() -> Iterator[Finding]:
    """Through the driver alone, as the runtime does."""
    driver = open_driver()
    if driver is None:
        devices = [p for p in ("/dev/nvidiactl", "/dev/nvidia0") if os.path.exists(p)]
        if devices or os.environ.get("MOE_LIBCUDA"):
            there = f"{devices[0]} exists" if devices else f"MOE_LIBCUDA is {os.environ['MOE_LIBCUDA']}"
            yield Finding(WARNING, "GPU", f"{there}, but the driver's library does not load",
                          "install the NVIDIA driver's user libraries; in a container, start it with --gpus all; "
                          "unset MOE_LIBCUDA where it is set")
        else:
            yield Finding(NOTE, "GPU", "none (no libcuda.so.1); layers are compiled for the CPU")
        return
    count, status = ctypes.c_int(), driver.cuInit(0)
    text = "driver for CUDA {}.{}".format(*driver_version(driver))
    if status or driver.cuDeviceGetCount(ctypes.byref(count)):
        yield Finding(WARNING, "GPU", f"{text} does not start (cuInit gives {status})",
                      "see whether nvidia-smi works; reload the driver or reboot, and look at CUDA_VISIBLE_DEVICES")
        return
    if not count.value:
        yield Finding(NOTE, "GPU", f"{text}, and no device; look at CUDA_VISIBLE_DEVICES")
    for index in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        label, memory = ctypes.create_string_buffer(100), ctypes.c_size_t()
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(label, 100, device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        found = f"{index}: {label.value.decode()}, sm_{major.value}{minor.value}, {memory.value / 2**30:.0f} GiB; {text}"
        if (major.value, minor.value) < (8, 0):
            yield Finding(WARNING, "GPU", found, "sm_80 is the oldest GPU that has a target; layers run on the CPU")
        elif driver_version(driver) < (12, 0):
            yield Finding(WARNING, "GPU", found, "12.0 is the oldest CUDA version that will do; install a newer driver")
        else:
            yield Finding(OK, "GPU", found)


def check_ptxas() -> Iterator[Finding]:
    own, driver, found = os.environ.get("MOE_PTXAS"), open_driver(), []
    for place in _native.ptxas_places():
        try:
            done = subprocess.run([str(place), "--version"], capture_output=True, text=True, timeout=60)
        except OSError as error:
            if own:
                yield Finding(WARNING, "ptxas", f"MOE_PTXAS is {place}: {error.strerror}", "correct or unset MOE_PTXAS")
            continue
        release = re.search(r"release (\d+)\.(\d+)", done.stdout)
        if release:
            found.append(((int(release[1]), int(release[2])), place))
        else:
            yield Finding(WARNING, "ptxas", f"{place} --version names no CUDA release",
                          "correct or unset MOE_PTXAS" if own else f"reinstall the CUDA toolkit that {place} is of")
    limit = driver_version(driver)[0] if driver else None
    usable = [f for f in found if limit is None or f[0][0] <= limit]
    if usable:
        version, place = max(usable)
        yield Finding(OK, "ptxas", f"CUDA {version[0]}.{version[1]}, {place}")
    elif found:
        yield Finding(WARNING, "ptxas", f"of CUDA {max(found)[0][0]}, newer than the driver's CUDA {limit}",
                      f"install a newer driver, or set MOE_PTXAS to the ptxas of CUDA {limit}")
    elif not own:
        yield Finding(NOTE, "ptxas", "none; only code for GPUs needs it (pip install nvidia-cuda-nvcc)")


FRAMEWORKS: dict[str, tuple[tuple[int, ...], str]] = {
    "numpy": ((1, 23), "for numpy.from_dlpack"),
    "ml_dtypes": ((), ""),
    "torch": ((2, 4), "for torch.library.custom_op"),
    "jax": ((0, 4, 34), "for vmap_method of jax.pure_callback"),
    "transformers": ((), ""),
    "triton": ((), ""),
}
"""Packages, the oldest version that will do, and why."""


def check_frameworks() -> Iterator[Finding]:
    """From what is installed: nothing is imported."""
    absent = []
    for name, (oldest, why) in FRAMEWORKS.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
            continue
        if tuple(map(int, re.findall(r"\d+", version)[:3])) < oldest:
            needed = ".".join(map(str, oldest))
            yield Finding(WARNING, name, f"{version}; {needed} is needed, {why}", f"pip install '{name}>={needed}'")
        else:
            yield Finding(OK, name, version)
    for name, loss in (("torch", "NumPy arrays are taken, tensors are not"),
                       ("ml_dtypes", "NumPy then has no bfloat16 (pip install ml_dtypes); torch has its own")):
        if name in absent:
            yield Finding(NOTE, name, f"not installed: {loss}")


VARIABLES = {"MOE_LIBCUDA", "MOE_MLIR_CACHE", "MOE_MLIR_COMPILER", "MOE_MLIR_COMPILE_TIMEOUT", "MOE_MLIR_HOME", "MOE_MLIR_LIBRARY",
             "MOE_MLIR_LOCK_TIMEOUT", "MOE_MLIR_REPRODUCER_DIR", "MOE_MLIR_TEST_CRASH",
             "MOE_NUM_THREADS", "MOE_PTXAS", "MOE_PTXAS_FALLBACK"}


def check_environment() -> Iterator[Finding]:
    for name, value in sorted(os.environ.items()):
        if name in VARIABLES:
            yield Finding(NOTE, "environment", f"{name}={value}")
        elif name.startswith("MOE_MLIR_"):
            yield Finding(WARNING, "environment", f"{name}={value} means nothing to moe-mlir",
                          f"unset it; variables are {', '.join(sorted(VARIABLES))}")
    if os.environ.get("MOE_MLIR_TEST_CRASH"):
        yield Finding(PROBLEM, "environment", "MOE_MLIR_TEST_CRASH makes the compiler crash", "unset it")


# ---- the report -------------------------------------------------------------------


CHECKS: tuple[Check, ...] = (check_python, check_environment, check_library, check_programs, check_trial, check_cache,
                             check_cpu, check_gpu, check_ptxas, check_frameworks)


def examine() -> list[Finding]:
    """All findings, in order. A check that fails itself is a finding."""
    findings = []
    for check in CHECKS:
        try:
            findings += check()
        except Exception as error:
            subject = check.__name__.removeprefix("check_")
            findings.append(Finding(WARNING, subject, f"could not be looked at: {type(error).__name__}: {error}",
                                    "report it, with this line"))
    return findings


def report(findings: Sequence[Finding], colour: bool) -> str:
    """The findings as text, remedies below them, with a verdict at the end."""
    codes = {OK: "32", NOTE: "2", WARNING: "33", PROBLEM: "31"}

    def paint(text: str, level: str) -> str:
        return f"\033[{codes[level]}m{text}\033[0m" if colour else text

    lines = []
    for f in findings:
        lines.append(f"{paint(f'{f.level:8}', f.level)} {f.subject + ':':13} {f.text}")
        if f.remedy:
            lines.append(f"{'':22} -> {f.remedy}")
    problems, warnings = (sum(f.level == level for f in findings) for level in (PROBLEM, WARNING))

    def count(n: int, what: str) -> str:
        return f"{n} {what}{'' if n == 1 else 's'}"

    verdict = "moe-mlir does not work here" if problems else "moe-mlir works here"
    lines.append(f"{verdict}: {count(problems, 'problem')}, {count(warnings, 'warning')}")
    return "\n".join(lines)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Prints the report; 1 where there is a problem, else 0."""
    parser = argparse.ArgumentParser(prog="python -m moe_mlir.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(arguments)
    findings = examine()
    if options.json:
        print(json.dumps([dataclasses.asdict(f) for f in findings], indent=2))
    else:
        print(report(findings, sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    return int(any(f.level == PROBLEM for f in findings))


if __name__ == "__main__":
    sys.exit(main())
