"""Lightning Fabric: devices, precision and processes of a training."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .precision import resolved

if TYPE_CHECKING:
    from .trainer import Trainer

_SHELLS = ("bash", "interactive")  # names of jobs in which commands are typed, as Fabric knows them


def fabric_of(trainer: Trainer) -> Any:
    """The Lightning Fabric that a trainer asks for, launched.

    Raises
    ------
    InputError
        If it is not installed or refuses the settings, or this is one of several processes and they ask for one.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise InputError("training", "needs Lightning Fabric", "pip install '.[train]' in the checkout") from None
    try:
        with _silence():
            fabric = Fabric(
                accelerator=trainer.accelerator, devices=trainer.devices, num_nodes=trainer.nodes,
                strategy=trainer.strategy,
                precision=resolved(trainer.precision, trainer.accelerator),  # type: ignore[arg-type]
            )  # fmt: skip
            fabric.launch()
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(
            "trainer", " ".join(str(error).split())[:250], "check accelerator, devices, strategy, precision"
        ) from error
    if (count := started()) > 1 and fabric.world_size == 1:
        raise InputError(
            "trainer.devices", f"{count} processes were started, each of them would train alone in one folder",
            f"trainer.devices=N trainer.strategy=ddp, with trainer.nodes=M on several machines: {count} in all",
        )  # fmt: skip
    return fabric


def started() -> int:
    """How many processes torchrun or SLURM's srun have started this command in; 1 where neither has."""
    several = [os.environ.get("WORLD_SIZE", "")]
    if os.environ.get("SLURM_JOB_NAME") not in _SHELLS:
        several.append(os.environ.get("SLURM_STEP_NUM_TASKS", ""))  # a job that is no step has one process
    return max(int(number) if number.isdigit() else 1 for number in several)


@contextmanager
def _silence() -> Iterator[None]:
    """Warnings alone: Fabric writes on the terminal what it does, whoever asked it."""
    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
