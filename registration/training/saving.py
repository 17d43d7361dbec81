"""What a training saves and takes up again: a checkpoint holds all that decides how it goes on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .average import Average
from .checkpoints import Shelf, resumable, write_checkpoint
from .diary import Diary
from .state import TrainingState
from .trainer import Task

_log = logging.getLogger(__name__)


class Saver:
    """Writes the checkpoints of a training and reads one of them; of several processes the first one writes.

    Parameters
    ----------
    fabric, optimiser
        The Lightning Fabric of the training, and the optimiser as it has set it up.
    task
        What is learnt.
    average
        The mean weights.
    shelf
        Where checkpoints are.
    """

    def __init__(self, fabric: Any, task: Task, optimiser: Any, average: Average, shelf: Shelf) -> None:
        self.fabric, self.task, self.optimiser, self.average, self.shelf = fabric, task, optimiser, average, shelf
        self._whole = True

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A step is being done: what is interrupted inside is no state to go on from."""
        self._whole = False
        yield
        self._whole = True

    def keep_best(self, state: TrainingState) -> None:
        """Keep the network as the best so far. Call it where the mean weights are applied."""
        if self.fabric.is_global_zero:
            write_checkpoint(self.shelf.best, self._content(state))

    def save(self, state: TrainingState, diary: Diary) -> None:
        """Write a checkpoint that this training can go on from as if nothing had happened.

        Parameters
        ----------
        diary
            Its tables are written first: they hold all that the checkpoint says is done.
        """
        if not self.fabric.is_global_zero:
            return
        diary.flush()
        with self.average.applied():
            content = self._content(state)
        training = {
            "weights": self.task.aligner.state_dict(), "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(), "precision": self.fabric.strategy.precision.state_dict(),
            **state.resumed(),
        }  # fmt: skip
        self.shelf.put({**content, "training": training})

    def forget_prepared(self) -> None:
        """The training has come to its end: what was prepared for its rehearsal is not needed any more."""
        if self.fabric.is_global_zero:
            shutil.rmtree(self.shelf.prepared, ignore_errors=True)

    def rescue(self, state: TrainingState, diary: Diary) -> None:
        """Save before an error ends the run, if the weights are those of a step; what hinders that is no new error."""
        try:
            if self._whole:
                self.save(state, diary)
        except Exception as error:
            _log.warning("the last steps are not saved: %s", error)

    def restore(self, path: Path) -> TrainingState:
        """Take up weights, their mean and the optimiser from a checkpoint; how far the training was.

        Raises
        ------
        InputError
            If the checkpoint is not one to go on from, or of another network or optimiser.
        """
        saved = resumable(path, self.task.plan, self.task.config)
        training = saved["training"]
        self.task.aligner.load_state_dict(training["weights"])
        self.optimiser.load_state_dict(training["optimiser"])
        self.average.load_state_dict(training["average"])
        if training.get("precision"):  # nothing but with gradients that are scaled
            self.fabric.strategy.precision.load_state_dict(training["precision"])
        state = TrainingState.of(saved)
        if not self.shelf.best.exists():  # gone on with in another folder: the best of this one is still to come
            state.best, state.judged = {}, min(state.judged, state.step - 1)
        return state

    def _content(self, state: TrainingState) -> dict[str, Any]:
        """What every checkpoint holds: enough to use the network."""
        model = {name: value.detach().cpu().clone() for name, value in self.task.aligner.state_dict().items()}
        figures = {"best": dict(state.best), "before": dict(state.before)}
        return {
            "config": self.task.config, "plan": self.task.plan, "model": model, "metrics": figures, "step": state.step
        }  # fmt: skip
