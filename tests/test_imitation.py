"""Learning from the pairwise engine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_phantoms import rows, task

from registration.cli.main import _terminated
from registration.image import Image
from registration.losses import LocalNormalisedCrossCorrelation
from registration.pairwise import DiffeomorphicStage, FieldLevel, Observer, Pair, Stage, StageReport
from registration.space import Space
from registration.training import Imitation, Outcome, Task, Trainer
from registration.training.answers import Answers
from registration.training.batch import PairBatch
from registration.training.checkpoints import Shelf, read_checkpoint
from registration.training.imitation import _question
from registration.training.objective import Seen
from registration.transforms.base import Transform
from registration.transforms.linear import Linear

D = pytest.mark.parametrize("d", [2, 3])


class Shifting(Stage):
    """Answers with the initial transform after a shift in mm, back if the brighter image is the fixed one; counts how
    often it is asked.
    """

    def __init__(self, *shift: float) -> None:
        self.shift, self.asked = torch.tensor(shift, dtype=torch.float64), 0

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        self.asked += 1
        way = 1 if pair.fixed.data.mean() < pair.moving.data.mean() else -1
        return initial @ Linear.translation(way * self.shift), StageReport("shift", 0.0, 1.0, 0.0, 1)


def batch(d: int, size: int = 1, mask: Tensor | None = None, initial: Linear | None = None) -> PairBatch:
    torch.manual_seed(0)
    space = Space.regular((8, 6, 10)[:d], 2.0)
    fixed, moving = (Image(torch.rand(size, 1, *space.shape).pow(power), space, mask) for power in (3, 1))
    return PairBatch(fixed, moving, initial or Linear.identity(d), ("pair",) * size)


def away(shift: list[float], seen: PairBatch, teacher: Stage) -> Tensor:
    return Imitation(teacher)(Seen(seen, Linear.translation(torch.tensor(shift, dtype=torch.float64))))


@D
def test_distance_is_in_voxels_and_zero_where_the_network_agrees(d: int) -> None:
    shift = [3.0, -1.0, 2.0][:d]
    assert torch.allclose(away(shift, batch(d, 2), Shifting(*shift)), torch.zeros(2), atol=1e-5)
    off = [shift[0] + 4.0, *shift[1:]]  # 4 mm are two voxels
    assert torch.allclose(away(off, batch(d, 2), Shifting(*shift)), torch.full((2,), 4.0), atol=1e-2)


@D
def test_what_is_told_lies_behind_the_start_of_each_pair(d: int) -> None:
    matrices = torch.eye(d + 1, dtype=torch.float64).repeat(2, 1, 1)
    matrices[1, 0, d] = 5.0
    shift = [1.0] * d
    assert torch.allclose(
        away(shift, batch(d, 2, initial=Linear(matrices)), Shifting(*shift)), torch.zeros(2), atol=1e-4
    )


@D
def test_every_pair_is_asked_for_once_and_both_ways_at_a_time(d: int) -> None:
    teacher = Shifting(*[1.0] * d)
    term, both = Imitation(teacher), batch(d).both_ways()
    still, there = Linear.identity(d), Linear.translation(torch.ones(d, dtype=torch.float64))
    assert torch.allclose(term(Seen(both, still)), torch.full((2,), d / 4.0), atol=1e-3)
    back = term(Seen(both, there))  # right for the first; the second should go back by as much
    assert torch.allclose(back, torch.tensor([0.0, d / 1.0]), atol=1e-2)
    assert teacher.asked == 1
    term(Seen(batch(d, 2), still))
    assert teacher.asked == 3


@D
def test_the_order_of_asking_does_not_matter(d: int) -> None:
    class Rough(Stage):  # what it finds for exchanged images is no inverse
        def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
            shift = torch.full((d,), float(pair.fixed.data.mean()), dtype=torch.float64)
            return initial @ Linear.translation(shift), StageReport("", 0.0, 1.0, 0.0, 1)

    both, still = batch(d).both_ways(), Linear.identity(d)
    there, back = (
        PairBatch(Image(f[None], both.fixed.space), Image(m[None], both.fixed.space), still, ("pair",))
        for f, m in zip(both.fixed.data, both.moving.data, strict=True)
    )
    first, second = Imitation(Rough()), Imitation(Rough())
    one = [first(Seen(pair, still)) for pair in (there, back)]
    other = [second(Seen(pair, still)) for pair in (back, there)]
    assert torch.equal(one[0], other[1]) and torch.equal(one[1], other[0])


@D
def test_voxels_outside_the_mask_do_not_count(d: int) -> None:
    class Half(Stage):
        def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
            return initial @ Linear.translation(torch.full((d,), 50.0, dtype=torch.float64)), StageReport(
                "", 0.0, 1.0, 0.0, 1
            )

    empty = torch.zeros(1, 1, *(8, 6, 10)[:d], dtype=torch.bool)
    assert float(away([0.0] * d, batch(d, 1, empty), Half())) == 0
    empty[..., :2] = True
    assert float(away([0.0] * d, batch(d, 1, empty), Half())) == pytest.approx(d * 625.0, rel=1e-3)


@D
def test_the_engine_is_asked_with_or_without_its_kernels(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for kernels in (True, False):
        if not kernels:
            monkeypatch.setattr("registration.compiled.fits", lambda *tensors: False)
        engine = DiffeomorphicStage("engine", LocalNormalisedCrossCorrelation(2, 1e-3), (FieldLevel(1, 4, 0.4),))
        answers.append(away([0.0] * d, batch(d), engine))
    assert float(answers[0]) > 1e-4 and torch.allclose(answers[0], answers[1], rtol=0.05)


def test_an_engine_that_takes_gradients_may_be_asked() -> None:
    class Sliding(Stage):
        def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
            shift = torch.ones(2, dtype=torch.float64, requires_grad=True)
            shift.square().sum().backward()
            return initial @ Linear.translation(shift.grad), StageReport("", 0.0, 1.0, 0.0, 1)  # type: ignore[arg-type]

    assert torch.allclose(away([2.0, 2.0], batch(2), Sliding()), torch.zeros(1), atol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_asking_ahead_in_processes_is_asking_here(symmetric: bool, tmp_path: Path) -> None:
    teacher = DiffeomorphicStage("engine", LocalNormalisedCrossCorrelation(2), [FieldLevel(1, 3, 0.4)])
    pairs = batch(2, 2, initial=Linear.translation(torch.tensor([0.5, 0.0], dtype=torch.float64)))
    pairs = pairs.both_ways() if symmetric else pairs
    here, ahead = Imitation(teacher), Imitation(teacher, jobs=2)
    ahead.foresee([pairs], tmp_path / "prepared")
    seen = Seen(pairs, Linear.identity(2))
    assert len(ahead.answers.known) == 4
    here(seen)
    for key, moves in here.answers.known.items():
        assert torch.equal(ahead.answers.known[key], moves)
    known = dict(ahead.answers.known)
    ahead.foresee([pairs], tmp_path / "prepared")
    ahead(seen)
    assert ahead.answers.known.keys() == known.keys()
    with pytest.raises(ValueError, match="jobs is a whole number from 1"):
        Imitation(teacher, jobs=0)


def remembered(folder: Path, teacher: Stage, pairs: PairBatch) -> Answers:
    """What is known of pairs to a training that begins with what is in a folder."""
    answers = Answers()
    answers.keep(folder, teacher)
    for number in range(pairs.size):
        answers.get(_question(pairs, number))
    return answers


@D
def test_answers_are_kept_for_the_same_question_alone(d: int, tmp_path: Path) -> None:
    mask = torch.ones(1, 1, *(8, 6, 10)[:d], dtype=torch.bool)
    teacher, pair = Shifting(*[1.0] * d), batch(d, 1, mask)
    first = Answers()
    first.keep(tmp_path / "prepared", teacher)
    question = _question(pair, 0)
    first.add(question, question.answered(teacher))
    teacher.asked = 0  # it counts, which makes it another engine
    (file,) = (tmp_path / "prepared").iterdir()
    for order in (pair, pair.both_ways()):  # in both directions, whichever is looked for
        known = remembered(file.parent, teacher, order).known
        assert known.keys() == first.known.keys() and len(known) == 2
        assert all(torch.equal(known[key], first.known[key]) for key in known)
    other = mask.clone()
    other[..., 0] = False
    moved = Linear.translation(torch.full((d,), 0.5, dtype=torch.float64))
    wider = replace(pair.fixed, space=Space.regular((8, 6, 10)[:d], 2.5))
    for changed in (batch(d, 1, other), batch(d), batch(d, 1, mask, moved), replace(pair, fixed=wider)):
        assert not remembered(file.parent, teacher, changed).known
    assert not remembered(file.parent, Shifting(*[2.0] * d), pair).known
    whole = file.read_bytes()
    for damaged in (whole[:-20], b"", b"words", pickle.dumps({"a": 1})):
        file.write_bytes(damaged)
        assert not remembered(file.parent, teacher, pair).known


def test_a_disk_that_takes_no_answers_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("registration.training.answers.np.save", full)
    teacher, pairs = Shifting(1.0, 1.0), batch(2, 2)
    answers = Answers()
    answers.keep(tmp_path / "prepared", teacher)
    for number in range(2):
        question = _question(pairs, number)
        answers.add(question, question.answered(teacher))
    assert len(answers.known) == 4 and caplog.text.count("not kept any more") == 1
    assert not list((tmp_path / "prepared").iterdir())
    (tmp_path / "file").touch()
    Answers().keep(tmp_path / "file", teacher)
    assert "what the engine finds is not kept" in caplog.text


# --- in a training ----------------------------------------------------------------------------------------------------
class Reluctant(Stage):
    """Answers the first two questions at once and others after some seconds, or when it is told to go on.

    Leaves a file in its folder for every question.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds

    def __call__(self, pair: Pair, initial: Transform, observer: Observer) -> tuple[Transform, StageReport]:
        until = time.monotonic() + (self.seconds if len(list(self.folder.iterdir())) >= 2 else 0)
        (self.folder / uuid.uuid4().hex).touch()
        while time.monotonic() < until and not (self.folder / "go").exists():
            time.sleep(0.02)
        shift = torch.full((pair.fixed.ndim,), 0.5, dtype=torch.float64)
        return initial @ Linear.translation(shift), StageReport("reluctant", 0.0, 1.0, 0.0, 1)


def lesson(folder: Path, seconds: float, jobs: int = 2) -> Task:
    """Discs, and such an engine to learn from."""
    folder.mkdir(exist_ok=True)
    made = task()
    made.objective.terms["engine"] = Imitation(Reluctant(folder, seconds), jobs=jobs)
    return replace(made, per_epoch=6)


def fit(made: Task, folder: Path, resume: Path | None = None, **settings: Any) -> Outcome:
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    trainer = Trainer(batch_size=2, **settings)
    return trainer.fit(made, folder, lambda parameters: torch.optim.Adam(parameters, 3e-3), resume=resume)


def test_asking_ahead_ends_with_the_time_of_the_training(tmp_path: Path) -> None:
    made = replace(lesson(tmp_path / "asked", 1.0), per_epoch=None)
    outcome = fit(made, tmp_path / "run", max_minutes=0.05, rehearse=0.0)
    assert outcome.reason == "0.05 minutes are over" and outcome.steps == 0 and outcome.seconds["engine"] > 2
    assert len(list((tmp_path / "asked").iterdir())) < 10  # there are ten pairs in both directions
    shelf = Shelf(tmp_path / "run")
    assert read_checkpoint(shelf.all()[-1])["step"] == 0 and shelf.best.exists() and not shelf.prepared.exists()
    assert not multiprocessing.active_children()


def test_an_interruption_while_it_is_asked_ahead(tmp_path: Path) -> None:
    """The processes end at once, the run is saved, and nothing that was answered is asked again."""
    settings: dict[str, Any] = {"max_steps": 9, "rehearse": 0.5}
    shelf, asked = Shelf(tmp_path / "parts"), tmp_path / "asked"
    fit(lesson(tmp_path / "whole asked", 0.0, jobs=1), tmp_path / "whole", **settings)
    times: list[float] = []

    def stop() -> None:
        while len(list(shelf.prepared.glob("[!.]*"))) < 2:
            time.sleep(0.02)
        times.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        threading.Thread(target=stop, daemon=True).start()
        with pytest.raises(SystemExit):
            fit(lesson(asked, 300.0), shelf.folder, **settings)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - times[0] < 60 and not multiprocessing.active_children()
    assert read_checkpoint(shelf.all()[-1])["step"] == 6
    kept, questions = len(list(shelf.prepared.iterdir())), len(list((tmp_path / "whole asked").iterdir()))
    assert 2 <= kept < questions
    for file in asked.iterdir():
        file.unlink()
    (asked / "go").touch()
    fit(lesson(asked, 300.0), shelf.folder, shelf.all()[-1], **settings)
    assert len(list(asked.iterdir())) - 1 == questions - kept and not shelf.prepared.exists()
    whole, parts = (rows(tmp_path / run / "train.csv") for run in ("whole", "parts"))
    assert whole == parts and len(whole) == 1 + 9
