# SPDX-License-Identifier: Apache-2.0
"""One entry point of a compiled module with the gradients of some of its arguments."""

from __future__ import annotations

from typing import Optional, Sequence

from .module import Entry, Module


class Program:
    """Forward and backward by the manifest's description.

    ``residuals`` are places among forward's inputs and outputs, ``cotangents`` places among its
    results: what backward takes, in order. It gives the gradients in the order of ``wrt``.
    """

    def __init__(self, module: Module, name: str, wrt: Sequence[int]):
        prefix = "" if name == "forward" else f"{name}_"
        self.wrt = tuple(wrt)
        self.forward_entry: Entry = module[f"{prefix}forward" if wrt else name]
        self.arguments = len(self.forward_entry.inputs)
        self.results = sum(o["kind"] == "result" for o in self.forward_entry.outputs)
        self.backward_entry: Optional[Entry] = module[f"{prefix}backward"] if wrt else None
        if self.backward_entry is None:
            return
        described = self.backward_entry.manifest["backward"]
        names = [a["name"] for a in self.forward_entry.inputs + self.forward_entry.outputs]
        self.residuals = [names.index(r["name"]) for r in described["residuals"]]
        results = names[self.arguments :]
        self.cotangents = [results.index(name) for name in described["cotangents"]]
