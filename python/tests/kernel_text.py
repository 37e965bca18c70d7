# SPDX-License-Identifier: Apache-2.0
"""Runs small gpu.func kernels from their text, one warp at a time in lockstep: what the tests of work tables
need without a GPU. Integers and i1, loads, stores, loops, branches and shuffles; anything else is an error."""

import re

import numpy as np

COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "slt": np.less, "sle": np.less_equal, "sgt": np.greater, "sge": np.greater_equal,
    "ult": np.less, "ule": np.less_equal, "ugt": np.greater, "uge": np.greater_equal,
}
BINARY = {
    "addi": np.add, "subi": np.subtract, "muli": np.multiply, "andi": np.bitwise_and, "ori": np.bitwise_or,
    "xori": np.bitwise_xor, "maxsi": np.maximum, "minsi": np.minimum, "maxui": np.maximum, "minui": np.minimum,
}


class Kernel:
    """One gpu.func. Numbers are never negative where an op is unsigned: that is checked."""

    def __init__(self, text, name):
        lines = text[re.search(rf"gpu\.func @{name}\(", text).start() :].splitlines()
        self.parameters = re.findall(r"(%\w+): memref", lines[0])
        self.body, _ = self.block(lines, 1)

    @staticmethod
    def block(lines, at):
        """Statements up to the closing brace: text, or (text, block) for what has one."""
        found = []
        while not lines[at].strip().startswith("}"):
            line = lines[at].strip()
            if line.endswith("{"):
                inside, at = Kernel.block(lines, at + 1)
                assert lines[at].strip() == "}", lines[at]
                found.append((line, inside))
            else:
                found.append((line, None))
            at += 1
        return found, at

    def run(self, blocks, *memrefs, threads=32):
        for block in range(blocks):
            values = dict(zip(self.parameters, memrefs, strict=True))
            self.statements(self.body, values, np.ones(threads, bool), block)

    def statements(self, body, values, active, block):
        """Values are arrays of a number for each lane."""
        lanes = np.arange(len(active))
        for line, inside in body:
            results, _, text = line.partition(" = ") if line.startswith("%") else ("", "", line)
            results = [r.strip() for r in results.split(",")]
            op, _, rest = text.partition(" ")
            names = re.findall(r"%[\w#-]+", rest)
            if op == "scf.for":
                self.loop(line, inside, values, active, block)
            elif op == "scf.if":
                self.statements(inside, values, active & values[names[0]].astype(bool), block)
            elif op in ("gpu.return",):
                pass
            elif op == "scf.yield":
                return [values[n] for n in names]
            elif op == "arith.constant":
                number = {"true": 1, "false": 0}.get(rest.split(" ")[0])
                values[results[0]] = np.full(len(active), int(rest.split(" ")[0]) if number is None else number)
            elif op == "gpu.block_id":
                values[results[0]] = np.full(len(active), block)
            elif op == "gpu.thread_id":
                values[results[0]] = lanes
            elif op == "memref.dim":
                values[results[0]] = np.full(len(active), len(values[names[0]]))
            elif op == "memref.load":
                index = np.where(active, values[names[1]], 0)
                memory = values[names[0]]
                assert ((index >= 0) & (index < len(memory)))[active].all(), line
                values[results[0]] = memory[index] if len(memory) else np.zeros(len(active), int)
            elif op == "memref.store":
                index, memory = values[names[2]], values[names[1]]
                assert ((index >= 0) & (index < len(memory)))[active].all(), line
                memory[index[active]] = values[names[0]][active]
            elif op == "gpu.shuffle":
                assert active.all(), "a shuffle needs all lanes"
                other = lanes ^ values[names[1 if len(names) == 3 else 0]]
                values[results[0]] = values[names[0]][other]
                values[results[1]] = np.ones(len(active), int)
            elif op in ("arith.index_cast", "arith.extui"):
                values[results[0]] = values[names[0]].astype(int)
            elif op == "arith.select":
                values[results[0]] = np.where(values[names[0]].astype(bool), values[names[1]], values[names[2]])
            elif op == "arith.cmpi":
                left, right = (values[n] for n in names)
                assert rest[0] != "u" or ((left >= 0) & (right >= 0))[active].all(), line
                values[results[0]] = COMPARE[rest.split(",")[0]](left, right).astype(int)
            elif op == "arith.divui":
                left, right = (values[n] for n in names)
                assert ((left >= 0) & (right > 0))[active].all(), line
                values[results[0]] = left // np.maximum(right, 1)
            else:
                left, right = (values[n] for n in names)
                assert "ui" not in op or ((left >= 0) & (right >= 0))[active].all(), line
                values[results[0]] = BINARY[op.removeprefix("arith.")](left, right)
        return []

    def loop(self, line, inside, values, active, block):
        head = re.match(r"(?:(%\w+)(?::\d+)? = )?scf\.for (%\w+) = (%[\w-]+) to (%[\w-]+) step (%[\w-]+)(?: iter_args\((.*?)\))?", line)
        result, induction, start, end, step, carried = head.groups()
        pairs = re.findall(r"(%\w+) = (%[\w#-]+)", carried or "")
        now = [values[init] for _, init in pairs]
        at = values[start]
        while (running := active & (at < values[end])).any():
            values[induction] = at
            values.update(zip((name for name, _ in pairs), now))
            yielded = self.statements(inside, values, running, block)
            now = [np.where(running, new, old) for new, old in zip(yielded, now)]
            at = at + values[step]
        if result:
            values[result] = now[0]
            values.update((f"{result}#{i}", value) for i, value in enumerate(now))
