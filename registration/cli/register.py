"""``registration register``: bring one image onto another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .options import (
    Channel,
    Checkpoint,
    Device,
    DryRun,
    Initial,
    LabelChannel,
    LabelInterpolation,
    Loss,
    Overrides,
    Overwrite,
    PointsSpace,
    Preset,
    Quiet,
    Refine,
    Seed,
    Spacing,
    Transform,
    axes_named,
    numbers,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from .case import Inputs

_IMAGES = "Images and masks"
_CHECKS = "Labels and landmarks to judge by"


def register(
    fixed: Annotated[Path, typer.Option("--fixed", "-f", help="The image that stays.", show_default=False)],
    moving: Annotated[
        Path, typer.Option("--moving", "-m", help="The image that is brought onto it.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)
    ] = None,
    transform: Transform = None,
    preset: Preset = None,
    loss: Loss = None,
    initial: Initial = None,
    fixed_mask: Annotated[
        Path | None, typer.Option(help="Where the fixed image counts.", rich_help_panel=_IMAGES)
    ] = None,
    moving_mask: Annotated[
        Path | None, typer.Option(help="Where the moving image counts.", rich_help_panel=_IMAGES)
    ] = None,
    channel: Channel = None,
    spacing: Spacing = None,
    fixed_labels: Annotated[Path | None, typer.Option(help="For Dice per label.", rich_help_panel=_CHECKS)] = None,
    moving_labels: Annotated[Path | None, typer.Option(help="Are warped as well.", rich_help_panel=_CHECKS)] = None,
    label_channel: LabelChannel = None,
    label_interpolation: LabelInterpolation = None,
    fixed_points: Annotated[Path | None, typer.Option(help="For distances in mm.", rich_help_panel=_CHECKS)] = None,
    moving_points: Annotated[
        Path | None, typer.Option(help="In the same order, or with the same names.", rich_help_panel=_CHECKS)
    ] = None,
    points_space: PointsSpace = None,
    checkpoint: Checkpoint = None,
    refine: Refine = None,
    seed: Seed = None,
    device: Device = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    overrides: Overrides = None,
) -> None:
    """Bring MOVING onto FIXED.

    OUTPUT receives warped.nii.gz, transform.h5 (exact, and readable by ITK and ANTs), metrics.json, overview.png and
    config.yaml; with labels also warped_labels.nii.gz.
    """
    from .case import Inputs

    named = {"transform": transform, "preset": preset, "loss": loss, "seed": seed, "device": device}
    named |= {"label_interpolation": label_interpolation}
    words, file = chosen(named, initial, checkpoint, refine)
    settings = settings_of([*words, *(overrides or ())])
    inputs = Inputs(
        fixed, moving, fixed_mask, moving_mask, fixed_labels, moving_labels, fixed_points, moving_points,
        axes_named(points_space), channel, numbers("--spacing", spacing), label_channel,
    )  # fmt: skip
    if dry_run:
        from .dry_run import dry_run as rehearse

        rehearse(inputs, settings, file, None if output is None else (output, overwrite))
        return
    if output is None:
        raise InputError("--output", "is missing", "name a folder for the results, or give --dry-run")
    _run(inputs, settings, file, output, (overwrite, quiet))


def _run(inputs: Inputs, settings: DictConfig, start: Path | None, output: Path, say: tuple[bool, bool]) -> None:
    """Register into ``output``; ``say`` is --overwrite and --quiet."""
    from .outputs import output_folder
    from .progress import watching
    from .run import OUTPUTS, run_registration

    overwrite, quiet = say
    with output_folder(output, overwrite, OUTPUTS) as folder, watching(quiet) as watcher:
        outcome = run_registration(inputs, settings, folder, watcher, start)
    status = outcome.report(quiet)
    if not quiet:
        typer.echo(f"results in {output}")
    if status:
        raise typer.Exit(status)


def chosen(
    named: Mapping[str, str | int | None], initial: str | None, checkpoint: Path | None, refine: int | None
) -> tuple[list[str], Path | None]:
    """What options of ``register`` and ``batch`` ask for: ``key=value`` each, and the transform file to start from.

    Parameters
    ----------
    named
        Options that are called as the settings are, None where they were not given.

    Raises
    ------
    InputError
        If a start or file is not there, or options exclude each other.
    """
    from .settings import choices

    start, file = start_of(initial, choices("initial"))
    words = dict(named)
    if checkpoint is not None or refine is not None:
        _network(words, checkpoint, refine)
        start = "network" if start is None and file is None else start
    return [f"{key}={value}" for key, value in {**words, "initial": start}.items() if value is not None], file


def settings_of(words: list[str]) -> DictConfig:
    """The settings of a registration, from ``key=value`` each.

    Raises
    ------
    InputError
        If a word is wrong, or is about a network where none is used.
    """
    from omegaconf import OmegaConf

    from .settings import compose

    settings = compose("register", words)
    references = OmegaConf.to_yaml(settings)
    for key in ("checkpoint", "refine"):
        if settings.get(key) and f"${{{key}}}" not in references:
            cure = "give --checkpoint FILE, or transform=network as well"
            raise InputError(f"{key}={settings[key]}", "is about a network, but none is used", cure)
    return settings


def _network(named: dict[str, str | int | None], checkpoint: Path | None, refine: int | None) -> None:
    """Let a trained network be what aligns.

    Raises
    ------
    InputError
        If its file is not given or missing, or another transform is asked for.
    """
    from ..io.files import existing_file
    from .settings import quoted

    if checkpoint is None:
        raise InputError("--refine", "needs --checkpoint", "without a network, --preset says how much work is done")
    if named["transform"] is not None:
        raise InputError(f"--transform {named['transform']}", "cannot be had from --checkpoint", "give one of the two")
    # Workers of a batch may live in another folder.
    named |= {
        "transform": "network",
        "checkpoint": quoted(os.path.abspath(existing_file(checkpoint))),
        "refine": refine,
    }


def start_of(initial: str | None, words: list[str]) -> tuple[str | None, Path | None]:
    """The configured start, or the transform file, that ``--initial`` names.

    Raises
    ------
    InputError
        If it is neither.
    """
    if initial is None or initial in words:
        return initial, None
    if initial and (Path(initial).exists() or Path(initial).suffix):
        return None, Path(initial)
    from .settings import nearest

    raise InputError(f"--initial {initial}", "is neither a way to start nor a file", nearest(initial, words))
