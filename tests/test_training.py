"""The loop of training: it learns, comes to its end, and refuses what cannot be learnt from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from training_phantoms import Discs, adam, rows, sgd, task, trainer

from registration.errors import InputError
from registration.evaluation.metrics import folding_percent, jacobian_determinants
from registration.image import Image
from registration.losses import MeanSquaredError
from registration.space import Space
from registration.training import (
    Augmentation,
    Cosine,
    InverseConsistency,
    Likeness,
    Objective,
    Term,
    Trainer,
)
from registration.training.average import Average
from registration.training.batch import Collate, PairBatch
from registration.training.checkpoints import Shelf, read_checkpoint
from registration.training.clock import Clock
from registration.training.data.synthetic import RandomLinear
from registration.training.fabric import started
from registration.training.feed import Feed
from registration.training.objective import Seen
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Several threads on a 24 x 24 image only wait for each other."""
    torch.set_num_threads(1)


def test_it_learns_and_keeps_the_best(tmp_path: Path) -> None:
    outcome = trainer(max_steps=60, validate_every=20, symmetric=True).fit(task(), tmp_path, adam, Cosine())
    assert outcome.best["dice"] > outcome.before["dice"] + 0.01 and outcome.best["folding"] == 0
    losses = [float(row[1]) for row in rows(tmp_path / "train.csv")[1:]]
    assert len(losses) == outcome.steps == 60
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    best = read_checkpoint(tmp_path / "best.pt")
    assert best["metrics"]["best"] == outcome.best and best["step"] == outcome.best["step"]
    assert [f.name for f in Shelf(tmp_path).all()] == ["step-00000055.pt", "step-00000060.pt"]
    assert set(outcome.seconds) == {"data", "engine", "step", "update", "validation", "files"}
    assert len(rows(tmp_path / "validation.csv")) == 1 + 4
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_labels_help(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    plain = trainer(max_steps=60, validate_every=30).fit(task(), tmp_path / "a", adam)
    taught = trainer(max_steps=60, validate_every=30).fit(task(labels=1.0), tmp_path / "b", adam)
    assert taught.best["dice"] > plain.best["dice"]


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    class Lesson(Likeness):
        asked = "rehearsal"

    augmentation = Augmentation(RandomLinear(degrees=20.0), gamma=0.2, noise=0.05)
    moved, lesson = replace(task(), augmentation=augmentation), Lesson(MeanSquaredError())
    moved.objective.terms["engine"] = lesson
    with pytest.raises(InputError, match=r"penalty\.engine: learns from pairs that come again.*augmentation=none"):
        trainer(rehearse=0.5).fit(moved, tmp_path, adam)
    both = task()
    both.objective.terms["consistency"] = InverseConsistency()
    with pytest.raises(InputError, match=r"penalty\.consistency: judges every pair both ways.*symmetric=true"):
        trainer().fit(both, tmp_path, adam)


def test_inverse_consistency_of_a_pair_is_judged_between_both_starts() -> None:
    space = Space.regular((16, 16))
    images = [Image(torch.rand(1, 1, 16, 16), space) for _ in range(2)]
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.4], [-0.4, 0.0]], dtype=torch.float64))
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[:2, :2], matrix[:2, 2] = turn, torch.tensor([1.0, -2.0])
    start = Linear(matrix)
    batch = PairBatch(*images, start, ("pair",)).both_ways()
    there = Linear.translation(torch.tensor([0.5, 1.0], dtype=torch.float64))
    back = start @ there.inverse() @ start.inverse()  # start_back @ residual_back is the inverse of start @ there
    residual = Linear(torch.stack([there.matrix, back.matrix]))
    assert float(InverseConsistency()(Seen(batch, residual)).max()) < 1e-6
    same = Linear(torch.stack([there.matrix, there.inverse().matrix]))  # the inverse without the turn between
    assert float(InverseConsistency()(Seen(batch, same)).max()) > 1e-4


def test_pairs_without_labels_neither_help_nor_stop(tmp_path: Path) -> None:
    data = Discs()
    data.images = [image.clamp(max=0.4) for image in data.images]  # no disc is labelled
    nothing = replace(task(labels=1.0), train=data)
    assert trainer(max_steps=3).fit(nothing, tmp_path, adam).steps == 3


def test_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    models = []
    for name, changes in (("a", {"batch_size": 4}), ("b", {"batch_size": 2, "accumulate": 2})):
        (tmp_path / name).mkdir()
        job = task()
        trainer(max_steps=4, average=0.0, **changes).fit(job, tmp_path / name, sgd)
        models.append(job.aligner.state_dict())
    assert all(torch.allclose(models[0][k], models[1][k], atol=1e-5) for k in models[0])


def test_lessons_count_while_pairs_come_again(tmp_path: Path) -> None:
    """The first epochs are all different; from half the training on one of them is repeated, and only then the lesson
    is asked, never for validation."""
    asked: list[tuple[str, ...]] = []

    class Lesson(Term):
        asked = "rehearsal"

        def forward(self, seen: Seen) -> Tensor:
            asked.append(seen.batch.ids)
            return seen.displacement.square().flatten(1).mean(dim=1)

    job = task(count=9)
    likeness = Likeness(MeanSquaredError(), weight=10.0)
    job = replace(job, objective=Objective({"image": likeness, "lesson": Lesson()}), per_epoch=4)
    outcome = trainer(max_steps=20, rehearse=0.5).fit(job, tmp_path, adam)
    assert len(asked) == 10 and len({name for names in asked for name in names}) == 4
    values = [float(row[3]) for row in rows(tmp_path / "train.csv")[1:]]
    assert all(math.isnan(x) for x in values[:10]) and all(math.isfinite(x) for x in values[10:])
    assert math.isfinite(outcome.best["loss"])
    rates = [float(row[-1]) for row in rows(tmp_path / "train.csv")[1:]]
    assert rates[9] == 3e-3 and rates[10] == pytest.approx(3e-5) and rates[19] == pytest.approx(3e-4)
    state = read_checkpoint(Shelf(tmp_path).all()[-1])["training"]["optimiser"]["state"]
    assert {int(entry["step"]) for entry in state.values()} == {10}  # it began anew
    with pytest.raises(ValueError, match="counts at all times"):
        Objective({"lesson": Lesson()})
    with pytest.raises(ValueError, match="rehearse is a share"):
        trainer(rehearse=2.0)


def test_without_validation_pairs_the_best_is_chosen_anew_when_lessons_begin(tmp_path: Path) -> None:
    class Lesson(Term):
        asked = "rehearsal"

        def forward(self, seen: Seen) -> Tensor:
            return 100.0 + 0 * seen.displacement.flatten(1).mean(dim=1)

    terms = {"image": Likeness(MeanSquaredError(), weight=10.0), "lesson": Lesson()}
    made = replace(task(), objective=Objective(terms), validation=None, per_epoch=4)
    settings = {"max_steps": 20, "rehearse": 0.5, "validate_every": 3, "patience": 3}
    outcome = trainer(**settings).fit(made, tmp_path, adam)
    assert outcome.best["step"] > 10 and 100 < outcome.best["loss"] < 110
    assert outcome.steps == 20  # it was not told to be without improvement either


def test_early_stop_and_the_clock(tmp_path: Path) -> None:
    still = trainer(max_steps=500, validate_every=2, patience=2)
    outcome = still.fit(task(), tmp_path, lambda p: torch.optim.SGD(p, lr=0.0))
    assert outcome.steps == 4 and "no improvement" in outcome.reason
    outcome = trainer(max_steps=None, max_minutes=0.01).fit(task(), tmp_path, adam)
    assert outcome.minutes >= 0.01 and "minutes are over" in outcome.reason


def test_not_a_number_names_the_pair(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pair 4-to-0: has the loss nan at step \d+.*optimiser.lr"):
        trainer().fit(task(poison=3), tmp_path, adam)
    with pytest.raises(InputError, match=r"gradient|loss"):
        trainer(clip=None).fit(task(), tmp_path, lambda p: torch.optim.SGD(p, lr=1e30))
    assert (tmp_path / "best.pt").exists()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"max_steps or trainer\.max_minutes"):
        Trainer()
    for name, value in (
        ("keep", 0), ("keep", 0.5), ("max_steps", "abc"), ("batch_size", 1.5), ("workers", -1), ("clip", 0.0),
        ("patience", 0), ("average", 1.5), ("precision", "64-true"), ("rehearse", 2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"trainer\.{name} is "):
            trainer(**{name: value})
    with pytest.raises(InputError, match="optimiser: cannot be made"):
        trainer().fit(task(), tmp_path, lambda p: torch.optim.Adam(p, lr=-1.0))
    with pytest.raises(ValueError, match="weight is a number of 0 or more"):
        task(labels=-1.0)
    with pytest.raises(InputError, match="needs labels"):
        trainer().fit(_unlabelled(), tmp_path, adam)
    trainer(max_steps=5).fit(task(), tmp_path, adam)
    with pytest.raises(InputError, match="finished network"):
        trainer().fit(task(), tmp_path, adam, resume=tmp_path / "best.pt")
    with pytest.raises(InputError, match="with pairs 20, now it is 12"):
        trainer().fit(task(count=4), tmp_path, adam, resume=Shelf(tmp_path).all()[-1])
    with pytest.raises(InputError, match="trainer: "):
        trainer(accelerator="abacus").fit(task(), tmp_path, adam)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_several_processes_that_would_train_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(other, raising=False)
    assert started() == 1
    monkeypatch.setenv(name, "4")
    with pytest.raises(InputError, match=r"4 processes were.*trainer\.devices=N trainer\.strategy=ddp.*4 in all"):
        trainer().fit(task(), tmp_path, adam)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert started() == (4 if name == "WORLD_SIZE" else 1)


# --- devices ----------------------------------------------------------------------------------------------------------
def test_a_batch_moves_and_is_pinned_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = task()
    batch = Collate(made.start)([made.train[0], made.train[1]])
    masks = [torch.ones_like(image.data, dtype=torch.bool) for image in (batch.fixed, batch.moving)]
    batch = replace(
        batch, fixed=batch.fixed.with_mask(masks[0]), moving=batch.moving.with_mask(masks[1]),
        points=((torch.zeros(3, 2), torch.zeros(3, 2)),) * 2,
    )  # fmt: skip
    there = batch.to(torch.device("meta"))
    tensors = [there.fixed.data, there.fixed.mask, there.moving.data, there.moving.mask]
    tensors += [there.fixed_labels, there.moving_labels, *(x for pair in there.points or () for x in pair)]
    assert all(x is not None and x.device.type == "meta" for x in tensors)
    assert there.initial.matrix.device.type == "cpu" and there.ids == batch.ids
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    assert torch.equal(batch.pin_memory().fixed.data, batch.fixed.data) and len(pinned) == len(tensors)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_on_cuda_batches_are_pinned_and_clocks_wait(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    made, used, waited = task(), dict[str, Any](), list[torch.device]()

    def loader(data: Discs, **settings: Any) -> list[int]:
        used.update(settings)
        return [1]

    monkeypatch.setattr("registration.training.feed.PairLoader", loader)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    fabric = SimpleNamespace(device=torch.device(kind), global_rank=0, world_size=1)
    next(iter(Feed(trainer(), made, fabric).loader()))
    with Clock(fabric).counting("step"):
        pass
    assert used["pin_memory"] == (kind == "cuda") and waited == [torch.device(kind)] * (kind == "cuda")


def test_folds_are_looked_for_where_the_transform_is() -> None:
    space = Space.regular((12, 10, 8))
    field = DisplacementField(3 * torch.randn(3, *space.shape), space)
    assert jacobian_determinants(field, space, "meta").device.type == "meta"
    assert folding_percent(field, space, device="cpu") == folding_percent(field, space) > 0


def _unlabelled() -> Any:
    job = task(labels=1.0)
    object.__setattr__(job, "train", Discs(labels=False))
    return job


def test_mean_weights() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    mean = Average(layer, 0.5)
    for value in (1.0, 3.0):
        torch.nn.init.constant_(layer.weight, value)
        mean.update()
    with mean.applied():
        inside = layer.weight.item()
    assert 1.0 < inside < 3.0 and layer.weight.item() == 3.0
