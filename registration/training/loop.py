"""The loop of training: steps, validations, checkpoints, until an end is reached."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import InputError
from ..pairwise.observe import Observer
from ..randomness import random_state, restore_random_state
from ..registrar import Aligner
from .average import Average
from .batch import Collate, PairBatch
from .checkpoints import Shelf
from .clock import Clock, agreed
from .diary import Diary
from .fabric import fabric_of
from .feed import Feed
from .guards import check_gradient, check_losses, check_together
from .objective import Box, Learner
from .rehearsal import Rehearsal, rise
from .saving import Saver
from .schedules import Schedule
from .state import TrainingState
from .trainer import Outcome, Task, Trainer
from .validation import Judge, merit


class Loop:
    """What moves a training on; :meth:`Trainer.fit` makes one.

    Beside it stand how far the training is (:class:`~registration.training.state.TrainingState`), what is saved of it
    (:class:`~registration.training.saving.Saver`), its time (:class:`~registration.training.clock.Clock`), its pairs
    (:class:`~registration.training.feed.Feed`), and its last part, in which they come again
    (:class:`~registration.training.rehearsal.Rehearsal`).
    """

    def __init__(
        self, trainer: Trainer, task: Task, folder: Path, optimiser: torch.optim.Optimizer, schedule: Schedule
    ) -> None:
        self.trainer, self.task, self.folder, self.schedule = trainer, task, folder, schedule
        check_together(trainer, task)
        self.fabric = fabric_of(trainer)
        learner = Learner(task.aligner, task.objective, trainer.symmetric)
        self.module, self.optimiser = self.fabric.setup(learner, optimiser)
        self.rate = [group["lr"] for group in optimiser.param_groups]
        self.average = Average(task.aligner, trainer.average)
        self.judge = Judge(task.objective, Collate(task.start), self.fabric.device)
        self.feed = Feed(trainer, task, self.fabric)
        self.rehearsal = Rehearsal(trainer.rehearse, self.feed.sampler, task.objective, self.optimiser)
        self.saver = Saver(self.fabric, task, self.optimiser, self.average, Shelf(folder, trainer.keep))
        self.clock = Clock(self.fabric)
        self.state = TrainingState(self.feed.sampler.state_dict(), random_state())

    # --- from start to end --------------------------------------------------------------------------------------------
    def run(self, resume: Path | None, observer: Observer) -> Outcome:
        """Train until an end is reached."""
        if resume is not None:
            self.restore(resume)
        writes = self.fabric.is_global_zero
        self.diary = Diary(self.folder, None if resume is None else self.state, observer, writes)
        self.diary.observer.stage("training", self.trainer.max_steps or 0, self.state.step)
        self.module.train()
        try:
            if self.due(self.reason()) or not self.state.best:
                self.validate()
                if self.reason():  # no step comes after which it would be saved
                    self.save()
            reason = self.steps()
            self.saver.forget_prepared()
        except InputError:
            raise  # what is refused now would be refused again
        except (KeyboardInterrupt, SystemExit, Exception) as error:
            # Whoever stops a run, such as a cluster, wants to go on later.
            if self.state.step or not isinstance(error, Exception):
                self.saver.rescue(self.state, self.diary)
            raise
        finally:
            self.diary.close()
        state = self.state
        return Outcome(state.best, state.before, state.step, state.minutes, reason, self.clock.seconds)

    def restore(self, path: Path) -> None:
        """Take up a run where a checkpoint left it.

        Raises
        ------
        InputError
            If the checkpoint is not one to go on from, or of another network, optimiser or dataset.
        """
        self.state = self.saver.restore(path)
        self.feed.sampler.load_state_dict(self.state.order)
        restore_random_state(self.state.chance)

    def steps(self) -> str:
        """Step after step until there is a reason to end, which is given."""
        batches, reason = self.batches(), self.reason()
        self.clock.start(self.state.minutes)
        while not reason:
            self.advance(batches)
            # What ends with the last step is validated there.
            reason = self.reason()
            if self.due(reason):
                self.validate()
                reason = reason or self.reason()
            self.state.minutes = self.clock.minutes()
            if reason or self.state.step % self.trainer.save_every == 0:
                self.save()
        return reason

    def save(self) -> None:
        """Write a checkpoint; no process goes on before it is there."""
        with self.clock.counting("files"):
            self.saver.save(self.state, self.diary)
            self.fabric.barrier()

    def due(self, reason: str) -> bool:
        """Whether a validation belongs here that has not been done: before the first step, now and then, and last."""
        state = self.state
        return state.judged != state.step and (state.step % self.trainer.validate_every == 0 or bool(reason))

    def reason(self) -> str:
        """Why training ends now; nothing if it goes on. All processes end together."""
        return str(agreed(self.fabric, self.state.ended(self.trainer)))

    # --- pairs --------------------------------------------------------------------------------------------------------
    def batches(self) -> Iterator[PairBatch]:
        """Batches, epoch after epoch, from where the sampler stands; none more if time runs out while terms prepare."""
        loader = self.feed.loader()
        while True:
            self.feed.begin_epoch()
            if self.rehearsal.enter(self.state.progress(self.trainer)) and not self.rehearsal.prepared:
                self.prepare()
                if self.reason():
                    return
            yield from loader

    def prepare(self) -> None:
        """Show the pairs of a rehearsal, those that are left of this epoch, to the terms that count in it."""
        self.diary.observer.note(f"step {self.state.step}: {self.rehearsal.announced()}")
        with self.clock.counting("engine"):
            for term in self.rehearsal.terms.values():
                pairs = self.clock.until(self.trainer.max_minutes, self.feed.loader())
                term.foresee(pairs, self.saver.shelf.prepared)
        self.rehearsal.prepared = True
        self.state.minutes = self.clock.minutes()

    # --- one step -----------------------------------------------------------------------------------------------------
    def advance(self, batches: Iterator[PairBatch]) -> None:
        """One step of the optimiser, unless batches come to an end before it."""
        t = self.trainer
        values: dict[str, float] = {}
        ids: list[str] = []
        for number in range(t.accumulate):
            with self.clock.counting("data"):
                if (batch := next(batches, None)) is None:
                    return
                batch = batch.to(self.fabric.device)
                self.feed.sampler.advance(batch.size)  # before the next batch, which may be of the next epoch
                if self.task.augmentation is not None:
                    batch = self.task.augmentation(batch)
            ids += batch.ids
            with (
                self.clock.counting("step"),
                self.fabric.no_backward_sync(self.module, enabled=number < t.accumulate - 1),
            ):
                found = self.module(Box(batch))
                check_losses(found["loss"].detach(), batch.ids, self.state.step + 1)
                self.fabric.backward(found["loss"].mean() / t.accumulate)
                for name, value in found.items():
                    values[name] = values.get(name, 0.0) + float(value.detach().mean()) / t.accumulate
        with self.clock.counting("update"):
            values["gradient"] = self.clipped(ids)
            with self.saver.changing():
                self.update(values)
        self.diary.tell_step(self.state.step, values)

    def update(self, values: dict[str, float]) -> None:
        """Change the weights, and all that belongs to a step that is done; its rate is added to its ``values``."""
        state = self.state
        self.rehearsal.renew(state, by_loss=self.task.validation is None)
        factor = rise(state) * self.schedule(self.state.progress(self.trainer))
        for group, rate in zip(self.optimiser.param_groups, self.rate, strict=True):
            group["lr"] = rate * factor
        values["rate"] = float(self.optimiser.param_groups[0]["lr"])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update()
        state.take_in(values["loss"])
        state.order, state.chance = self.feed.sampler.state_dict(), random_state()
        state.step += 1
        state.minutes = self.clock.minutes()
        self.diary.add_step(state.step, values, state.minutes)

    def clipped(self, ids: list[str]) -> float:
        """Shorten the gradient if it is too long, and give its length as it was."""
        longest = self.trainer.clip if self.trainer.clip is not None else math.inf
        length = float(
            self.fabric.clip_gradients(self.module, self.optimiser, max_norm=longest, error_if_nonfinite=False)
        )
        if not self.trainer.precision.startswith("16"):  # scaled gradients of 16 bits overflow now and then
            check_gradient(length, ids, self.state.step + 1)
        return length

    # --- validation ---------------------------------------------------------------------------------------------------
    def validate(self) -> None:
        """Measure the mean weights, keep them if they are the best so far."""
        with self.clock.counting("validation"), self.average.applied():
            self.module.eval()
            self.state.before = self.state.before or self.measure(None)
            figures = self.measure(self.task.aligner)
            self.module.train()
            state = replace(self.state, judged=self.state.step, stale=self.state.stale + 1)
            better = not state.best or merit(figures) > merit(state.best)
            if better:
                state.best, state.stale = figures | {"step": float(state.step)}, 0
                self.saver.keep_best(state)
        self.diary.add_validation(state.step, figures, state.minutes)
        self.state = state  # not before, so that a validation that is interrupted is done again as a whole
        self.diary.tell_validation(state.step, figures, better)

    def measure(self, aligner: Aligner | None) -> dict[str, float]:
        """Figures over all validation pairs; the running loss where there are none."""
        if self.task.validation is None:
            recent = self.state.recent
            return {} if aligner is None or math.isnan(recent) else {"loss": recent}
        return self.judge.over(self.task.validation, aligner, self.fabric)
