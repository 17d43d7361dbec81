"""``registration points``: landmarks, surfaces and streamlines through a transform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Overwrite, Quiet, TransformFiles, axes_named

if TYPE_CHECKING:
    from torch import Tensor

    from ..io.geometries import Geometry
    from ..io.point_tables import PointTable
    from ..space import Space
    from ..transforms.base import Transform

_Input = Annotated[
    Path, typer.Option("--input", "-i", help="Points: .csv, .fcsv, .mrk.json; .gii; .trk, .tck.", show_default=False)
]
_Output = Annotated[
    Path, typer.Option("--output", "-o", help="The moved points; the ending names the format.", show_default=False)
]
_Inverse = Annotated[
    bool, typer.Option("--inverse", help="Go the other way: the points are those of the moving image.")
]
_Fixed = Annotated[Path | None, typer.Option("--fixed", "-f", help="Fixed image, which voxel coordinates count in.")]
_Moving = Annotated[Path | None, typer.Option("--moving", "-m", help="Moving image, likewise.")]
_PointsSpace = Annotated[
    str | None, typer.Option(help="ras, lps (mm) or voxel: what the numbers in a table mean.", metavar="NAME")
]
_WAYS = ("fixed", "moving")


def points(
    transform: TransformFiles,
    source: _Input,
    output: _Output,
    inverse: _Inverse = False,
    points_space: _PointsSpace = None,
    fixed: _Fixed = None,
    moving: _Moving = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Carry the points of INPUT from the fixed image into the moving one.

    Points go the way that TRANSFORM says, fixed -> moving, which is the opposite of the way of images: landmarks of the
    moving image get onto its warped image by --inverse. Names and further columns stay, and so does what the numbers
    mean: RAS or LPS mm, or voxels, for which --fixed and --moving are needed where TRANSFORM does not know the grids.
    Surfaces (GIFTI) and streamlines (TrackVis, MRtrix) are in world RAS mm and keep their format.
    """
    from ..io.geometries import check_same_ending, is_geometry
    from ..io.links import inverted, named
    from ..io.point_tables import check_ending
    from .convert import links_of, load
    from .inverting import telling_misses
    from .outputs import check_file
    from .progress import watching

    links = links_of(transform)
    check_file(output, overwrite, [source])
    check_same_ending(source, output) if is_geometry(source) else check_ending(output)
    chain, info, notices = load(links, output, overwrite, (fixed, moving))
    grids = (info.fixed, info.moving)
    if inverse:
        chain, grids = inverted(chain, named(links)), grids[::-1]
    held = _read(source, chain.ndim, axes_named(points_space), grids, "fixed" if inverse else "moving")
    way = " -> ".join(_WAYS[::-1] if inverse else _WAYS)
    with watching(quiet) as watcher:
        notices += held.notices
        with telling_misses(notices):
            notices += _strange(chain, held.points, grids, inverse)
            moved = _moved(chain, held.points, named(links))
        by = " then ".join(f"[{link.file.name},1]" if link.inverse else link.file.name for link in links)
        line = f"carried {way} by registration points, {by}{' inverted' if inverse else ''}"
        notices += held.write(output, moved, line, grids[1])
        for text in notices:
            watcher.note(text)
    if not quiet:
        typer.echo(f"wrote {output}: {len(held.points):,} {held.what}, {way}")


def _read(
    source: Path, ndim: int, space: str | None, grids: tuple[Space | None, Space | None], other: str
) -> PointTable | Geometry:
    """What is to be moved: a table, a surface or streamlines.

    Raises
    ------
    InputError
        If it cannot be read, or has another dimension than the transform.
    """
    from ..errors import InputError
    from ..io.geometries import is_geometry, read_geometry
    from ..io.point_tables import read_table

    if not is_geometry(source):
        table = read_table(source, ndim, space=space, grid=grids[0])
        if table.meaning == "voxel" and grids[1] is None:
            raise InputError(
                source, f"counts voxels, and the grid of the {other} image is not known", f"give --{other}"
            )
        return table
    if ndim != 3:
        raise InputError(source, f"lies in 3-D, the transform is {ndim}-D")
    if space not in (None, "ras"):
        raise InputError("--points-space", f"is for tables; {source} is in RAS mm", "leave the option out")
    return read_geometry(source)


def _moved(chain: Transform, places: Tensor, file: str) -> Tensor:
    """(N, D) where the points go.

    Raises
    ------
    InputError
        If one goes nowhere.
    """
    import torch

    from ..errors import InputError

    with torch.no_grad():
        moved = chain(places)
    lost = int((~torch.isfinite(moved).all(dim=-1)).sum())
    if lost:
        raise InputError(file, f"leads {lost} of {len(places)} points to no finite place")
    return moved


def _strange(chain: Transform, places: Tensor, grids: tuple[Space | None, Space | None], inverse: bool) -> list[str]:
    """A word where points are outside the image that they should be of: the wrong direction is a likely slip."""
    from .beyond import told_beyond

    here, there = (None if grid is None else _inside(places, grid) for grid in grids)
    if here is None:
        return told_beyond(chain, places, "points")
    if bool(here.all()):
        return []
    name, other = _WAYS[::-1] if inverse else _WAYS
    notice = f"{int((~here).sum())} of {len(places)} points lie outside the {name} image"
    if there is not None and int(there.sum()) > int(here.sum()):
        cure = "should --inverse be left out?" if inverse else "is --inverse needed?"
        notice += f", and {int(there.sum())} inside the {other} one: {cure}"
    return [notice]


def _inside(places: Tensor, grid: Space) -> Tensor:
    """(N,) whether points are within the voxel edges of a grid."""
    from ..transforms.linear import Linear

    return Linear(grid.to_unit())(places).abs().amax(dim=-1) <= 1 + 1e-6
