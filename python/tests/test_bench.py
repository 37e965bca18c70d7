# SPDX-License-Identifier: Apache-2.0
"""What moe_mlir.bench computes from its measurements."""

import pytest
import torch
from moe_mlir import bench


def test_work_is_that_of_the_layer():
    for T, d, n, E, K in bench.CONFIGURATIONS:
        kernels = bench.roofline(T, d, n, E, K, T)
        assert sum(f for f, _ in kernels["forward"].values()) == 6 * T * n * K * d
        assert sum(f for f, _ in kernels["backward"].values()) == 12 * T * n * K * d


def test_roofline_takes_each_kernel_by_its_own_limit():
    kernels = {"compute": (100.0, 1.0), "memory": (1.0, 100.0)}
    assert bench.seconds(kernels, flops=10.0, copy=20.0) == 10.0 + 5.0
    T, d, n, E, K = bench.CONFIGURATIONS[0]
    # A gathered row counted once a slot costs more than once a token.
    few, many = (bench.seconds(bench.roofline(T, d, n, E, K, rows)["backward"], 766e12, 4.27e12) for rows in (T, T * K))
    assert few < many
    # TFLOP/s of an H200 that reaches the roofline, strict and loose.
    assert 12 * T * n * K * d / few / 1e12 == pytest.approx(646, abs=1)
    assert 12 * T * n * K * d / many / 1e12 == pytest.approx(594, abs=1)


def part(rate):
    return {"ours TFLOP/s": rate, "ours graph TFLOP/s": rate + 1, "torch TFLOP/s": rate / 2, "over torch": 2.0,
            "of strict roofline": 0.8, "of loose roofline": 0.9, "kernels us": {}}


def test_table_and_plot(tmp_path):
    result = {"T": 8, "d": 4, "n": 2, "E": 3, "K": 1, "forward": part(400.0), "backward": part(300.0),
              "spread": {"ours forward": 0.05, "ours backward": 0.02},
              "saved bytes": {"ours": 1 << 30, "torch": 3 << 30}, "compile seconds": {"cold": 2.5, "warm": 0.1}}
    forward, backward = bench.table([result]).split("\n")[2:]
    assert "8, 4, 2, 3, 1" in forward and "1.00 / 3.00" in forward and " 2.00" in forward and "80%" in forward
    assert "backward" in backward and " 300 " in backward
    bench.plot([result], tmp_path / "bench.png", "a GPU")
    assert (tmp_path / "bench.png").stat().st_size > 1000


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert bench.main([]) == 1
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
