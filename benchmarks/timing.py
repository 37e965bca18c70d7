# SPDX-License-Identifier: Apache-2.0
"""Times several ways of one computation beside each other, in one process.

Rounds call each way once, in an order that is drawn anew: what else the machine does then, and
what one way leaves in caches and thread pools, falls on all of them alike.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Callable, Mapping


# What is read before and after a call. `process_time` counts what this process alone used: with
# one thread it says the same as the clock of a machine that has nothing else to do.
clock: Callable[[], float] = time.perf_counter


def interleaved(ways: Mapping[str, Callable[[], object]], seconds: float = 6.0,
                least_rounds: int = 5, seed: int = 0) -> dict[str, list[float]]:
    """Seconds of each call by name, after one round that does not count.

    Rounds go on for `seconds`, and for `least_rounds` in any case.
    """
    order = list(ways)
    shuffle = random.Random(seed).shuffle
    times: dict[str, list[float]] = {name: [] for name in order}
    start = time.perf_counter()
    rounds = -1
    while rounds < least_rounds or time.perf_counter() - start < seconds:
        shuffle(order)
        for name in order:
            before = clock()
            ways[name]()
            took = clock() - before
            if rounds >= 0:
                times[name].append(took)
        rounds += 1
    return times


def summary(times: list[float]) -> dict[str, float]:
    """Milliseconds: median, least, and the quartiles' distance over the median (the noise)."""
    low, middle, high = statistics.quantiles(times, n=4)
    return {"median_ms": 1e3 * middle, "least_ms": 1e3 * min(times),
            "noise": (high - low) / middle, "calls": len(times)}
