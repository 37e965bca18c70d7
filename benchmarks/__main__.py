# SPDX-License-Identifier: Apache-2.0
"""python -m benchmarks [parallel_linear ...] [--seconds=6] [--threads=2] [--cpu-time] [--out=FILE.json]"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import torch

from . import compilation, machine, parallel_linear, timing, training

BENCHMARKS = {"parallel_linear": parallel_linear.run, "training": training.run,
              "compilation": compilation.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compiled layers against torch.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--seconds", type=float, default=6, help="of measuring each line")
    parser.add_argument("--threads", type=int, default=2, help="of torch, which compiled code shares")
    parser.add_argument("--cpu-time", action="store_true",
                        help="time of this process on the CPU, for a machine with other work; wants --threads=1")
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file for the results")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if options.cpu_time:
        if options.threads != 1:
            parser.error("--cpu-time adds up the threads; it wants --threads=1")
        timing.clock = time.process_time
    torch.set_num_threads(options.threads)
    results: dict[str, object] = {"machine": machine.describe(), "clock": timing.clock.__name__}
    print(json.dumps(results["machine"]))
    for name in options.names or BENCHMARKS:
        results[name] = BENCHMARKS[name](options.seconds)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
