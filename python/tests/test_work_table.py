# SPDX-License-Identifier: Apache-2.0
"""The kernel that makes an assignment's work table and its lists of parts, run from its text."""

import subprocess

import numpy as np
import pytest
from kernel_text import Kernel
from moe_mlir import _native

LEAST = 256


def ceil(a, b):
    return -(-a // b)


def kernel(experts, parts):
    """The kernel of products that split experts into so many parts."""
    table = f"memref<{experts}xi32>"
    products = "".join(f"""
      moe.grouped_outer by %a : !moe.assignment<?x1, {experts}>
          x(%x from grouped : memref<?x8xbf16>) dy(%y from grouped : memref<?x8xbf16>)
          out_in outs(%w : memref<{experts}x8x8xbf16>) {{moe.config = #moe.config<cooperative parts {number}>}}""" for number in parts)
    text = f"""
      func.func @f(%o: memref<?xi32>, %b: {table}, %e: {table}, %x: memref<?x8xbf16>, %y: memref<?x8xbf16>,
                   %w: memref<{experts}x8x8xbf16>) {{
        %a = moe.pack_assignment %o, %o, %b, %e : memref<?xi32>, memref<?xi32>, {table}, {table} -> !moe.assignment<?x1, {experts}>
        {products}
        return
      }}"""
    out = subprocess.run([_native.find_program("moe-opt"), "-", "--moe-select-config", "--convert-moe-to-nvtile"], input=text,
                         capture_output=True, text=True, check=True).stdout
    lists = [number for number in parts if number > 1]
    return Kernel(out, f"moe_work_table_{experts}" + ("_parts_" + "_".join(map(str, sorted(lists))) if lists else ""))


def expected(begin, end, rows, most):
    """A list of parts: entries, and (first part, parts, expert) of each that is split."""
    long = ceil(max(ceil(rows, most), LEAST), 64) * 64
    entries, splits = [], []
    for expert in sorted(range(len(begin)), key=lambda e: (begin[e] - end[e], e)):
        first, last = begin[expert], end[expert]
        count = (last - first) // long
        if count < 2:
            entries.append((first, last, expert, 0))
            continue
        each = ceil(ceil(last - first, count), 64) * 64
        starts = range(first, last, each)
        splits.append((len(entries), len(starts), expert, 0))
        entries += [(row, min(row + each, last), len(begin) + len(entries) + i, 0) for i, row in enumerate(starts)]
    return entries, splits


def sizes_of(kind, experts, generator):
    if kind == "even":
        return [2000] * experts
    if kind == "empty":
        return [0] * experts
    if kind == "one":
        return [40000] + [0] * (experts - 1)
    if kind == "two":
        return ([5000, 5000] + [100] * experts)[:experts]
    return list(generator.zipf(1.3, experts).clip(max=60) * generator.integers(1, 400))


@pytest.mark.parametrize("kind", ["even", "empty", "one", "two", "zipf", "zipf2", "zipf3"])
@pytest.mark.parametrize("experts, parts", [(1, (8,)), (5, (2, 5)), (40, (17, 40)), (70, (300,))])
def test_lists_of_parts(experts, parts, kind):
    generator = np.random.default_rng(len(kind) + experts)
    sizes = sizes_of(kind, experts, generator)
    gaps = generator.integers(0, 3, experts)
    end = np.cumsum(np.add(sizes, gaps))
    begin = end - sizes
    rows = int(end[-1])
    table = np.full(rows + 4 + 8 * experts, -1)
    lists = [np.full(4 + 4 * (experts + 2 * most), -1) for most in parts]
    kernel(experts, parts).run(experts, begin, end, np.zeros(rows, int), table, *lists)
    for most, got in zip(parts, lists, strict=True):
        entries, splits = expected(begin, end, rows, most)
        assert sum(count for _, count, _, _ in splits) <= most
        assert got[:4].tolist() == [len(entries), len(splits), 0, 0]
        got = got[4:].reshape(-1, 4)
        assert got[: len(entries)].tolist() == [list(map(int, e)) for e in entries]
        at = experts + most
        assert got[at : at + len(splits)].tolist() == [list(s) for s in splits]
    # The work table itself: experts by size, then their blocks.
    order = sorted(range(experts), key=lambda e: (-sizes[e], e))
    blocks = [[int(row), int(end[e]), e, 0] for e in order for row in range(begin[e], end[e], 128)]
    assert table[:4].tolist() == [len(blocks), experts, rows, 0]
    words = table[4:].tolist()
    entries = [words[i : i + 4] for i in range(0, 4 * (experts + len(blocks)), 4)]
    assert entries == [[int(begin[e]), int(end[e]), e, 0] for e in order] + blocks


@pytest.mark.parametrize("wide", [0, 1])
def test_wrong_ranges_write_nothing_else(wide):
    """Experts that overlap have more parts than there is room for: the interpreter checks each index."""
    experts, rows = 6, 4096
    begin, end = np.zeros(experts, int), np.full(experts, rows + 5000 * wide)
    most = 4
    got = np.full(4 + 4 * (experts + 2 * most), -1)
    table = np.full(8 * experts * rows, -1)
    kernel(experts, (most,)).run(experts, begin, end, np.zeros(rows, int), table, got)
    assert got[0] == experts + most and got[1] <= most
