"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError

PairsTable = Annotated[
    Path,
    typer.Argument(metavar="PAIRS.CSV", help="Columns id, fixed, moving; perhaps fixed_labels ...", show_default=False),
]
TransformFiles = Annotated[
    list[str],
    typer.Option(
        "--transform", "-t", metavar="FILE",
        help="Transform file, fixed -> moving; [FILE,1]: its inverse; [FILE,fsl]: a matrix of FLIRT. Several: from the "
        "fixed side to the moving one.",
        show_default=False,
    ),
]  # fmt: skip
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the levels with time and memory, and stop.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")]
Channel = Annotated[
    int | None, typer.Option("--channel", min=0, help="Volume of a 4-D file, or component of a colour image, from 0.")
]
FixedChannel = Annotated[int | None, typer.Option("--fixed-channel", min=0, help="--channel of the fixed image alone.")]
MovingChannel = Annotated[
    int | None, typer.Option("--moving-channel", min=0, help="--channel of the moving image alone.")
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window", metavar="LOW,HIGH",
        help="Intensities that count (HU in CT): beyond, they are aligned and judged as the ends. LOW or HIGH may be "
        "left empty. For the first contrast; results keep their values.",
    ),
]  # fmt: skip
FixedWindow = Annotated[
    str | None, typer.Option("--fixed-window", metavar="LOW,HIGH", help="--window of the fixed image alone.")
]
MovingWindow = Annotated[
    str | None, typer.Option("--moving-window", metavar="LOW,HIGH", help="--window of the moving image alone.")
]
LabelChannel = Annotated[
    int | None,
    typer.Option(
        "--label-channel", min=0, help="Volume of 4-D label files, from 0.",
        rich_help_panel="Labels and landmarks to judge by",
    ),
]  # fmt: skip
LabelInterpolation = Annotated[
    str | None,
    typer.Option(
        "--label-interpolation", help="nearest or label (linear vote), for warped_labels.nii.gz and Dice.",
        metavar="NAME", rich_help_panel="Labels and landmarks to judge by",
    ),
]  # fmt: skip
Spacing = Annotated[
    str | None,
    typer.Option("--spacing", metavar="MM[,MM...]", help="Voxel spacing that replaces that of the image files."),
]

Transform = Annotated[
    str | None,
    typer.Option(
        "--transform", "-t", help="rigid, similarity, affine, tps, diffeomorphic, near (rigid, held near its start).",
        metavar="NAME",
    ),
]  # fmt: skip
Preset = Annotated[str | None, typer.Option("--preset", help="How much work: fast, default, accurate.", metavar="NAME")]
Loss = Annotated[
    str | None,
    typer.Option("--loss", help="What is minimised: auto, mi, ncc, lncc, mse, mind, ngf, mi_mind.", metavar="NAME"),
]
Initial = Annotated[
    list[str] | None,
    typer.Option(
        "--initial",
        help="Where to start: auto, header, centre, mass, moments, search, a transform file, or several in a row; with "
        "checkpoint=FILE also pose, network.",
        metavar="NAME|FILE",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint", help="Network (best.pt of registration train) that aligns, instead of --transform.",
        rich_help_panel="A trained network",
    ),
]  # fmt: skip
Refine = Annotated[
    int | None,
    typer.Option(
        "--refine", min=0, help="Steps of the usual engine after it, at half and at full resolution each.",
        rich_help_panel="A trained network",
    ),
]  # fmt: skip
PointsSpace = Annotated[
    str | None,
    typer.Option(
        help="ras, lps (mm) or voxel: what the tables hold.",
        metavar="NAME",
        rich_help_panel="Labels and landmarks to judge by",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Of everything random; 0 without.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda; cpu without.", metavar="NAME")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Further settings, as in config.yaml.", show_default=False),
]


def axes_named(points_space: str | None) -> str | None:
    """What ``--points-space`` says, in small letters.

    Raises
    ------
    InputError
        If it is none of ras, lps and voxel.
    """
    if points_space is None:
        return None
    from .settings import choose

    return choose("--points-space ", points_space.lower(), ("ras", "lps", "voxel"))


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """The positive numbers of ``1,1,2.5`` or ``1x1x2.5``.

    Raises
    ------
    InputError
        If it is something else.
    """
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.replace("x", ",").replace(" ", ",").split(",") if part)
    except ValueError:
        values = ()
    if not values or not all(0 < v < float("inf") for v in values):
        raise InputError(f"{option} {text}", "positive numbers in mm were expected", f"for example {option} 0.5,0.5,2")
    return values
