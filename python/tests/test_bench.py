# SPDX-License-Identifier: Apache-2.0
"""What moe_mlir.bench computes from its measurements."""

import contextlib
import json

import pytest
import torch
from moe_mlir import bench
from moe_mlir.bench import layers, measure, report


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


KERNELS = {
    "forward": {"forward_sort_slots_0": 3.0, "moe_work_table_3": 2.0, "forward_grouped_matmul_0": 40.0,
                "forward_grouped_matmul_1": 20.0, "forward_combine_rows_1": 10.0},
    "backward": {"moe_work_table_3": 2.0, "backward_grouped_matmul_0": 30.0, "backward_grouped_matmul_1": 40.0,
                 "backward_combine_rows_2": 10.0, "backward_grouped_outer_0": 50.0, "backward_grouped_outer_1": 25.0},
}


def test_kernels_have_their_roles_and_limits():
    shape = (1000, 64, 32, 8, 2)
    found = report.kernel_rates("forward", KERNELS["forward"], shape, flops=1e12, copy=1e9)
    assert list(found) == ["up", "down", "combine", "other"]
    assert found["up"]["us"] == 40.0 and found["down"]["us"] == 20.0 and found["other"] == {"us": 5.0}
    assert found["up"]["TFLOP/s"] == pytest.approx(4 * 2000 * 32 * 64 / 40e-6 / 1e12)
    # The combine moves rows: its roofline is the copy's.
    bytes_ = 2000 * 64 * 2 + 1000 * 64 * 2
    assert found["combine"]["GB/s"] == pytest.approx(bytes_ / 10e-6 / 1e9)
    assert found["combine"]["of strict roofline"] == pytest.approx(bytes_ / 1e9 / 10e-6)
    assert found["up"]["of loose roofline"] > found["up"]["of strict roofline"]
    roles = report.role_times("backward", KERNELS["backward"])
    assert roles == {"d-up": 30.0, "d-X": 40.0, "d-W2": 50.0, "d-W1": 25.0, "combine": 10.0, "other": 2.0}


def part(name, rate):
    ways = {"ours": rate, "ours graph": rate + 1, "torch": rate / 2, "ours f32 in place": 7.0, "ours then add": 8.0,
            "torch then add": 9.0}
    return {"TFLOP/s": ways, "over torch": 2.0, "graph over torch's": None, "of strict roofline": 0.8,
            "of loose roofline": 0.9, "kernels": report.kernel_rates(name, KERNELS[name], (8, 4, 2, 3, 1), 1e12, 1e12)}


def test_tables_and_plot(tmp_path):
    result = {"T": 8, "d": 4, "n": 2, "E": 3, "K": 1, "forward": part("forward", 400.0), "backward": part("backward", 300.0),
              "spread": {"ours forward": 0.05, "ours backward": 0.02},
              "peers": {"torch": "", "scattermoe": "not measured, it does not import: no module"},
              "saved bytes": {"ours": 1 << 30, "torch": 3 << 30}, "peak bytes": {"ours": 2 << 30, "torch": 4 << 30}}
    header, forward, backward, why = bench.table([result]).split("\n")
    assert "8, 4, 2, 3, 1" in forward and "1.00 / 3.00" in forward and "2.00 / 4.00" in forward and "80%" in forward
    assert header.count("graph") >= 3 and " - " in forward
    assert "backward" in backward and " 300 " in backward
    assert why == "scattermoe: not measured, it does not import: no module"
    assert "300  7  8  150  9" in " ".join(bench.backward_table([result]).split("\n")[1].split()).replace(" ", "  ")
    result["kernels alone ms"] = {"torch": {"forward": 2.5}, "ours": {"forward": 1.25, "backward": 2}}
    assert bench.alone_table([result]).split("\n")[1].split()[-4:] == ["1.250", "2.000", "2.500", "-"]
    assert "d-W2" in bench.kernel_table([result])
    bench.plot([result], tmp_path / "bench.png", "a GPU")
    assert (tmp_path / "bench.png").stat().st_size > 1000


def test_clocks_are_summed_up_or_their_absence_is():
    lines = "1980, 650.25, 60\n1500, 700.00, 61\n[N/A]\n1755, 690.00, 62\n"
    assert measure.summary(lines) == {"samples": 3, "clocks.sm": [1500.0, 1755.0, 1980.0],
                                      "power.draw": [650.25, 690.0, 700.0], "temperature.gpu": [60.0, 61.0, 62.0]}
    assert measure.summary("no device")["not sampled"] == "no device"


def test_a_peer_that_is_missing_is_named(monkeypatch):
    def absent(tensors, experts):
        import no_such_library  # noqa: F401

    monkeypatch.setitem(layers.PEERS, "scattermoe", absent)
    peers, missing, errors = bench.find_peers(["scattermoe"], {}, 4, None)
    assert not peers and not errors
    assert missing == {"scattermoe": "not measured, it does not import: No module named 'no_such_library'"}


def test_interleaved_weights_are_told_apart():
    w1 = torch.arange(2 * 6 * 5).view(2, 6, 5)
    mixed = layers.interleaved(w1)
    assert torch.equal(mixed[:, 0::2], w1[:, :3]) and torch.equal(mixed[:, 1::2], w1[:, 3:])
    assert torch.equal(layers.separated(mixed), w1)


class OnceOnly(torch.autograd.Function):
    """A peer's backward that writes over what forward kept."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.clone())
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        (kept,) = ctx.saved_tensors
        kept.zero_()
        return gradient


def looped(tensors, experts, once=False, wrong=1.0):
    def layer(x, gates, w1, w2):
        x, out = OnceOnly.apply(x) if once else x, 0
        for k in range(gates.shape[1]):
            ids = tensors["ids"][:, k]
            gate, up = torch.einsum("ti,toi->to", x, w1[ids]).chunk(2, 1)
            out = out + gates[:, k, None] * torch.einsum("ti,toi->to", torch.nn.functional.silu(gate) * up, w2[ids])
        return out * wrong

    return layer


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_whole_run_without_a_gpu(monkeypatch, tmp_path, capsys):
    """Everything but what only a GPU has: its time, graphs, profiles."""
    for module, name, value in [(layers, "TARGET", "cpu"), (layers, "DEVICE", "cpu"),
                                (bench, "clocks", contextlib.nullcontext), (bench, "peak_bytes", lambda step: len(step()))]:
        monkeypatch.setattr(module, name, value)

    monkeypatch.setattr(bench, "captured", lambda call: call)
    parts = iter(("forward", "backward", "forward", "backward", "forward"))  # ours, torch, scattermoe's forward
    monkeypatch.setattr(bench, "kernel_times", lambda call: (call(), KERNELS[next(parts)])[1])

    def burst(self, name, call):
        call()
        self.times.setdefault(name, []).append(3.0 if "step" in name else 1.0)

    monkeypatch.setattr(measure.Timer, "burst", burst)
    for name, value in {"synchronize": lambda: None, "empty_cache": lambda: None, "memory_allocated": lambda: 0,
                        "Stream": lambda: "refused", "is_available": lambda: True, "get_device_name": lambda: "a GPU"}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "empty", lambda *size, of=torch.empty, **kw: of(min(size[0], 1 << 10), **kw) if size == (1 << 29,) else of(*size, **kw))
    monkeypatch.setattr(torch, "randn", lambda *size, of=torch.randn, **kw: of(*(min(s, 64) if s == 8192 else s for s in size), **kw))
    monkeypatch.setitem(layers.PEERS, "torch", looped)
    monkeypatch.setitem(layers.PEERS, "scattermoe", lambda tensors, experts: looped(tensors, experts, once=True))
    monkeypatch.setitem(layers.PEERS, "sonicmoe", lambda tensors, experts: looped(tensors, experts, wrong=1.5))
    assert bench.main(["33,32,16,4,2", "--rounds", "2", "--out", str(tmp_path)]) == 0
    (result,) = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert result["peers"]["torch"] == "" == result["peers"]["scattermoe"]
    assert "its results are not ours: out by" in result["peers"]["sonicmoe"]
    assert result["no graph"] == {"torch backward": "a backward of torch.autograd is not captured",
                                  "scattermoe forward": "only torch's forward is captured",
                                  "scattermoe backward": "a backward of torch.autograd is not captured"}
    assert {"ours", "ours graph", "ours f32 in place", "ours then add", "torch", "torch then add", "scattermoe"} == set(
        result["backward"]["TFLOP/s"])
    assert result["backward"]["TFLOP/s"]["scattermoe"] == result["backward"]["TFLOP/s"]["ours"] / 2  # a step less forward
    assert max(result["errors"]["torch"].values()) < 0.02
    assert {name: set(parts) for name, parts in result["kernels alone ms"].items()} == {
        "ours": {"forward", "backward"}, "torch": {"forward", "backward"}, "scattermoe": {"forward"}}
    # Results that are wrong are an error, not a time.
    monkeypatch.setitem(layers.PEERS, "torch", lambda tensors, experts: looped(tensors, experts, wrong=1.5))
    assert bench.main(["33,32,16,4,2", "--peers", "torch", "--out", str(tmp_path)]) == 1
    assert "wrong results, relative to torch's: out by 0.333" in capsys.readouterr().err

    class Lazy(layers.Ours):
        def __init__(self, *given):
            super().__init__(*given)
            self.backward_f32 = lambda: None

    monkeypatch.setattr(layers, "Ours", Lazy)
    assert bench.main(["33,32,16,4,2", "--peers", "torch", "--out", str(tmp_path)]) == 1
    assert "wrong gradients in f32, relative to those in bf16: d_w1, d_w2 are off by" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert bench.main([]) == 1
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bench.main(["--peers", "torch,unknown"])
    assert "--peers has unknown; there are torch, scattermoe, sonicmoe" in capsys.readouterr().err
