"""``registration convert``: the same transform in another program's format; and what ``invert`` shares with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Overwrite, Quiet, TransformFile

if TYPE_CHECKING:
    from ..io.transforms import TransformInfo
    from ..space import Space
    from ..transforms.base import Transform

To = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help=".h5; .tfm or .mat (ITK, linear); .txt (RAS matrix, linear); .nii.gz (one displacement field, as ANTs).",
        show_default=False,
    ),
]
Fixed = Annotated[Path | None, typer.Option("--fixed", "-f", help="Fixed image, if TRANSFORM does not know its grid.")]
Moving = Annotated[
    Path | None, typer.Option("--moving", "-m", help="Moving image, if TRANSFORM does not know its grid.")
]
Slicer = Annotated[bool, typer.Option("--slicer", help="A .tfm is a thin-plate spline as 3D Slicer reads it.")]


def convert(
    transform: TransformFile,
    output: To,
    fixed: Fixed = None,
    moving: Moving = None,
    slicer: Slicer = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write TRANSFORM in the format that the ending of OUTPUT names, still fixed -> moving."""
    chain, info, notices = load(transform, output, overwrite, (fixed, moving))
    notices += save(output, chain, (info.fixed, info.moving), slicer, info.provenance)
    report(output, notices, quiet)


def load(
    transform: Path, output: Path, overwrite: bool, images: tuple[Path | None, Path | None]
) -> tuple[Transform, TransformInfo, list[str]]:
    """A transform with the grids of its images, which replace those of the file where images are given.

    Raises
    ------
    InputError
        If something cannot be read, does not go together, or ``output`` is there and may not be replaced.
    """
    from ..errors import InputError
    from ..io.images import load_image
    from ..io.transforms import read_transform
    from .outputs import check_file

    check_file(output, overwrite, [transform, *(path for path in images if path is not None)])
    chain, info = read_transform(transform)
    notices = list(info.notices)
    grids = [info.fixed, info.moving]
    for role, path in enumerate(images):
        if path is not None:
            # Only the grid counts, so any volume of the file will do.
            grids[role] = load_image(path, channel=0).image.space
    for grid, path in zip(grids, images, strict=True):
        if grid is not None and grid.ndim != chain.ndim:
            raise InputError(str(path), f"has {grid.ndim} axes, {transform} is a {chain.ndim}-D transform")
    return chain, replace(info, fixed=grids[0], moving=grids[1]), notices


def save(
    output: Path,
    chain: Transform,
    grids: tuple[Space | None, Space | None],
    slicer: bool = False,
    provenance: dict[str, Any] | None = None,
) -> list[str]:
    """Write a transform in the format of the ending; ``grids`` are those of the fixed and the moving image.

    ``provenance`` is kept where the format has a place for it.

    Returns
    -------
    What had to be decided.

    Raises
    ------
    InputError
        If the ending is not known, the format cannot hold the transform, or a grid that it needs is missing.
    """
    from ..errors import InputError
    from ..io import exports
    from ..io.transforms import write_transform

    name = output.name.lower()
    if slicer:
        exports.write_slicer_tps(output, chain)
    elif name.endswith((".tfm", ".mat")):
        exports.write_itk_affine(output, chain)
    elif name.endswith(".txt"):
        exports.write_ras_matrix(output, chain)
    elif name.endswith((".nii", ".nii.gz")):
        return exports.write_ants_warp(output, chain, _needed(output, grids[0], "--fixed"))
    elif name.endswith((".h5", ".hdf5")):
        grid = _needed(output, grids[0], "--fixed"), _needed(output, grids[1], "--moving")
        write_transform(output, chain, *grid, provenance=provenance)
    else:
        raise InputError(output, "its ending names no transform format", "use .h5, .tfm, .mat, .txt or .nii.gz")
    return []


def report(output: Path, notices: list[str], quiet: bool) -> None:
    """Tell what happened."""
    if quiet:
        return
    for text in notices:
        typer.echo(f"note: {text}", err=True)
    typer.echo(f"wrote {output}")


def _needed(output: Path, grid: Space | None, option: str) -> Space:
    from ..errors import InputError

    if grid is None:
        raise InputError(output, "the transform file does not know the grids of its images", f"give {option}")
    return grid
