"""The formats of landmark files: tables with a header, and the two of 3D Slicer."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

_COORDINATES = re.compile(r"(?:space|coordinate\s*system)\s*[=:]\s*(\w+)", re.IGNORECASE)
_NAME_COLUMNS = ("name", "label", "id", "index", "")  # pandas writes the number of the row under no title
FCSV_COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID")
_FCSV_LABEL = FCSV_COLUMNS.index("label")


@dataclass(frozen=True)
class Table:
    """The points of a file, and everything else that stands in it.

    Parameters
    ----------
    values
        (N, D) numbers as in the file.
    stated
        What the file says they mean.
    names
        What it calls the points, if it does.
    titles, rows
        Its columns, those of the coordinates among them, and its cells; a .mrk.json has those of its control points.
    comments
        Its comment lines, with their mark.
    separator
        Between the cells of a table.
    document
        The whole content of a .mrk.json.
    """

    values: np.ndarray
    stated: str | None
    names: list[str] | None = None
    titles: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    separator: str = ","
    document: dict[str, Any] | None = None


def parse(file: Path, text: str) -> Table:
    """The points in a file's text, in the format of its ending.

    Raises
    ------
    InputError
        If the text is not of that format.
    """
    name = file.name.lower()
    if name.endswith(".json"):
        return _markups(file, text)
    return _fiducials(file, text) if name.endswith(".fcsv") else _table(file, text)


def _table(file: Path, text: str) -> Table:
    """Columns x, y (, z) of a table with a header; commas, semicolons or tabs between them."""
    lines = text.splitlines()
    comments = [line for line in lines if line.lstrip().startswith("#")]
    body = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not body:
        raise InputError(file, "holds no points")
    mark = max(",;\t", key=body[0].count)
    try:
        header, *rows = list(csv.reader(body, delimiter=mark))
    except csv.Error as error:
        raise InputError(file, f"is no table ({error})") from None
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
    stated = states("\n".join(comments))
    return Table(values, stated, _names(rows, columns), header, rows, comments, mark)


def states(text: str) -> str | None:
    """What comments say that coordinates mean, if they do."""
    found = _COORDINATES.search(text)
    return found.group(1) if found else None


def _names(rows: list[list[str]], columns: dict[str, int]) -> list[str] | None:
    """What the first column of names calls the points; the first in which no name comes twice, if there is one."""
    titled = [columns[name] for name in _NAME_COLUMNS if name in columns]
    found = [[row[c].strip() if c < len(row) else "" for row in rows] for c in titled]
    return next((names for names in found if len(set(names)) == len(names)), found[0] if found else None)


def _fiducials(file: Path, text: str) -> Table:
    """Slicer's .fcsv: id, x, y, z, ... without a header row; the coordinates are in a comment."""
    rows = [line.split(",") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    try:
        values = np.array([[float(row[k]) for k in (1, 2, 3)] for row in rows]).reshape(-1, 3)
        names = [row[_FCSV_LABEL].strip() if len(row) > _FCSV_LABEL else "" for row in rows]
        titles = list(FCSV_COLUMNS[: max(map(len, rows), default=0)])
        return Table(values, states(text), names if any(names) else None, titles, rows, comments)
    except (ValueError, IndexError):
        raise InputError(file, "is no Slicer fiducial list", "rows of id,x,y,z,... were expected") from None


def _markups(file: Path, text: str) -> Table:
    """Slicer's .mrk.json: the control points of the one list in it."""
    try:
        document: dict[str, Any] = json.loads(text)
        lists: list[Any] = document["markups"]
        if len(lists) != 1:
            raise InputError(file, f"holds {len(lists)} lists of points", "save one list per file")
        points = lists[0]["controlPoints"]
        unplaced = [p for p in points if p.get("positionStatus", "defined") not in ("defined", "preview")]
        if unplaced:
            raise InputError(file, f"{len(unplaced)} of its points are not placed", "place or remove them")
        units = str(lists[0].get("coordinateUnits", "mm"))
        if units not in ("mm", "[mm]"):
            raise InputError(file, f"counts in {units}", "save it in mm")
        values = np.array([[float(v) for v in p["position"]] for p in points]).reshape(len(points), -1 if points else 3)
        names = [str(p.get("label") or "") for p in points]
        stated = str(lists[0].get("coordinateSystem", "LPS"))
        return Table(values, stated, names if any(names) else None, *_cells(points), document=document)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise InputError(file, "is no Slicer markup file", "a list of control points was expected") from None


def _cells(points: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of what control points hold that a table can say; the place of the coordinates is empty."""
    plain = (str, int, float)
    titles = list(dict.fromkeys(key for p in points for key, value in p.items() if isinstance(value, plain)))
    titles = [title for title in titles if title.lower() not in "xyz"]
    rows = [["", "", "", *(str(p.get(title, "")) for title in titles)] for p in points]
    return ["x", "y", "z", *titles], rows


def as_markups(lps: np.ndarray) -> dict[str, Any]:
    """The content of a .mrk.json for (N, 3) LPS points."""
    schema = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    points = [
        {"id": str(i), "label": f"F-{i}", "position": p.tolist(), "positionStatus": "defined"}
        for i, p in enumerate(lps, 1)
    ]
    one = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
    return {"@schema": schema + "markups-schema-v1.0.3.json#", "markups": [one]}
