"""What ``batch`` does with a pair: the same as ``register``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.attempt import Findings, Work
from ..batch.record import Settings, Status
from ..batch.table import PairRow
from .options import axes_named, numbers
from .windows import Ends

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ..io.links import Link
    from .case import Inputs

# Choices that runs of earlier versions did not have.
_LATER = ("fixed_channel", "moving_channel", "window", "fixed_window", "moving_window")


@dataclass(frozen=True)
class HowToRead:
    """How the files of pairs are read; see :class:`~registration.cli.case.Inputs`."""

    points_space: str | None = None
    channel: int | None = None
    spacing: tuple[float, ...] | None = None
    label_channel: int | None = None
    fixed_channel: int | None = None
    moving_channel: int | None = None
    window: Ends | None = None
    fixed_window: Ends | None = None
    moving_window: Ends | None = None

    @staticmethod
    def of(
        points_space: str | None,
        channel: int | None,
        spacing: str | None,
        label_channel: int | None,
        fixed_channel: int | None,
        moving_channel: int | None,
    ) -> HowToRead:
        """From what the options say.

        Raises
        ------
        InputError
            If they say what cannot be.
        """
        steps = numbers("--spacing", spacing)
        return HowToRead(axes_named(points_space), channel, steps, label_channel, fixed_channel, moving_channel)

    def of_pair(self, row: PairRow) -> HowToRead:
        """The same for one pair, whose own choice in the table counts before that of all."""
        own: dict[str, Any] = dict(row.channels())
        return replace(self, **own)

    def inputs(self, row: PairRow, labels: bool = True) -> Inputs:
        """The files of a pair and how to read them; without its ``labels`` if they are read apart."""
        from .case import Inputs

        left_out = () if labels else ("fixed_labels", "moving_labels")
        files: dict[str, Any] = {name: path for name, path in row.files().items() if name not in left_out}
        return Inputs(**files, **asdict(self.of_pair(row)))

    def described(self) -> dict[str, Any]:
        """What was chosen, as plain values for a file."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def settled(self) -> str:
        """What counts among the settings of a run, the same for what was chosen before there were all these choices."""
        told = {name: value for name, value in asdict(self).items() if value is not None or name not in _LATER}
        return f"HowToRead({', '.join(f'{name}={value!r}' for name, value in told.items())})"


@dataclass(frozen=True)
class RegisterPair(Work):
    """Registers a pair as ``register`` does.

    Parameters
    ----------
    configuration
        The composed settings as plain values, references unresolved.
    initial
        The transform files that every pair starts from, in place of the configured start.
    arguments
        The words of the command line.
    """

    settings: Settings
    configuration: dict[str, Any]
    reading: HowToRead
    initial: tuple[Link, ...]
    arguments: tuple[str, ...]

    def prepare(self) -> None:
        """Load torch and everything else."""
        from . import run  # noqa: F401

    def __call__(self, row: PairRow, folder: Path) -> Findings:
        from omegaconf import OmegaConf

        from .arguments import given
        from .progress import Quiet
        from .run import run_registration

        given.set(self.arguments)
        inputs = self.reading.inputs(row)
        outcome = run_registration(inputs, OmegaConf.create(self.configuration), folder, Quiet(), self.initial)
        kept = outcome.figures.get("verdict", {}).get("kept") == "initial"
        return Findings(Status.KEPT_INITIAL if kept else Status.DONE, outcome.figures["sha256"])


def register_pair(
    configuration: DictConfig,
    words: Sequence[str],
    reading: HowToRead,
    initial: Sequence[Link],
    arguments: Sequence[str],
) -> RegisterPair:
    """The work of ``batch`` with these settings.

    Parameters
    ----------
    words
        What was chosen, ``key=value`` each.

    Raises
    ------
    InputError
        If ``initial`` is not there, or the checkpoint of a network cannot be read.
    """
    from omegaconf import OmegaConf

    from ..io.files import sha256
    from ..io.links import roles
    from .interpolations import label_interpolation

    label_interpolation(configuration)  # refused once, before anything starts, rather than in every pair
    network = OmegaConf.select(configuration, "checkpoint")
    if network is not None:
        from ..training.checkpoints import read_checkpoint

        read_checkpoint(network)
    starts = [sha256(link.file) + ",fsl" * link.fsl + ",1" * link.inverse for link in initial]
    files = [starts[0] if len(starts) == 1 else starts or None, None if network is None else sha256(network)]
    whole = [OmegaConf.to_container(configuration, resolve=True), reading.settled(), *files]
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()
    told = [*words, *(f"{name}={value}" for name, value in reading.described().items())]
    told += [f"{name}={link}" for name, link in roles("initial", initial).items()]
    # So that another content under the same name can be told apart in words.
    shas = dict(zip(roles("initial", initial), starts, strict=True)) | {"checkpoint": files[1]}
    told += [f"{name}.sha256={sha[:8]}" for name, sha in shas.items() if sha]
    plain: Any = OmegaConf.to_container(configuration)
    there = tuple(replace(link, file=Path(os.path.abspath(link.file))) for link in initial)
    return RegisterPair(Settings(tuple(told), digest), plain, reading, there, tuple(arguments))
