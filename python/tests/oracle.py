# SPDX-License-Identifier: Apache-2.0
"""Runs functions of MLIR text through `moe-run --interpret`, for tests."""

import functools
import itertools
import os
import pathlib
import re
import subprocess
import tempfile

import numpy as np
import torch
from moe_mlir._native import find_program

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MOE_BUILD_DIR", ROOT / "build"))
NAN = float("nan")

ELEMENT = {
    torch.float64: "f64",
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int8: "i8",
    torch.bool: "i1",
}


def to_numpy(tensor):
    """bfloat16 as the two-byte void that NumPy files hold."""
    tensor = tensor.detach().contiguous().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view("V2")
    return tensor.numpy()


def from_numpy(array):
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array)


def program(tool):
    """The program just built; where nothing was built, the one of the installed wheel."""
    built = BUILD / "bin" / tool
    return built if built.exists() else find_program(tool)


def run_tool(tool, *arguments, stdin=None):
    done = subprocess.run(
        [program(tool), *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def count_results(text, entry):
    """The number of results of a function whose header is on one line."""
    header = re.search(rf"func\.func @{entry}\(.*->\s*(.*?)\s*(attributes.*)?\{{\s*$", text, re.M)
    return header.group(1).count("tensor<")


def run(text, *arguments, entry="f", flags=("--interpret",)):
    """The results of `entry`, as torch tensors in a list."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "layer.mlir").write_text(text)
        command = [folder / "layer.mlir", f"--entry={entry}", *flags]
        for number, argument in enumerate(arguments):
            np.save(folder / f"arg{number}.npy", to_numpy(argument))
            command += ["--arg", folder / f"arg{number}.npy"]
        outs = [folder / f"out{n}.npy" for n in range(count_results(text, entry))]
        for out in outs:
            command += ["--out", out]
        run_tool("moe-run", *command)
        return [from_numpy(np.load(out)) for out in outs]


def interpret(text, *arguments, entry="f", round=False):
    flags = ["--interpret", "--round"] if round else ["--interpret"]
    return run(text, *arguments, entry=entry, flags=flags)


def run_compiled(text, *arguments, entry="f", round=True, cpu="host"):
    """As `interpret`, but compiled for a CPU: always rounded."""
    return run(text, *arguments, entry=entry, flags=[f"--opt=cpu={cpu}"])


def type_of(tensor, dynamic=()):
    """tensor<?x16xf64>: the dimensions in `dynamic` are left open."""
    sizes = ["?" if d in dynamic else str(size) for d, size in enumerate(tensor.shape)]
    return f"tensor<{'x'.join(sizes + [ELEMENT[tensor.dtype]])}>"


def equal(actual, expected, tolerance=1e-12):
    """Same shape and dtype, NaN where NaN, and close for the scale of expected."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    if not actual.dtype.is_floating_point:
        assert torch.equal(actual, expected)
        return
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


class Slots:
    """An assignment restated in PyTorch: ids (T, K), and the tables of it."""

    def __init__(self, ids, experts):
        self.ids, self.experts = ids, experts
        self.tokens, self.k = ids.shape
        flat = ids.reshape(-1).long()
        self.valid = (flat >= 0) & (flat < experts)
        self.expert = torch.where(self.valid, flat, torch.full_like(flat, experts))
        self.order = torch.argsort(self.expert, stable=True)
        self.rows = int(self.valid.sum())
        self.token = torch.arange(flat.numel()) // self.k
        counts = torch.bincount(self.expert, minlength=experts + 1)[:experts]
        self.end = torch.cumsum(counts, 0)
        self.begin = self.end - counts
        self.position = torch.full_like(flat, -1)
        self.position[self.order[: self.rows]] = torch.arange(self.rows)

    @property
    def type(self):
        return f"!moe.assignment<?x{self.k}, {self.experts}>"

    @property
    def slots(self):
        return self.tokens * self.k

    def count(self, order):
        return self.tokens if order == "token" else self.slots

    def by_slot(self, rows, order):
        """Rows in any order as slot rows, zeros where a slot has no expert."""
        if order == "token":
            rows = rows[self.token]
        elif order == "grouped":
            rows = rows[self.position.clamp(min=0)] if self.slots else rows
        mask = self.valid.reshape(-1, *[1] * (rows.dim() - 1))
        return torch.where(mask, rows, torch.zeros((), dtype=rows.dtype))

    def in_order(self, slot_rows, order):
        """Slot rows in slot or grouped order; NaN where that is unspecified."""
        if order == "slot":
            return self.by_slot(slot_rows, "slot")
        grouped = torch.full_like(slot_rows, NAN)
        grouped[: self.rows] = slot_rows[self.order[: self.rows]]
        return grouped

    def poison(self, rows, order):
        """A copy with NaN in the rows that nothing may read."""
        rows = rows.clone()
        if order == "grouped":
            rows[self.rows :] = NAN
        elif order == "slot":
            rows[~self.valid] = NAN
        return rows


def make_ids(kind, tokens, k, experts, dtype=torch.int32):
    generator = torch.Generator().manual_seed(tokens * 31 + k * 7 + experts)
    ids = torch.randint(0, experts, (tokens, k), generator=generator)
    if kind == "distinct":
        ids = torch.stack(
            [torch.randperm(experts, generator=generator)[:k] for _ in range(tokens)]
            or [torch.zeros(0, dtype=torch.int64)]
        ).reshape(tokens, k)
    elif kind == "hot":
        ids.fill_(experts - 1)
    elif kind == "empty":
        ids = ids // 2 * 2 % max(experts - 1, 1)
    elif kind == "sentinels":
        bad = torch.tensor([-1, experts, experts + 5, -(2**31), 2**31 - 1])
        where = torch.rand(tokens, k, generator=generator) < 0.4
        ids = torch.where(where, bad[torch.randint(0, 5, (tokens, k), generator=generator)], ids)
    elif kind == "all_sentinels":
        ids.fill_(experts)
    return ids.to(dtype)


# (kind of ids, T, K, E): the awkward shapes.
SHAPES = [
    ("distinct", 7, 2, 4),
    ("random", 6, 3, 5),  # duplicates within a token
    ("hot", 5, 2, 3),
    ("empty", 9, 2, 8),
    ("sentinels", 8, 2, 4),
    ("all_sentinels", 3, 2, 4),
    ("distinct", 6, 1, 3),  # K = 1
    ("distinct", 5, 4, 4),  # K = E
    ("random", 4, 2, 1),  # one expert
    ("random", 0, 2, 3),
    ("sentinels", 1, 3, 4),
]


def shapes(name="slots", of=SHAPES):
    """Parametrize a test by Slots over SHAPES."""
    import pytest

    return pytest.mark.parametrize(
        name,
        [Slots(make_ids(*shape), shape[3]) for shape in of],
        ids=["-".join(map(str, shape)) for shape in of],
    )


def on_fewer_shapes(module, more=()):
    """The tests of a module by name, those over `shapes()` on four of them (ragged, empty experts,
    sentinels, no tokens) and on `more`."""
    import pytest

    few = [shape for shape in SHAPES if shape[:2] in (("distinct", 7), ("empty", 9), ("sentinels", 8), ("random", 0))]
    assert len(few) == 4
    few += more
    tests = {}
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue

        def again(*arguments, test=test, **options):
            return test(*arguments, **options)

        again = functools.wraps(test)(again)
        again.pytestmark = [
            shapes(of=few).mark if mark.args[:1] == ("slots",) else mark for mark in getattr(test, "pytestmark", [])
        ]
        tests[name] = again
    return tests


def products(*names_and_values):
    """All combinations, for parametrize."""
    return list(itertools.product(*names_and_values))
