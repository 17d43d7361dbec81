"""``registration register``: bring one image onto another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .method import Method, settings_of
from .options import (
    Channel,
    Checkpoint,
    Device,
    DryRun,
    FixedChannel,
    FixedWindow,
    Initial,
    LabelChannel,
    LabelInterpolation,
    Loss,
    MovingChannel,
    MovingWindow,
    Overrides,
    Overwrite,
    PointsSpace,
    Preset,
    Quiet,
    Refine,
    Seed,
    Spacing,
    Transform,
    Window,
    axes_named,
    numbers,
)
from .windows import windows_named

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ..io.links import Link
    from .case import Inputs

_IMAGES = "Images and masks"
_CHECKS = "Labels and landmarks to judge by"


def _image(*names: str, text: str) -> Any:
    """The option of one of the two images, by its long and short name."""
    return typer.Option(*names, metavar="FILE", help=text, show_default=False)


_Fixed = Annotated[
    list[Path], _image("--fixed", "-f", text="The image that stays. Given again: another contrast of it.")
]
_Moving = Annotated[
    list[Path],
    _image("--moving", "-m", text="The image that is brought onto it. Its contrasts in the same order."),
]
_Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)]
_Also = Annotated[
    list[Path] | None,
    typer.Option(
        "--also", metavar="FILE", help="Another image of the moving side: warped_NAME.nii.gz. May be repeated.",
        rich_help_panel=_IMAGES, show_default=False,
    ),
]  # fmt: skip
_FixedMask = Annotated[Path | None, typer.Option(help="Where the fixed image counts.", rich_help_panel=_IMAGES)]
_MovingMask = Annotated[Path | None, typer.Option(help="Where the moving image counts.", rich_help_panel=_IMAGES)]
_FixedLabels = Annotated[Path | None, typer.Option(help="For Dice per label.", rich_help_panel=_CHECKS)]
_MovingLabels = Annotated[Path | None, typer.Option(help="Are warped as well.", rich_help_panel=_CHECKS)]
_FixedPoints = Annotated[Path | None, typer.Option(help="For distances in mm.", rich_help_panel=_CHECKS)]
_MovingPoints = Annotated[
    Path | None, typer.Option(help="In the same order, or with the same names.", rich_help_panel=_CHECKS)
]


def register(
    fixed: _Fixed,
    moving: _Moving,
    output: _Output = None,
    transform: Transform = None,
    preset: Preset = None,
    loss: Loss = None,
    initial: Initial = None,
    fixed_mask: _FixedMask = None,
    moving_mask: _MovingMask = None,
    also: _Also = None,
    channel: Channel = None,
    fixed_channel: FixedChannel = None,
    moving_channel: MovingChannel = None,
    window: Window = None,
    fixed_window: FixedWindow = None,
    moving_window: MovingWindow = None,
    spacing: Spacing = None,
    fixed_labels: _FixedLabels = None,
    moving_labels: _MovingLabels = None,
    label_channel: LabelChannel = None,
    label_interpolation: LabelInterpolation = None,
    fixed_points: _FixedPoints = None,
    moving_points: _MovingPoints = None,
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

    method = Method(transform, preset, loss, initial, checkpoint, refine, label_interpolation, seed, device, overrides)
    words, start = method.chosen()
    settings = settings_of(words)
    inputs = Inputs(
        fixed[0], moving[0], fixed_mask, moving_mask, fixed_labels, moving_labels, fixed_points, moving_points,
        axes_named(points_space), channel, numbers("--spacing", spacing), label_channel, fixed_channel, moving_channel,
        tuple(also or ()), tuple(fixed[1:]), tuple(moving[1:]),
        **windows_named(window, fixed_window, moving_window),
    )  # fmt: skip
    run = _Run(inputs, settings, start, output, overwrite, quiet)
    run.rehearse() if dry_run else run()


@dataclass(frozen=True)
class _Run:
    """What is registered and how, the transform files to start from, and where the results go."""

    inputs: Inputs
    settings: DictConfig
    start: tuple[Link, ...]
    output: Path | None
    overwrite: bool
    quiet: bool

    def rehearse(self) -> None:
        """Check everything, and write nothing."""
        from .dry_run import dry_run

        place = None if self.output is None else (self.output, self.overwrite)
        dry_run(self.inputs, self.settings, self.start, place)

    def __call__(self) -> None:
        """Register, and tell how it went."""
        from .also import written_before
        from .outputs import output_folder
        from .progress import watching
        from .run import OUTPUTS, run_registration

        if self.output is None:
            raise InputError("--output", "is missing", "name a folder for the results, or give --dry-run")
        ours = (*OUTPUTS, *written_before(self.output))
        with output_folder(self.output, self.overwrite, ours) as folder, watching(self.quiet) as watcher:
            outcome = run_registration(self.inputs, self.settings, folder, watcher, self.start)
        status = outcome.report(self.quiet)
        if not self.quiet:
            typer.echo(f"results in {self.output}")
        if status:
            raise typer.Exit(status)
