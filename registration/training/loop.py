"""The loop of training: steps, validations, checkpoints, until an end is reached."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..pairwise.observe import Observer
from ..randomness import random_state, restore_random_state
from ..registrar import Aligner
from .average import Average
from .batch import Collate, PairBatch
from .checkpoints import Shelf, resumable, write_checkpoint
from .data.sampler import PairLoader, PairSampler
from .diary import Diary
from .guards import check_gradient, check_losses, check_together
from .objective import Box, Learner, Term
from .schedules import Schedule
from .trainer import Outcome, Task, Trainer, fabric_of
from .validation import Judge, means, merit, settled

_log = logging.getLogger(__name__)
_RISE = 100  # steps in which the rate rises where the optimiser begins anew


class Loop:
    """The state of a training and what moves it on; :meth:`Trainer.fit` makes one."""

    def __init__(
        self, trainer: Trainer, task: Task, folder: Path, optimiser: torch.optim.Optimizer, schedule: Schedule
    ) -> None:
        self.trainer, self.task, self.schedule = trainer, task, schedule
        check_together(trainer, task)
        self.fabric = fabric_of(trainer)
        learner = Learner(task.aligner, task.objective, trainer.symmetric)
        self.module, self.optimiser = self.fabric.setup(learner, optimiser)
        self.rate = [group["lr"] for group in optimiser.param_groups]
        self.average = Average(task.aligner, trainer.average)
        self.collate = Collate(task.start)
        self.judge = Judge(task.objective, self.collate, self.fabric.device)
        self.sampler = PairSampler(
            len(task.train), seed=int(task.config.get("seed", 0)), per_epoch=task.per_epoch,  # type: ignore[arg-type]
            rank=self.fabric.global_rank, ranks=self.fabric.world_size,
        )  # fmt: skip
        self.shelf, self.folder = Shelf(folder, trainer.keep), folder
        self.step, self.minutes, self.stale = 0, 0.0, 0
        self.judged = -1  # the step after which the last validation came to its end
        self.left = self.sampler.state_dict(), random_state()  # how order and chance stood after the last step
        self.foreseen = False  # whether the pairs of the rehearsal were shown to those who prepare for them
        self.begun = 0  # the step after which the optimiser began
        self.recent = math.nan
        self.whole = True  # false while weights are being changed
        self.before: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.seconds = dict.fromkeys(("data", "engine", "step", "update", "validation", "files"), 0.0)

    # --- from start to end --------------------------------------------------------------------------------------------
    def run(self, resume: Path | None, observer: Observer) -> Outcome:
        """Train until an end is reached."""
        if resume is not None:
            self.restore(resume)
        self.diary = Diary(self.folder, None if resume is None else self.step, observer, self.fabric.is_global_zero)
        self.diary.observer.stage("training", self.trainer.max_steps or 0, self.step)
        self.module.train()
        try:
            if self.due(self.reason()) or not self.best:
                self.validate()
            reason = self.steps()
        except InputError:
            raise  # what is refused now would be refused again
        except (KeyboardInterrupt, SystemExit, Exception) as error:
            # Whoever stops a run, such as a cluster, wants to go on later.
            if self.step or not isinstance(error, Exception):
                self.rescue()
            raise
        finally:
            self.diary.close()
        return Outcome(self.best, self.before, self.step, self.minutes, reason, self.seconds)

    def steps(self) -> str:
        """Step after step until there is a reason to end, which is given."""
        batches, reason = self.batches(), self.reason()
        before, began = self.minutes, time.perf_counter()
        while not reason:
            values = self.advance(batches)
            self.minutes = self.together(before + (time.perf_counter() - began) / 60)
            self.diary.step(self.step, values, self.minutes)
            # What ends with the last step is validated there.
            reason = self.reason()
            if self.due(reason):
                self.validate()
                reason = reason or self.reason()
            self.minutes = self.together(before + (time.perf_counter() - began) / 60)
            if reason or self.step % self.trainer.save_every == 0:
                self.save()
        return reason

    def due(self, reason: str) -> bool:
        """Whether a validation belongs here that has not been done: before the first step, now and then, and last."""
        return self.judged != self.step and (self.step % self.trainer.validate_every == 0 or bool(reason))

    def together(self, minutes: float) -> float:
        """The clock of the first process, which decides for all: rates, and the pairs that come again, are the same."""
        return float(self.fabric.broadcast(minutes)) if self.fabric.world_size > 1 else minutes

    def progress(self) -> float:
        """How much of the training is done, 0 to 1, by steps or by the clock, whichever is further."""
        t = self.trainer
        by_steps = 0.0 if t.max_steps is None else self.step / t.max_steps
        by_clock = 0.0 if t.max_minutes is None else self.minutes / t.max_minutes
        return min(1.0, max(by_steps, by_clock))

    def reason(self) -> str:
        """Why training ends now; nothing if it goes on."""
        t, text = self.trainer, ""
        if t.max_steps is not None and self.step >= t.max_steps:
            text = f"{t.max_steps} steps are done"
        elif t.max_minutes is not None and self.minutes >= t.max_minutes:
            text = f"{t.max_minutes:g} minutes are over"
        elif t.patience is not None and self.stale >= t.patience:
            text = f"no improvement in {self.stale} validations"
        return str(self.fabric.broadcast(text)) if self.fabric.world_size > 1 else text  # all processes end together

    # --- one step -----------------------------------------------------------------------------------------------------
    def batches(self) -> Iterator[PairBatch]:
        """Batches without end, epoch after epoch, from where the sampler stands."""
        loader = self.loader()
        while True:
            self.rehearse()
            self.task.objective.rehearsing = self.sampler.repeated is not None
            yield from loader
            self.sampler.next_epoch()

    def loader(self) -> PairLoader:
        """The batches that are left of an epoch."""
        return PairLoader(
            self.task.train, batch_size=self.trainer.batch_size, sampler=self.sampler, collate_fn=self.collate,
            num_workers=self.trainer.workers, persistent_workers=self.trainer.workers > 0,
            pin_memory=self.fabric.device.type == "cuda",
            # Every look through the loader draws a number, also that of a resumed run: not from what networks draw.
            generator=torch.Generator(),
        )  # fmt: skip

    def rehearse(self) -> None:
        """Let the pairs of the epoch that begins come again and again, once so much of the training is done.

        Where terms count from now on, the optimiser begins anew: their gradients are of another size, and with Adam's
        memory of the old ones its steps would throw the network about. The running loss is forgotten too.
        """
        share, begins = self.trainer.rehearse, self.sampler.position == 0  # a resumed run may be within an epoch
        if share is None or not begins or self.sampler.repeated is not None or self.progress() < share:
            return
        self.sampler.repeat()
        if any(term.asked == "rehearsal" for term in self.task.objective.terms.values()):
            self.optimiser.optimizer.state.clear()
            self.begun = self.step
            self.recent = math.nan
            if self.task.validation is None:  # then the running loss chooses, and it is another from now on
                self.best, self.stale = self.best | {"loss": math.inf}, 0

    def foresee(self) -> None:
        """Show the pairs of a rehearsal, those that are left of this epoch, to the terms that count in it."""
        self.foreseen = True
        coming = {name: term for name, term in self.task.objective.terms.items() if term.asked == "rehearsal"}
        told = f", with {' and '.join(coming)} (which may take a while to prepare)" if coming else ""
        self.diary.observer.note(
            f"step {self.step}: from here the same {self.sampler.per_epoch} pairs come again{told}"
        )
        with self.clocked("engine"):
            for term in coming.values():
                assert isinstance(term, Term)
                term.foresee(self.loader())

    def rate_now(self) -> float:
        """The factor of the learning rate: that of the schedule, after a rise where the optimiser began anew."""
        rising = min(1.0, (self.step - self.begun + 1) / _RISE) if self.begun else 1.0
        return rising * self.schedule(self.progress())

    def advance(self, batches: Iterator[PairBatch]) -> dict[str, float]:
        """One step of the optimiser; the means of what the objective said, the length of the gradient, the rate."""
        t = self.trainer
        sums: dict[str, float] = {}
        ids: list[str] = []
        for number in range(t.accumulate):
            with self.clocked("data"):
                batch = next(batches).to(self.fabric.device)
            if self.task.objective.rehearsing and not self.foreseen:
                self.foresee()
            with self.clocked("data"):
                self.sampler.advance(batch.size)  # before the next batch, which may be of the next epoch
                if self.task.augmentation is not None:
                    batch = self.task.augmentation(batch)
            ids += batch.ids
            with (
                self.clocked("step"),
                self.fabric.no_backward_sync(self.module, enabled=number < t.accumulate - 1),
            ):
                values = self.module(Box(batch))
                check_losses(values["loss"].detach(), batch.ids, self.step + 1)
                self.fabric.backward(values["loss"].mean() / t.accumulate)
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + float(value.detach().mean()) / t.accumulate
        with self.clocked("update"):
            sums["gradient"] = self.clipped(ids)
            for group, rate in zip(self.optimiser.param_groups, self.rate, strict=True):
                group["lr"] = rate * self.rate_now()
            self.whole = False
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            self.average.update()
            self.recent = sums["loss"] if math.isnan(self.recent) else 0.98 * self.recent + 0.02 * sums["loss"]
            self.left = self.sampler.state_dict(), random_state()
            self.step += 1
            self.whole = True
        return {**sums, "rate": float(self.optimiser.param_groups[0]["lr"])}

    def clipped(self, ids: list[str]) -> float:
        """Shorten the gradient if it is too long, and give its length as it was."""
        longest = self.trainer.clip if self.trainer.clip is not None else math.inf
        length = float(
            self.fabric.clip_gradients(self.module, self.optimiser, max_norm=longest, error_if_nonfinite=False)
        )
        if not self.trainer.precision.startswith("16"):  # scaled gradients of 16 bits overflow now and then
            check_gradient(length, ids, self.step + 1)
        return length

    # --- validation ---------------------------------------------------------------------------------------------------
    def validate(self) -> None:
        """Measure the mean weights, keep them if they are the best so far."""
        with self.clocked("validation"), self.average.applied():
            self.module.eval()
            self.before = self.before or self.measure(None)
            figures = self.measure(self.task.aligner)
            self.module.train()
            better = not self.best or merit(figures) > merit(self.best)
            self.stale = 0 if better else self.stale + 1
            if better:
                self.best = figures | {"step": float(self.step)}
                if self.fabric.is_global_zero:
                    write_checkpoint(self.shelf.best, self.content())
        self.judged = self.step
        self.diary.validation(self.step, figures, self.minutes, better)

    def measure(self, aligner: Aligner | None) -> dict[str, float]:
        """Figures over all validation pairs, each process taking its share; the running loss where there are none."""
        if self.task.validation is None:
            return {} if aligner is None or math.isnan(self.recent) else {"loss": self.recent}
        rank, ranks = self.fabric.global_rank, self.fabric.world_size
        items = (self.task.validation[k] for k in range(rank, len(self.task.validation), ranks))  # type: ignore[arg-type]
        totals = self.judge(aligner, items)
        return means(self.fabric.all_reduce(totals, reduce_op="sum") if ranks > 1 else totals)

    # --- checkpoints --------------------------------------------------------------------------------------------------
    def content(self) -> dict[str, Any]:
        """What every checkpoint holds: enough to use the network. Call it where the mean weights are applied."""
        model = {name: value.detach().cpu().clone() for name, value in self.task.aligner.state_dict().items()}
        figures = {"best": dict(self.best), "before": dict(self.before)}
        return {
            "config": self.task.config, "plan": self.task.plan, "model": model, "metrics": figures, "step": self.step
        }  # fmt: skip

    def save(self, together: bool = True) -> None:
        """Write a checkpoint that this run can go on from as if nothing had happened."""
        with self.clocked("files"):
            if self.fabric.is_global_zero:
                self.diary.flush()
                with self.average.applied():
                    content = self.content()
                training = {
                    "weights": self.task.aligner.state_dict(), "optimiser": self.optimiser.state_dict(),
                    "average": self.average.state_dict(), "sampler": self.left[0],
                    "random": self.left[1], "minutes": self.minutes, "stale": self.stale, "recent": self.recent,
                    "judged": self.judged, "begun": self.begun,
                    "precision": self.fabric.strategy.precision.state_dict(),
                }  # fmt: skip
                self.shelf.put({**content, "training": training})
            if together:
                self.fabric.barrier()

    def rescue(self) -> None:
        """Save before an error ends the run, if the weights are those of a step; what hinders that is no new error."""
        try:
            if self.whole:
                self.save(together=False)
        except Exception as error:
            _log.warning("the last steps are not saved: %s", error)

    def restore(self, path: Path) -> None:
        """Take up a run where a checkpoint left it.

        Raises
        ------
        InputError
            If the checkpoint is not one to go on from, or of another network, optimiser or dataset.
        """
        saved = resumable(path, self.task.plan, self.task.config)
        training = saved["training"]
        self.task.aligner.load_state_dict(training["weights"])
        self.optimiser.load_state_dict(training["optimiser"])
        self.average.load_state_dict(training["average"])
        if training.get("precision"):  # nothing but with gradients that are scaled
            self.fabric.strategy.precision.load_state_dict(training["precision"])
        self.sampler.load_state_dict(training["sampler"])
        self.step, self.minutes, self.stale = int(saved["step"]), float(training["minutes"]), int(training["stale"])
        self.best, self.before = dict(saved["metrics"]["best"]), dict(saved["metrics"]["before"])
        if not self.shelf.best.exists():  # gone on with in another folder: the best of this one is still to come
            self.best = {}
        self.judged, self.begun = int(training.get("judged", self.step)), int(training.get("begun", 0))
        self.recent = float(training["recent"])
        self.left = training["sampler"], training["random"]
        restore_random_state(training["random"])

    # --- telling ------------------------------------------------------------------------------------------------------
    @contextmanager
    def clocked(self, name: str) -> Iterator[None]:
        """Count the seconds inside."""
        began = time.perf_counter()
        try:
            yield
            settled(self.fabric.device)
        finally:
            self.seconds[name] += time.perf_counter() - began
