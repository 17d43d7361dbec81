"""Landmarks from and to tables. In memory they are always (N, D) RAS mm; in a file their coordinates must be stated."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..space import Space
from .files import atomic_path, existing_file
from .itk_images import flip
from .point_formats import Table, as_markups, parse

PathLike = str | os.PathLike[str]
_STATE = "give --points-space ras, lps or voxel, or a first line '# space: RAS'"


class PointSpace(StrEnum):
    """What the numbers in a table mean.

    ``VOXEL`` counts voxels from 0 at the centre of the first, in the axis order of the tensor, which is that of
    nibabel and ITK indices: of a picture (PNG, JPEG), x counts columns to the right and y rows downwards.
    """

    RAS = "ras"
    LPS = "lps"
    VOXEL = "voxel"


def read_points(path: PathLike, *, space: PointSpace | str | None = None, grid: Space | None = None) -> Tensor:
    """Read landmarks.

    Parameters
    ----------
    path
        ``.csv`` with a header that names columns x, y (and z), others ignored, comments from ``#``; 3D Slicer's
        ``.fcsv`` or ``.mrk.json``.
    space
        Meaning of the numbers, if the file does not state it; must not contradict the file.
    grid
        The image's grid: needed for voxels; gives D where a 2-D table has an empty z.

    Returns
    -------
    (N, D) float64 points in RAS mm, in the order of the file.

    Raises
    ------
    InputError
        If the file is damaged, of no known form, or its coordinates are not stated.
    """
    return to_world(*parsed(path), space, grid)


def read_pairs(
    fixed: PathLike,
    moving: PathLike,
    grids: tuple[Space, Space],
    *,
    space: PointSpace | str | None = None,
    otherwise: PointSpace | None = None,
    notices: list[str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Read the corresponding landmarks of two images.

    Points correspond by name where both files name theirs (a column name, label, id, index or without title, or the
    labels of 3D Slicer) and the names of one are among those of the other; by their order if no name is in both, or
    names come twice.

    Parameters
    ----------
    fixed, moving
        Files as for :func:`read_points`.
    grids
        Of the fixed and the moving image.
    space
        As for :func:`read_points`, for both files.
    otherwise
        What the numbers mean where neither ``space`` nor the file says it; without, that is an error.
    notices
        Points without a partner are left out, and that is said here; so is ``otherwise``, where it was needed.

    Returns
    -------
    Two (N, D) float64 tables in RAS mm, row by row the same place.

    Raises
    ------
    InputError
        Also if the tables have different lengths and no names to pair them by, or names that agree in part.
    """
    files = [parsed(path) for path in (fixed, moving)]
    if space is None and otherwise is not None:
        files = _taken_as(otherwise, files, notices)
    (a, a_names), (b, b_names) = (
        (to_world(file, table, space, grid), table.names) for (file, table), grid in zip(files, grids, strict=True)
    )
    if a_names is not None and b_names is not None:
        order = _by_name((fixed, moving), (a_names, b_names), notices)
        if order is not None:
            return a[order[0]], b[order[1]]
    if len(a) != len(b):
        raise InputError(
            moving, f"has {len(b)} points, {fixed} has {len(a)}", "they come in pairs, row by row or by name"
        )
    return a, b


def _taken_as(
    otherwise: PointSpace, files: list[tuple[Path, Table]], notices: list[str] | None
) -> list[tuple[Path, Table]]:
    """The same tables, where those that do not say what their numbers mean are taken as ``otherwise``."""
    unstated = [str(file) for file, table in files if table.stated is None]
    if unstated and notices is not None:
        notices.append(f"{' and '.join(unstated)}: taken as {otherwise.value} coordinates; --points-space decides")
    return [(file, replace(table, stated=table.stated or otherwise.value)) for file, table in files]


def _by_name(
    files: tuple[PathLike, PathLike], names: tuple[list[str], list[str]], notices: list[str] | None
) -> tuple[list[int], list[int]] | None:
    """Rows of both tables that have the same name, in the order of the first; None if only their order pairs them.

    Raises
    ------
    InputError
        If some names are in both tables, but neither's are all in the other.
    """
    (a, b), counts = names, [len(table) for table in names]
    unique = all(len(set(table)) == len(table) for table in names)
    common = [name for name in a if name in set(b)] if unique else []
    told = ""
    if common and len(common) < min(counts):
        raise InputError(
            files[1], f"has {len(common)} of its {len(b)} names in common with {files[0]}, which has {len(a)}",
            "give the points of both the same names, those of one of them at least, or none",
        )  # fmt: skip
    if common and counts[0] != counts[1]:
        told = f"{len(common)} points have a partner, {abs(len(a) - len(b))} have none"
    elif not common and counts[0] == counts[1]:
        told = f"{'no name is in both' if unique else 'names stand there twice'}, points are paired row by row"
    if told and notices is not None:
        notices.append(f"{files[0]} and {files[1]}: {told}")
    return ([a.index(name) for name in common], [b.index(name) for name in common]) if common else None


def parsed(path: PathLike) -> tuple[Path, Table]:
    """The file and what stands in it."""
    file = existing_file(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        cure = "landmarks come as .csv, .fcsv or .mrk.json, saved in UTF-8"
        raise InputError(file, "this is no text file in UTF-8", cure) from None
    return file, parse(file, text)


def to_world(file: Path, table: Table, space: PointSpace | str | None, grid: Space | None) -> Tensor:
    """(N, D) RAS mm points of a table."""
    values = table.values
    if not len(values):
        raise InputError(file, "holds no points")
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise InputError(file, f"point {row + 1} has a coordinate that is missing or not finite")
    if grid is not None and grid.ndim == 2 and values.shape[1] == 3 and not values[:, 2].any():
        values = values[:, :2]
    if grid is not None and values.shape[1] != grid.ndim:
        raise InputError(file, f"holds {values.shape[1]}-D points, the image has {grid.ndim} axes {grid.shape}")
    return torch.from_numpy(_to_ras(file, values, meaning_of(file, table.stated, space), grid))


def write_points(
    path: PathLike, points: Tensor, *, space: PointSpace | str = PointSpace.RAS, grid: Space | None = None
) -> None:
    """Write (N, D) RAS mm points as ``.csv`` in the wanted coordinates, or as ``.fcsv`` or ``.mrk.json`` (LPS) for 3D
    Slicer.

    Raises
    ------
    InputError
        If voxels are wanted and ``grid`` is missing, or the file cannot be written.
    """
    file, wanted = Path(path), PointSpace(space)
    values = points.detach().double().cpu().numpy()
    d = values.shape[1]
    name = file.name.lower()
    lps = np.zeros((len(values), 3))
    lps[:, :d] = values * np.diag(flip(d))[:d]
    if name.endswith(".json"):
        text = json.dumps(as_markups(lps), indent=1)
    elif name.endswith(".fcsv"):
        rows = [
            ",".join([f"F{i}", *(f"{v:.17g}" for v in p), "0,0,0,1,1,1,0", f"F-{i}", "", ""])
            for i, p in enumerate(lps, 1)
        ]
        columns = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
        text = "\n".join(["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS", columns, *rows])
    elif name.endswith(".csv"):
        rows = [",".join(f"{v:.17g}" for v in p) for p in from_ras(file, values, wanted, grid)]
        text = "\n".join([f"# space: {wanted.name}", ",".join("xyz"[:d]), *rows])
    else:
        raise InputError(file, "landmarks are written as .csv, .fcsv or .mrk.json")
    with atomic_path(file) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def meaning_of(file: Path, stated: str | None, given: PointSpace | str | None) -> PointSpace:
    """One statement of what the numbers mean, from the file or the caller."""
    names = {"0": "ras", "1": "lps", "pixel": "voxel", "pixels": "voxel", "ijk": "voxel", "index": "voxel"}
    found = []
    for text in (stated, None if given is None else str(given)):
        if text is not None:
            text = names.get(text.lower(), text.lower())
            if text not in set(PointSpace):
                raise InputError(file, f"unknown coordinates {text!r}", "RAS, LPS or voxel was expected")
            found.append(PointSpace(text))
    if not found:
        raise InputError(file, "does not say whether its numbers are RAS mm, LPS mm or voxels", _STATE)
    if len(set(found)) > 1:
        raise InputError(file, f"states {found[0].name}, but {found[1].name} was asked for", "leave the option out")
    return found[0]


def _to_ras(file: Path, values: np.ndarray, meaning: PointSpace, grid: Space | None) -> np.ndarray:
    if meaning is PointSpace.LPS:
        d = values.shape[1]
        return values * np.diag(flip(d))[:d]
    if meaning is PointSpace.VOXEL:
        if grid is None:
            raise InputError(file, "voxel coordinates need the image they count in", "give the image too")
        return _affine(values, grid.affine.numpy())
    return values


def from_ras(file: Path, values: np.ndarray, meaning: PointSpace, grid: Space | None) -> np.ndarray:
    """(N, D) RAS mm points as the numbers that stand in ``file``.

    Raises
    ------
    InputError
        If voxels are wanted and ``grid`` is missing.
    """
    if meaning is PointSpace.VOXEL:
        if grid is None:
            raise InputError(file, "voxel coordinates need the image's grid")
        return _affine(values, np.linalg.inv(grid.affine.numpy()))
    return values * np.diag(flip(values.shape[1]))[:-1] if meaning is PointSpace.LPS else values


def _affine(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return values @ matrix[:-1, :-1].T + matrix[:-1, -1]
