"""The loop of training: it learns, it can be stopped at any moment, and it refuses what cannot be learnt from."""

from __future__ import annotations

import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from training_phantoms import Discs, rows, task

from registration.cli.progress import Lines
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
    Task,
    Term,
    Trainer,
)
from registration.training.average import Average
from registration.training.batch import Collate, PairBatch
from registration.training.checkpoints import Shelf, read_checkpoint, write_checkpoint
from registration.training.clock import Clock
from registration.training.data.synthetic import RandomLinear
from registration.training.diary import Diary
from registration.training.feed import Feed
from registration.training.loop import Loop
from registration.training.objective import Seen
from registration.training.saving import Saver
from registration.training.trainer import started
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Several threads on a 24 x 24 image only wait for each other."""
    torch.set_num_threads(1)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=3e-3)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Adam would enlarge the rounding of gradients that are nearly zero."""
    return torch.optim.SGD(parameters, lr=0.1)


def trainer(**changes: Any) -> Trainer:
    values = {"max_steps": 14, "batch_size": 2, "validate_every": 6, "save_every": 5, "average": 0.9}
    return Trainer(**(values | changes))


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
    plain = trainer(max_steps=60).fit(task(), tmp_path / "a", adam)
    taught = trainer(max_steps=60).fit(task(labels=1.0), tmp_path / "b", adam)
    assert taught.best["dice"] > plain.best["dice"]


class Small(Term):
    """Likes transforms that move little."""

    asked = "rehearsal"

    def forward(self, seen: Seen) -> Tensor:
        return seen.displacement.square().flatten(1).mean(dim=1)


def job(per_epoch: int | None = None, moved: bool = False) -> Task:
    made = task()
    if per_epoch is not None and not moved:
        made.objective.terms["small"] = Small(0.1)
    augmentation = Augmentation(RandomLinear(degrees=20.0), gamma=0.2, noise=0.05) if moved else None
    return replace(made, per_epoch=per_epoch, augmentation=augmentation)


@pytest.mark.parametrize(
    ("stop", "rehearse", "per_epoch", "moved"),
    [
        (3, None, None, False), (5, None, None, False), (13, None, None, True), (6, 0.2, None, False),
        (13, 0.2, 5, False), (8, None, 5, True),  # five pairs: steps of four reach into the next epoch
    ],
)  # fmt: skip
def test_resumed_is_uninterrupted_to_the_bit(
    tmp_path: Path, stop: int, rehearse: float | None, per_epoch: int | None, moved: bool
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    settings = {"accumulate": 2, "symmetric": True, "rehearse": rehearse}
    trainer(**settings).fit(job(per_epoch, moved), whole, adam, Cosine())

    class Killed(BaseException):
        """As sudden as a signal: nothing is written in answer to it."""

    class Bomb:
        seen = 0

        def stage(self, name: str, steps: int, done: int = 0) -> None: ...
        def note(self, text: str) -> None: ...
        def step(self, loss: float) -> None:
            self.seen += 1
            if self.seen == stop:
                raise Killed

    with pytest.raises(Killed):
        trainer(**settings).fit(job(per_epoch, moved), parts, adam, Cosine(), observer=Bomb())
    torch.randn(100)  # whatever else has drawn numbers in between
    last = Shelf(parts).all()[-1] if Shelf(parts).all() else None
    trainer(**settings).fit(job(per_epoch, moved), parts, adam, Cosine(), resume=last)
    for name in ("train.csv", "validation.csv"):
        drop = -1 if name == "train.csv" else -2  # how long a pair took
        assert [r[:drop] for r in rows(parts / name)] == [r[:drop] for r in rows(whole / name)]
    one, other = (read_checkpoint(Shelf(f).all()[-1]) for f in (whole, parts))
    assert all(torch.equal(one["model"][k], other["model"][k]) for k in one["model"])


@pytest.mark.parametrize("stop", [0, 6, 14])
def test_a_validation_that_was_interrupted_is_made_up_for(tmp_path: Path, stop: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    trainer().fit(task(), whole, adam, Cosine())

    class Mine(Term):
        """Stops the run in the validation after so many steps, as a signal does."""

        stops = True

        def forward(self, seen: Seen) -> Tensor:
            if self.stops and not self.training and steps["done"] == stop:
                raise SystemExit(143)
            return 0 * seen.grid.flatten(1).sum(dim=1)

    class Count:
        def stage(self, name: str, steps: int, done: int = 0) -> None: ...
        def note(self, text: str) -> None: ...
        def step(self, loss: float) -> None:
            steps["done"] += 1

    steps = {"done": 0}
    first = task()
    first.objective.terms["mine"] = Mine()
    with pytest.raises(SystemExit):
        trainer().fit(first, parts, adam, Cosine(), observer=Count())
    found = Shelf(parts).all()
    assert read_checkpoint(found[-1])["step"] == stop
    trainer().fit(task(), parts, adam, Cosine(), resume=found[-1])
    assert [r[0] for r in rows(parts / "validation.csv")] == [r[0] for r in rows(whole / "validation.csv")]
    best = [read_checkpoint(folder / "best.pt") for folder in (whole, parts)]
    assert best[0]["step"] == best[1]["step"]


def watched(folder: Path, resume: Path | None = None) -> None:
    """A short run that is better at every validation, as pairs without labels are judged by the loss."""
    made = replace(task(), validation=Discs(3, first=100, labels=False))
    trainer(max_steps=8, validate_every=3, save_every=4).fit(made, folder, adam, Cosine(), resume=resume)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    watched(folder)
    return folder


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("kind", "name", "call"),
    [
        (Diary, "add_step", 6), (Diary, "tell_step", 6), (Diary, "tell_step", 8), (Diary, "add_validation", 2),
        (Diary, "tell_validation", 2), (Diary, "tell_validation", 4), (Saver, "keep_best", 2), (Shelf, "put", 1),
    ],
)  # fmt: skip
def test_interrupted_at_any_point_it_is_the_run_that_nobody_stopped(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, name: str, call: int, after: bool
) -> None:
    """No row is missing or there twice, and ``best.pt`` is the same network."""
    done, calls = getattr(kind, name), iter(range(1, 100))

    def interrupted(*arguments: Any) -> Any:
        now = next(calls) == call
        if now and not after:
            raise KeyboardInterrupt
        found = done(*arguments)
        if now:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kind, name, interrupted)
        watched(tmp_path)
    there = Shelf(tmp_path).all()
    watched(tmp_path, there[-1] if there else None)
    for table, drop in (("train.csv", None), ("validation.csv", -1)):  # how long a pair took
        assert [r[:drop] for r in rows(tmp_path / table)] == [r[:drop] for r in rows(undisturbed / table)]
    best, whole = (read_checkpoint(folder / "best.pt") for folder in (tmp_path, undisturbed))
    assert best["step"] == whole["step"] == 8
    assert all(torch.equal(best["model"][k], whole["model"][k]) for k in whole["model"])


def test_a_run_that_goes_on_elsewhere_has_its_best_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    trainer().fit(task(), tmp_path / "a", adam)
    last = Shelf(tmp_path / "a").all()[-1]
    trainer(max_steps=15).fit(task(), tmp_path / "b", lambda p: torch.optim.Adam(p, lr=0.0), resume=last)
    assert (tmp_path / "b" / "best.pt").exists()
    other = replace(task(), config={"seed": 0, "optimiser": {"_target_": "torch.optim.SGD"}})
    with pytest.raises(InputError, match=r"was made with the optimiser None, not torch\.optim\.SGD"):
        trainer().fit(other, tmp_path / "b", sgd, resume=last)


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    class Lesson(Likeness):
        asked = "rehearsal"

    moved, lesson = job(moved=True), Lesson(MeanSquaredError())
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


def test_an_interruption_leaves_a_checkpoint(tmp_path: Path) -> None:
    class Stop:
        def stage(self, name: str, steps: int, done: int = 0) -> None: ...
        def note(self, text: str) -> None: ...
        def step(self, loss: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer().fit(task(), tmp_path, adam, observer=Stop())
    assert read_checkpoint(Shelf(tmp_path).all()[-1])["step"] == 1


class Ends:
    """Ends a run by an error after some steps."""

    def __init__(self, error: BaseException, step: int = 3) -> None:
        self.error, self.left = error, step

    def stage(self, name: str, steps: int, done: int = 0) -> None: ...
    def note(self, text: str) -> None: ...
    def step(self, loss: float) -> None:
        self.left -= 1
        if not self.left:
            raise self.error


def test_an_error_leaves_a_checkpoint_and_is_told_whatever_saving_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    with pytest.raises(RuntimeError, match="time is over"):
        trainer().fit(task(), tmp_path / "a", adam, observer=Ends(RuntimeError("time is over")))
    assert [f.name for f in Shelf(tmp_path / "a").all()] == ["step-00000003.pt"]
    with pytest.raises(InputError, match="has the loss nan"):  # would come again
        trainer(save_every=1000).fit(task(poison=3), tmp_path / "b", adam)
    assert not Shelf(tmp_path / "b").all()

    def full(shelf: Shelf, content: dict[str, Any]) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Shelf, "put", full)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(task(), tmp_path / "c", adam, observer=Ends(KeyboardInterrupt()))
    assert "the last steps are not saved: no space left" in caplog.text


def test_progress_goes_on_at_the_step_of_the_run_before(tmp_path: Path) -> None:
    stream = StringIO()
    trainer(max_steps=4).fit(task(), tmp_path, adam)
    lines = Lines(stream)
    trainer(max_steps=6).fit(task(), tmp_path, adam, resume=Shelf(tmp_path).all()[-1], observer=lines)
    lines.close()
    assert "training: steps 5 to 6, loss" in stream.getvalue()


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
    with pytest.raises(ValueError, match="weight of LabelOverlap is 0 or more"):
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


def test_the_scale_of_gradients_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_fabric.plugins.precision import Precision

    taken: list[dict[str, Any]] = []
    monkeypatch.setattr(Precision, "load_state_dict", lambda self, state: taken.append(state))
    monkeypatch.setattr(Precision, "state_dict", lambda self: {"scale": 4.0})
    trainer(max_steps=5).fit(task(), tmp_path, adam)
    trainer(max_steps=6).fit(task(), tmp_path, adam, resume=Shelf(tmp_path).all()[-1])
    assert taken == [{"scale": 4.0}]
    content = read_checkpoint(Shelf(tmp_path).all()[-1])
    del content["training"]["precision"]  # as checkpoints were before
    write_checkpoint(tmp_path / "old.pt", {key: content[key] for key in content if key not in ("format", "versions")})
    trainer(max_steps=7).fit(task(), tmp_path, adam, resume=tmp_path / "old.pt")
    assert len(taken) == 1


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


def test_a_checkpoint_is_read_on_the_cpu(tmp_path: Path) -> None:
    made = task()
    trainer(max_steps=5).fit(made, tmp_path, adam)
    other = replace(task(seed=1), config={"seed": 0})
    loop = Loop(trainer(), other, tmp_path, adam(other.aligner.parameters()), Cosine())
    loop.saver.fabric = SimpleNamespace(device=torch.device("meta"))  # where nothing can be read
    loop.restore(Shelf(tmp_path).all()[-1])
    assert loop.state.step == 5
    for old, new in zip(made.aligner.parameters(), other.aligner.parameters(), strict=True):
        assert torch.equal(old, new)


def test_folds_are_looked_for_where_the_transform_is() -> None:
    space = Space.regular((12, 10, 8))
    field = DisplacementField(3 * torch.randn(3, *space.shape), space)
    assert jacobian_determinants(field, space, "meta").device.type == "meta"
    assert folding_percent(field, space, device="cpu") == folding_percent(field, space) > 0


def _unlabelled() -> Any:
    job = task(labels=1.0)
    object.__setattr__(job, "train", Discs(labels=False))
    return job


# --- checkpoints ------------------------------------------------------------------------------------------------------
def content(step: int = 3) -> dict[str, Any]:
    return {"config": {}, "plan": {}, "model": {"w": torch.ones(2)}, "metrics": {}, "step": step}


def test_checkpoints_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    good = tmp_path / "a.pt"
    write_checkpoint(good, content())
    assert read_checkpoint(good)["step"] == 3

    class Harm:
        def __reduce__(self) -> Any:
            return print, ("code was run",)

    cases = {
        "missing.pt": (None, "no such file"),
        "empty.pt": (b"", "empty"),
        "text.pt": (b"hello", "no checkpoint"),
        "cut.pt": (good.read_bytes()[:-200], "no checkpoint or damaged"),
        "code.pt": ({"format": 1, "versions": {}, "x": Harm()}, "more than numbers"),
        "other.pt": ({"weights": torch.ones(1)}, "no checkpoint of registration"),
        "old.pt": ({"format": 99, "versions": {"registration": "9.9"}}, "format 99 .registration 9.9"),
        "half.pt": ({"format": 1, "versions": {}}, "incomplete"),
        "odd.pt": ({**content(), "format": 1, "versions": {}, "plan": []}, "damaged checkpoint: plan"),
        "long.pt": (b"root:x:0:0:root:/root:/bin/bash\n" * 20, "no checkpoint"),
        "more.pt": (b"a" * 500, "no checkpoint"),
    }
    for name, (what, words) in cases.items():
        file = tmp_path / name
        if isinstance(what, bytes):
            file.write_bytes(what)
        elif what is not None:
            torch.save(what, file)
        with pytest.raises(InputError, match=words) as caught:
            read_checkpoint(file)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, keep=2)
    for step in (1, 2, 3):
        shelf.put(content(step))
    assert [f.name for f in shelf.all()] == ["step-00000002.pt", "step-00000003.pt"]
    (tmp_path / "checkpoints" / ".partial-x.pt").write_bytes(b"half")
    shelf.clear_partial()
    assert not list((tmp_path / "checkpoints").glob(".partial*"))


def test_mean_weights() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    mean = Average(layer, 0.5)
    for value in (1.0, 3.0):
        torch.nn.init.constant_(layer.weight, value)
        mean.update()
    with mean.applied():
        inside = layer.weight.item()
    assert 1.0 < inside < 3.0 and layer.weight.item() == 3.0
