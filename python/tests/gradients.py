# SPDX-License-Identifier: Apache-2.0
"""Checks what moe-differentiate makes of a function against torch.autograd."""

import pathlib
import tempfile

import torch
from oracle import equal, interpret, random, run_tool


def passes(text, pipeline):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "layer.mlir"
        path.write_text(text)
        return run_tool("moe-opt", path, f"--pass-pipeline=builtin.module({pipeline})")


def differentiation(entry, wrt, without=()):
    options = f"entry={entry} wrt={','.join(map(str, wrt))}"
    if without:
        options += f" without-cotangent={','.join(map(str, without))}"
    return f"moe-differentiate{{{options}}}"


def differentiate(text, entry, wrt):
    return passes(text, differentiation(entry, wrt))


def is_float(value):
    return value.dtype.is_floating_point


def check(text, function, arguments, wrt, orders=2, tolerance=1e-9, pipeline=None):
    """First and second derivatives of @f against those of `function`.

    `function` takes and gives tensors, as @f does. Second derivatives are those
    of the first ones' random combination, with respect to the arguments and the
    cotangents.
    """
    arguments = list(arguments)
    for i in wrt:
        arguments[i] = arguments[i].detach().requires_grad_()
    results = function(*arguments)
    results = results if isinstance(results, (tuple, list)) else [results]
    floats = [r for r in results if is_float(r)]
    cotangents = [random(*r.shape, seed=100 + n).requires_grad_() for n, r in enumerate(floats)]
    sources = [arguments[i] for i in wrt]
    gradients = gradients_of(floats, sources, cotangents)
    stages = [differentiation("f", wrt), *([pipeline] if pipeline else [])]
    expected, seconds, entry = [*results, *gradients], [], "f_joint"
    if orders == 2:
        # Its results are the first derivative's too: one run checks both.
        n = len(arguments)
        again = [*wrt, *range(n, n + len(cotangents))]
        stages.append(differentiation("f_joint", again, range(len(results))))
        seconds = [random(*g.shape, seed=200 + m) for m, g in enumerate(gradients)]
        expected += gradients_of(gradients, [*sources, *cotangents], seconds)
        entry = "f_joint_joint"
    actual = interpret(passes(text, ",".join(stages)), *arguments, *cotangents, *seconds, entry=entry)
    for got, want in zip(actual, expected, strict=True):
        equal(got, want.detach(), tolerance)


def gradients_of(values, sources, cotangents):
    """torch.autograd.grad, zeros where there is no path."""
    pairs = [(v, c) for v, c in zip(values, cotangents) if v.requires_grad]
    found = [None] * len(sources)
    if pairs:
        found = torch.autograd.grad(
            [v for v, _ in pairs],
            sources,
            [c for _, c in pairs],
            create_graph=True,
            allow_unused=True,
        )
    return [torch.zeros_like(s) if g is None else g for g, s in zip(found, sources)]
