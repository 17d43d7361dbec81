"""Landmarks from and to tables. In memory they are always (N, D) RAS mm; in a file their coordinates must be stated."""

from __future__ import annotations

import csv
import json
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..space import Space
from .files import atomic_path, existing_file
from .itk_images import flip

PathLike = str | os.PathLike[str]
_COORDINATES = re.compile(r"(?:space|coordinate\s*system)\s*[=:]\s*(\w+)", re.IGNORECASE)
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
    file = existing_file(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(file, "this is no text file", "landmarks come as .csv, .fcsv or .mrk.json") from None
    name = file.name.lower()
    if name.endswith(".json"):
        values, stated = _markups(file, text)
    elif name.endswith(".fcsv"):
        values, stated = _fiducials(file, text)
    else:
        values, stated = _table(file, text)
    if not len(values):
        raise InputError(file, "holds no points")
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise InputError(file, f"point {row + 1} has a coordinate that is missing or not finite")
    if grid is not None and grid.ndim == 2 and values.shape[1] == 3 and not values[:, 2].any():
        values = values[:, :2]
    if grid is not None and values.shape[1] != grid.ndim:
        raise InputError(file, f"holds {values.shape[1]}-D points, the image has {grid.ndim} axes {grid.shape}")
    return torch.from_numpy(_to_ras(file, values, _meaning(file, stated, space), grid))


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
        text = json.dumps(_as_markups(lps), indent=1)
    elif name.endswith(".fcsv"):
        rows = [
            ",".join([f"F{i}", *(f"{v:.17g}" for v in p), "0,0,0,1,1,1,0", f"F-{i}", "", ""])
            for i, p in enumerate(lps, 1)
        ]
        columns = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
        text = "\n".join(["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS", columns, *rows])
    elif name.endswith(".csv"):
        if wanted is PointSpace.VOXEL:
            if grid is None:
                raise InputError(file, "voxel coordinates need the image's grid")
            values = _affine(values, np.linalg.inv(grid.affine.numpy()))
        elif wanted is PointSpace.LPS:
            values = lps[:, :d]
        rows = [",".join(f"{v:.17g}" for v in p) for p in values]
        text = "\n".join([f"# space: {wanted.name}", ",".join("xyz"[:d]), *rows])
    else:
        raise InputError(file, "landmarks are written as .csv, .fcsv or .mrk.json")
    with atomic_path(file) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _meaning(file: Path, stated: str | None, given: PointSpace | str | None) -> PointSpace:
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


def _affine(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return values @ matrix[:-1, :-1].T + matrix[:-1, -1]


def _table(file: Path, text: str) -> tuple[np.ndarray, str | None]:
    """Columns x, y (, z) of a table with a header; commas, semicolons or tabs between them."""
    lines = text.splitlines()
    comments = "\n".join(line for line in lines if line.lstrip().startswith("#"))
    body = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not body:
        raise InputError(file, "holds no points")
    mark = max(",;\t", key=body[0].count)
    header, *rows = list(csv.reader(body, delimiter=mark))
    columns = {cell.strip().lower(): number for number, cell in reversed(list(enumerate(header)))}
    wanted = [columns[axis] for axis in "xyz" if axis in columns]
    if "x" not in columns or "y" not in columns:
        raise InputError(
            file, f"its header is {','.join(header)[:60]!r}", "columns named x, y and, in 3-D, z were expected"
        )
    values = np.empty((len(rows), len(wanted)))
    for number, row in enumerate(rows):
        try:
            values[number] = [float(row[c]) for c in wanted]
        except (ValueError, IndexError):
            raise InputError(
                file, f"row {number + 1} is {mark.join(row)[:60]!r}", "a number in each column was expected"
            ) from None
    found = _COORDINATES.search(comments)
    return values, found.group(1) if found else None


def _fiducials(file: Path, text: str) -> tuple[np.ndarray, str | None]:
    """Slicer's .fcsv: id, x, y, z, ... without a header row; the coordinates are in a comment."""
    rows = [line.split(",") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = _COORDINATES.search(text)
    try:
        return np.array([[float(v) for v in row[1:4]] for row in rows]).reshape(-1, 3), found.group(
            1
        ) if found else None
    except ValueError:
        raise InputError(file, "is no Slicer fiducial list", "rows of id,x,y,z,... were expected") from None


def _markups(file: Path, text: str) -> tuple[np.ndarray, str | None]:
    """Slicer's .mrk.json: the control points of the one list in it."""
    try:
        lists: list[Any] = json.loads(text)["markups"]
        if len(lists) != 1:
            raise InputError(file, f"holds {len(lists)} lists of points", "save one list per file")
        points = lists[0]["controlPoints"]
        unplaced = [p for p in points if p.get("positionStatus", "defined") not in ("defined", "preview")]
        if unplaced:
            raise InputError(file, f"{len(unplaced)} of its points are not placed", "place or remove them")
        values = np.array([[float(v) for v in p["position"]] for p in points]).reshape(len(points), -1)
        return values, str(lists[0].get("coordinateSystem", "LPS"))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(file, f"is no Slicer markup file ({error!r})") from None


def _as_markups(lps: np.ndarray) -> dict[str, Any]:
    schema = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    points = [
        {"id": str(i), "label": f"F-{i}", "position": p.tolist(), "positionStatus": "defined"}
        for i, p in enumerate(lps, 1)
    ]
    one = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
    return {"@schema": schema + "markups-schema-v1.0.3.json#", "markups": [one]}
