"""``registration convert``: the same transform in another program's format; and what ``invert`` shares with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Overwrite, Quiet, TransformFiles

if TYPE_CHECKING:
    from ..io.links import Link
    from ..io.transforms import TransformInfo
    from ..space import Space
    from ..transforms.base import Transform

To = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help=".h5; .tfm or .mat (ITK, linear); .lta (FreeSurfer, linear); .txt (RAS matrix, linear); .nii.gz (one "
        "displacement field, as ANTs).",
        show_default=False,
    ),
]
Fixed = Annotated[Path | None, typer.Option("--fixed", "-f", help="Fixed image, if TRANSFORM does not know its grid.")]
Moving = Annotated[
    Path | None, typer.Option("--moving", "-m", help="Moving image, if TRANSFORM does not know its grid.")
]
LinearPart = Annotated[
    bool,
    typer.Option("--linear-part", help="Its linear maps alone, without spline and field; as ANTs' 0GenericAffine."),
]
Slicer = Annotated[bool, typer.Option("--slicer", help="A .tfm is a thin-plate spline as 3D Slicer reads it.")]

Fsl = Annotated[bool, typer.Option("--fsl", help="OUTPUT is a matrix of FSL's FLIRT, with -ref FIXED and -in MOVING.")]


def convert(
    transform: TransformFiles,
    output: To,
    fixed: Fixed = None,
    moving: Moving = None,
    linear_part: LinearPart = False,
    slicer: Slicer = False,
    fsl: Fsl = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write TRANSFORM in the format that the ending of OUTPUT names, still fixed -> moving.

    Several are written as one: points of the fixed image go through the first of them first, as in antsApplyTransforms.
    """
    from .inverting import telling_misses

    chain, info, notices = load(links_of(transform), output, overwrite, (fixed, moving))
    if linear_part:
        chain = _linear_part(", ".join(transform), chain, notices)
    with telling_misses(notices):
        notices += save(output, chain, (info.fixed, info.moving), slicer, info.provenance, fsl)
    report(output, notices, quiet)


def links_of(transform: Sequence[str]) -> list[Link]:
    """What ``--transform`` names, from the fixed side to the moving one."""
    from ..io.links import Link

    return [Link.of(text) for text in transform]


def load(
    links: Sequence[Link], output: Path, overwrite: bool, images: tuple[Path | None, Path | None]
) -> tuple[Transform, TransformInfo, list[str]]:
    """Transforms in a row with the grids of their images, which replace those of the files where images are given.

    Raises
    ------
    InputError
        If something cannot be read, does not go together, or ``output`` is there and may not be replaced.
    """
    from ..errors import InputError
    from ..io.images import load_image
    from ..io.links import named, read_links
    from .outputs import check_file

    files = [link.file for link in links]
    check_file(output, overwrite, [*files, *(path for path in images if path is not None)])
    # Only the grid counts, so any volume of the file will do.
    given = [None if path is None else load_image(path, channel=0).image.space for path in images]
    chain, info = read_links(links, (given[0], given[1]))
    notices = list(info.notices)
    grids = [known if own is None else own for own, known in zip(given, (info.fixed, info.moving), strict=True)]
    for grid, path in zip(grids, images, strict=True):
        if grid is not None and grid.ndim != chain.ndim:
            raise InputError(str(path), f"has {grid.ndim} axes, {named(links)} is a {chain.ndim}-D transform")
    return chain, replace(info, fixed=grids[0], moving=grids[1]), notices


def save(
    output: Path,
    chain: Transform,
    grids: tuple[Space | None, Space | None],
    slicer: bool = False,
    provenance: dict[str, Any] | None = None,
    fsl: bool = False,
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
    from ..io import exports, flirt, lta
    from ..io.transforms import write_transform

    name = output.name.lower()
    if slicer and fsl:
        raise InputError("--slicer and --fsl", "are two formats", "give one of them")
    if fsl:
        flirt.write_flirt(output, chain, _needed(output, grids[0], "--fixed"), _needed(output, grids[1], "--moving"))
    elif slicer:
        exports.write_slicer_tps(output, chain)
    elif name.endswith((".tfm", ".mat")):
        exports.write_itk_affine(output, chain)
    elif name.endswith(".txt"):
        exports.write_ras_matrix(output, chain)
    elif name.endswith(".lta"):
        lta.write_lta(output, chain, _needed(output, grids[0], "--fixed"), _needed(output, grids[1], "--moving"))
    elif name.endswith((".nii", ".nii.gz")):
        return exports.write_ants_warp(output, chain, _needed(output, grids[0], "--fixed"))
    elif name.endswith((".h5", ".hdf5")):
        grid = _needed(output, grids[0], "--fixed"), _needed(output, grids[1], "--moving")
        write_transform(output, chain, *grid, provenance=provenance)
    else:
        raise InputError(output, "its ending names no transform format", "use .h5, .tfm, .mat, .lta, .txt or .nii.gz")
    return []


def _linear_part(named: str, chain: Transform, notices: list[str]) -> Transform:
    """What is linear in a chain; a word where that is not all of it."""
    from ..errors import InputError
    from ..transforms.base import parts_of
    from ..transforms.linear import linear_part

    kinds = [type(part).__name__ for part in parts_of(chain)]
    found = linear_part(chain)
    if found is None:
        raise InputError(named, f"has no linear part: its chain is {', '.join(kinds)}")
    if len(kinds) > 1:
        notices.append(f"what is not linear is left out: {', '.join(kind for kind in kinds if kind != 'Linear')}")
    return found


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
