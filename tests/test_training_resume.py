"""A training that is stopped, at any point and by anything, and goes on."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from training_phantoms import Discs, adam, rows, sgd, task, trainer

from registration.cli.progress import Lines
from registration.errors import InputError
from registration.training import Augmentation, Cosine, Task, Term
from registration.training.checkpoints import Shelf, read_checkpoint, write_checkpoint
from registration.training.data.synthetic import RandomLinear
from registration.training.diary import Diary
from registration.training.logs import Table
from registration.training.loop import Loop
from registration.training.objective import Seen
from registration.training.saving import Saver


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Several threads on a 24 x 24 image only wait for each other."""
    torch.set_num_threads(1)


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
    last = read_checkpoint(Shelf(parts).all()[-1])  # also where that validation was all that was left to do
    assert last["training"]["judged"] == last["step"] and last["metrics"]["best"] == best[1]["metrics"]["best"]


def watched(folder: Path, resume: Path | None = None) -> None:
    """A short run that is better at every validation, as pairs without labels are judged by the loss."""
    made = replace(task(), validation=Discs(3, first=100, labels=False))
    trainer(max_steps=8, validate_every=3, save_every=4).fit(made, folder, adam, Cosine(), resume=resume)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a run that nobody stopped."""
    torch.set_num_threads(1)  # it is made before what is done for every test
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


def test_rows_that_were_written_by_an_interrupted_flush_are_not_there_twice(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    for step in (None, 1, 2):
        table = Table(file, step)
        table.add({"step": 1 if step is None else step + 1, "loss": 0.5})
        before = file.read_text() if file.exists() else "step,loss\n"
        file.write_text(before + "1,0.5\n" if step is None else before + f"{step + 1},0.")  # as far as it came
        table.flush()
        table.flush()
    assert file.read_text() == "step,loss\n1,0.5\n2,0.5\n3,0.5\n"
    file.write_text(file.read_text() + "4,0.")
    Table(file, 3).flush()
    assert file.read_text() == "step,loss\n1,0.5\n2,0.5\n3,0.5\n"
    Table(file, 0).flush()
    assert file.read_text() == ""


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
