# SPDX-License-Identifier: Apache-2.0
"""The example of `make demo`, made small: it passes, and it fails when it should."""

import importlib.util
import pathlib
import sys

import pytest
import torch

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "language_model.py"
SMALL = ["--layers=1", "--d-model=32", "--heads=2", "--d-expert=24", "--experts=4", "--context=32",
         "--batch=16", "--held-out-windows=16"]


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("language_model", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(demo):
    """An untrained model, its swapped twin, and text."""
    c = demo.Config(layers=2, d_model=32, heads=2, d_expert=24, experts=4, context=32)
    torch.manual_seed(1)
    model = demo.LanguageModel(c)
    return model, demo.with_compiled_experts(model, c.layer.compile()), torch.randint(256, (20, 33))


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


def test_main_passes(demo, capsys):
    assert demo.main([*SMALL, "--steps=60"]) == 0
    out = capsys.readouterr().out
    assert "the same losses, to rounding" in out
    for stage in demo.STAGES:
        assert f"\n{stage}:" in out


def test_main_fails_for_an_untrained_model(demo, capsys):
    assert demo.main([*SMALL, "--steps=0"]) == 1
    assert "not below the unigram model's" in capsys.readouterr().out


def test_main_fails_for_a_broken_expert(demo, capsys, monkeypatch):
    right = demo.with_compiled_experts

    def wrong(*arguments):
        swapped = right(*arguments)
        swapped.blocks[0].experts = demo.broken(swapped.blocks[0].experts, 3)
        return swapped

    monkeypatch.setattr(demo, "with_compiled_experts", wrong)
    assert demo.main([*SMALL, "--steps=1"]) == 1
    assert "the losses differ" in capsys.readouterr().out


def test_held_out_files_are_not_trained_on(demo):
    text = demo.standard_library(limit=500_000)
    assert len(text.train) > len(text.held_out) > 10_000
    assert 3 < demo.unigram_loss(text) < 4
    piece = bytes(text.held_out[5000:5400].tolist())
    assert piece not in bytes(text.train.tolist())
