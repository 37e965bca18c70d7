# SPDX-License-Identifier: Apache-2.0
"""The example of `make demo`, made small: it passes, and it fails when it should."""

import dataclasses
import importlib
import pathlib
import sys

import pytest
import torch

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
SMALL = ["--device=cpu", "--layers=1", "--d-model=32", "--heads=2", "--d-expert=24", "--experts=4", "--context=32",
         "--batch=16", "--held-out-windows=16"]


@pytest.fixture(scope="module")
def demo():
    sys.path.insert(0, str(EXAMPLES))  # for the processes it starts, too
    yield importlib.import_module("language_model")
    sys.path.remove(str(EXAMPLES))


@pytest.fixture
def in_process(demo, monkeypatch):
    """Training without processes, which take seconds to start."""

    def train_both(c, console):
        text, runs = demo.standard_library(torch.device("cpu"), limit=500_000), []
        for compiled in (False, True):
            model = demo.new_model(c)
            if compiled:
                model = demo.with_compiled_experts(model, c.compiled())
            runs.append(demo.train(model, text, c, lambda step, loss: None))
        return runs

    monkeypatch.setattr(demo, "train_both", train_both)


@pytest.fixture(scope="module")
def models(demo):
    """An untrained model, its swapped twin, and text."""
    c = demo.Config(device="cpu", layers=2, d_model=32, heads=2, d_expert=24, experts=4, context=32)
    torch.manual_seed(1)
    model = demo.LanguageModel(c)
    return model, demo.with_compiled_experts(model, c.compiled()), torch.randint(256, (20, 33))


def test_the_losses_are_the_same(demo, models):
    model, swapped, text = models
    found = demo.Check(model, text).compare(swapped)
    assert found.same
    assert found.torch_loss == pytest.approx(found.compiled_loss, rel=1e-6)
    assert 0 < found.torch_error < 1e-5


def test_the_swapped_model_shares_its_parameters(demo, models):
    model, swapped, _ = models
    mine = {name: p.data_ptr() for name, p in model.named_parameters()}
    assert mine == {name: p.data_ptr() for name, p in swapped.named_parameters()}


def test_every_zeroed_expert_is_noticed(demo, models):
    model, swapped, text = models
    found = demo.zero_each_expert(demo.Check(model, text), swapped)
    assert len(found) == 8
    assert not any(f.same for f in found.values())
    assert demo.Check(model, text).compare(swapped).same, "the experts are whole again"


def test_nan_is_not_the_same(demo, models):
    model, swapped, text = models
    check = demo.Check(model, text)
    right = swapped.blocks[0].experts
    swapped.blocks[0].experts = demo.broken(right, 0)
    torch.nn.init.constant_(swapped.blocks[0].experts.w2, float("nan"))
    try:
        assert not check.compare(swapped).same
    finally:
        swapped.blocks[0].experts = right


def test_the_gradients_are_the_same(demo, models):
    model, swapped, text = models
    by_torch, compiled, bound = demo.compare_gradients(model, swapped, text)
    assert 0 < by_torch < 1e-5 and 0 < compiled <= bound


def test_a_wrong_gradient_is_noticed(demo, models):
    model, swapped, text = models
    right = swapped.blocks[0].experts
    swapped.blocks[0].experts = demo.broken(right, 2)
    try:
        _, compiled, bound = demo.compare_gradients(model, swapped, text)
        assert compiled > 100 * bound
    finally:
        swapped.blocks[0].experts = right


def test_the_compiled_experts_keep_less(demo, models):
    model, swapped, _ = models
    c = demo.Config(device="cpu", layers=2, d_model=32, heads=2, d_expert=24, experts=4, context=32)
    slots = c.batch * c.context * c.top_k
    # H in float32, and four tables: nothing else.
    assert demo.kept_for_backward(swapped, c) == 4 * slots * 2 * c.d_expert + 4 * 2 * slots + 4 * 2 * c.experts
    assert demo.kept_for_backward(swapped, c) < 0.5 * demo.kept_for_backward(model, c)


def test_peak_memory(demo):
    """100 MB, in two tensors of which one is freed first: 60."""
    assert 58e6 < demo.peak_memory(lambda: [torch.ones(n).sum() for n in (10_000_000, 15_000_000)],
                                   torch.device("cpu")) < 66e6


def test_main_passes(demo, capsys, tmp_path):
    picture = tmp_path / "curves.png"
    assert demo.main([*SMALL, "--steps=60", f"--plot={picture}"]) == 0
    out = capsys.readouterr().out
    assert "train alike, and give the same losses" in out
    for stage in demo.STAGES:
        assert f"\n{stage}:" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_main_fails_for_an_untrained_model(demo, in_process, capsys, tmp_path):
    assert demo.main([*SMALL, "--steps=1", f"--plot={tmp_path}/curves.png"]) == 1
    assert "not below the unigram model's" in capsys.readouterr().out


def test_main_fails_for_a_broken_expert(demo, in_process, capsys, monkeypatch, tmp_path):
    right = demo.with_compiled_experts

    def wrong(*arguments):
        swapped = right(*arguments)
        swapped.blocks[0].experts = demo.broken(swapped.blocks[0].experts, 3)
        return swapped

    monkeypatch.setattr(demo, "with_compiled_experts", wrong)
    assert demo.main([*SMALL, "--steps=1", f"--plot={tmp_path}/curves.png"]) == 1
    out = capsys.readouterr().out
    assert "the losses differ" in out and "the gradients differ" in out


def test_main_fails_for_curves_that_part(demo, in_process, capsys, monkeypatch, tmp_path):
    train = demo.train

    def slower(model, text, c, report):
        compiled = isinstance(model.blocks[0].experts, demo.CompiledExperts)
        return train(model, text, dataclasses.replace(c, learning_rate=1e-5) if compiled else c, report)

    monkeypatch.setattr(demo, "train", slower)
    assert demo.main([*SMALL, "--steps=40", f"--plot={tmp_path}/curves.png"]) == 1
    assert "the two trainings end" in capsys.readouterr().out


def test_a_training_that_dies_is_reported(demo, monkeypatch):
    monkeypatch.setenv("MOE_MLIR_LIBRARY", "/none")
    with pytest.raises(SystemExit, match="training compiled ended with exit code 1"):
        demo.train_both(demo.parse([*SMALL, "--steps=1"])[0], demo.Console(quiet=True))


def test_held_out_files_are_not_trained_on(demo):
    text = demo.standard_library(torch.device("cpu"), limit=500_000)
    assert len(text.train) > len(text.held_out) > 10_000
    assert 3 < demo.unigram_loss(text) < 4
    piece = bytes(text.held_out[5000:5400].tolist())
    assert piece not in bytes(text.train.tolist())
