"""How many bits networks compute with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from training_phantoms import task

from registration.training import Trainer
from registration.training.precision import resolved

ABLE = {"avx2": True, "avx512_bf16": True}
OLD = {"avx2": True, "avx512_bf16": False}


@pytest.mark.parametrize(
    "precision, accelerator, able, expected",
    [
        ("auto", "cpu", ABLE, "bf16-mixed"),
        ("auto", "cpu", OLD, "32-true"),
        ("auto", "mps", ABLE, "32-true"),
        ("32-true", "cpu", ABLE, "32-true"),
        ("16-mixed", "cuda", OLD, "16-mixed"),
    ],
)
def test_auto_takes_what_the_machine_multiplies_in(
    monkeypatch: pytest.MonkeyPatch, precision: str, accelerator: str, able: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert resolved(precision, accelerator) == expected


@pytest.mark.parametrize("able, expected", [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch, able: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: able)
    assert resolved("auto", "cuda") == resolved("auto", "auto") == expected


def test_half_precision_learns_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)  # several on a 24 x 24 image only wait for each other
    said = list[str]()
    listener = logging.Handler()
    monkeypatch.setattr(listener, "emit", lambda record: said.append(record.getMessage()))
    monkeypatch.setattr(logging.getLogger("lightning_fabric"), "handlers", [listener])
    losses = {}
    for name, able in (("bf16", ABLE), ("32", OLD)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        trainer = Trainer(max_steps=60, validate_every=30, average=0.9, precision="auto")
        outcome = trainer.fit(task(), tmp_path / name, lambda weights: torch.optim.Adam(weights, lr=3e-3))
        losses[name] = outcome.best["loss"]
        assert outcome.best["loss"] < outcome.before["loss"]
    assert not said  # Fabric announces what it was asked for
    assert losses["bf16"] != losses["32"] and losses["bf16"] == pytest.approx(losses["32"], rel=0.05)
