"""What ``batch`` does with a pair: the same as ``register``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.attempt import Findings, Work
from ..batch.record import Settings, Status
from ..batch.table import PairRow

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class HowToRead:
    """How the files of all pairs are read; see :class:`~registration.cli.case.Inputs`."""

    points_space: str | None = None
    channel: int | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class RegisterPair(Work):
    """Registers a pair as ``register`` does.

    Parameters
    ----------
    configuration
        The composed settings as plain values, references unresolved.
    initial
        The transform file that every pair starts from, in place of the configured start.
    arguments
        The words of the command line.
    """

    settings: Settings
    configuration: dict[str, Any]
    reading: HowToRead
    initial: Path | None
    arguments: tuple[str, ...]

    def prepare(self) -> None:
        """Load torch and everything else."""
        from . import run  # noqa: F401

    def __call__(self, row: PairRow, folder: Path) -> Findings:
        from omegaconf import OmegaConf

        from .arguments import given
        from .case import Inputs
        from .progress import Quiet
        from .run import run_registration

        files: dict[str, Any] = dict(row.files())
        how = self.reading
        inputs = Inputs(**files, points_space=how.points_space, channel=how.channel, spacing=how.spacing)
        given.set(self.arguments)
        outcome = run_registration(inputs, OmegaConf.create(self.configuration), folder, Quiet(), self.initial)
        kept = outcome.figures.get("verdict", {}).get("kept") == "initial"
        return Findings(Status.KEPT_INITIAL if kept else Status.DONE, outcome.figures["sha256"])


def register_pair(
    configuration: DictConfig, words: Sequence[str], reading: HowToRead, initial: Path | None, arguments: Sequence[str]
) -> RegisterPair:
    """The work of ``batch`` with these settings.

    Parameters
    ----------
    words
        What was chosen, ``key=value`` each.

    Raises
    ------
    InputError
        If ``initial`` is not there.
    """
    from omegaconf import OmegaConf

    from ..io.files import sha256

    start = None if initial is None else (str(initial), sha256(initial))
    whole = [OmegaConf.to_container(configuration, resolve=True), str(reading), start and start[1]]
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()
    told = [
        *words,
        *(f"{f.name}={getattr(reading, f.name)}" for f in fields(reading) if getattr(reading, f.name) is not None),
    ]
    told += [f"initial={initial}"] if initial is not None else []
    plain: Any = OmegaConf.to_container(configuration)
    return RegisterPair(
        Settings(tuple(told), digest), plain, reading, initial and Path(os.path.abspath(initial)), tuple(arguments)
    )
