"""Tables of points whose coordinates change, while everything else in them stays."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..space import Space
from .files import PathLike, atomic_path
from .itk_images import flip
from .point_formats import FCSV_COLUMNS, Table, as_markups, states
from .points import PointSpace, from_ras, meaning_of, parsed, to_world

_ENDINGS = (".csv", ".fcsv", ".json")
_SLICERS = ("name", "label", "id", "desc", "description")  # columns that Slicer's points have a place for
_SLICER = ["0", "0", "0", "1", "1", "1", "0"]  # orientation, shown, selected, locked: what Slicer gives a new point


@dataclass(frozen=True)
class PointTable:
    """The points of a file, and what its other columns and comments say.

    Parameters
    ----------
    file
        Where it was read.
    points
        (N, D) float64 RAS mm.
    meaning
        Of the numbers in the file.
    table
        As it was read.
    """

    file: Path
    points: Tensor
    meaning: PointSpace
    table: Table

    @property
    def what(self) -> str:
        """The points in a word."""
        return "point" if len(self.points) == 1 else "points"

    @property
    def notices(self) -> tuple[str, ...]:
        """What was decided while reading: nothing."""
        return ()

    def write(self, path: PathLike, points: Tensor, said: str, grid: Space | None = None) -> list[str]:
        """Write other points of the same names, with the same further columns where the format has a place for them.

        Parameters
        ----------
        path
            ``.csv``, in the coordinates of the table that was read; ``.fcsv`` or ``.mrk.json`` for 3D Slicer.
        points
            (N, D) RAS mm.
        said
            One line that stands in the file, where the format has comments: ``.csv`` and ``.fcsv``.
        grid
            Of the image that the points lie in now, which voxel coordinates count in.

        Returns
        -------
        What had to be decided.

        Raises
        ------
        InputError
            If voxels are meant and ``grid`` is missing, or the file cannot be written.
        """
        file, values = Path(path), points.detach().double().cpu().numpy()
        name, said = file.name.lower(), " ".join(said.split())
        if name.endswith(".csv"):
            text, notices = self._as_csv(from_ras(file, values, self.meaning, grid), said), self._lost((), file)
        elif name.endswith(".fcsv"):
            text, notices = self._as_fcsv(values, said, file)
        else:
            check_ending(file)
            text, notices = self._as_json(values, file)
        with atomic_path(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return notices

    def _as_csv(self, values: np.ndarray, said: str) -> str:
        stream = io.StringIO()
        comments = [line for line in self.table.comments if states(line) is None and not _of_slicer(line)]
        stream.write("\n".join([f"# space: {self.meaning.name}", *comments, f"# {said}"]) + "\n")
        writer = csv.writer(stream, delimiter=self.table.separator, lineterminator="\n")
        writer.writerow(self.table.titles)
        writer.writerows(self._placed(values))
        return stream.getvalue()

    def _as_fcsv(self, values: np.ndarray, said: str, file: Path) -> tuple[str, list[str]]:
        table = self.table
        if self.file.name.lower().endswith(".fcsv"):
            meaning = PointSpace.RAS if self.meaning is PointSpace.RAS else PointSpace.LPS
            rows = self._placed(values if meaning is PointSpace.RAS else _lps(values)[:, : values.shape[1]])
            stated = [] if table.stated else [f"# CoordinateSystem = {meaning.name}"]
            comments, notices = [*table.comments, *stated], list[str]()
        else:
            labels, words = self._labels(), self._column("desc", "description")
            rows = [
                [i, *(_number(v) for v in place), *_SLICER, _plain(label), _plain(word), ""]
                for i, place, label, word in zip(self._ids(), _lps(values), labels, words, strict=True)
            ]
            comments = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS"]
            comments += [f"# columns = {','.join(FCSV_COLUMNS)}"]
            notices = self._lost(_SLICERS, file)
            if any("," in text for text in (*labels, *words)):
                notices.append(f"{file}: commas in names have become semicolons, for commas part its columns")
        return "\n".join([*comments, f"# {said}", *(",".join(row) for row in rows)]) + "\n", notices

    def _as_json(self, values: np.ndarray, file: Path) -> tuple[str, list[str]]:
        if self.table.document is not None:
            document = copy.deepcopy(self.table.document)
            wanted = values if self.meaning is PointSpace.RAS else _lps(values)
            for point, place in zip(document["markups"][0]["controlPoints"], wanted, strict=True):
                point["position"] = [float(v) for v in (*place, *point["position"][len(place) :])]
            return json.dumps(document, indent=1) + "\n", []
        document = as_markups(_lps(values))
        titled = zip(self._ids(), self._labels(), self._column("desc", "description"), strict=True)
        for point, (number, label, word) in zip(document["markups"][0]["controlPoints"], titled, strict=True):
            point |= {"id": number, "label": label, "description": word}
        return json.dumps(document, indent=1) + "\n", self._lost(_SLICERS, file)

    def _placed(self, values: np.ndarray) -> list[list[str]]:
        """The rows of the table with other coordinates."""
        titles = [title.strip().lower() for title in self.table.titles]
        where = [titles.index(axis) for axis in "xyz" if axis in titles][: values.shape[1]]
        rows = [list(row) for row in self.table.rows]
        for row, place in zip(rows, values, strict=True):
            for column, value in zip(where, place, strict=True):
                row[column] = _number(value)
        if values.shape[1] == 2 and self.table.document is not None:
            rows = [[*row[:2], "0", *row[3:]] for row in rows]
        return rows

    def _column(self, *wanted: str) -> list[str]:
        """The cells under the first of some titles that is there; empty ones without."""
        titles = [title.strip().lower() for title in self.table.titles]
        column = next((titles.index(title) for title in wanted if title in titles), None)
        return [row[column] if column is not None and column < len(row) else "" for row in self.table.rows]

    def _labels(self) -> list[str]:
        return self.table.names or [f"F-{number}" for number in range(1, len(self.points) + 1)]

    def _ids(self) -> list[str]:
        return [_plain(text) or str(number) for number, text in enumerate(self._column("id"), 1)]

    def _lost(self, kept: Sequence[str], file: Path) -> list[str]:
        """A note on the columns that have no place in another format."""
        if kept:
            lost = [title.strip() for title in self.table.titles if title.strip().lower() not in (*kept, *"xyz", "")]
        else:
            told = (self.table.document or {"markups": [{"controlPoints": []}]})["markups"][0]["controlPoints"]
            lost = sorted({key for point in told for key in point} - {*self.table.titles, "position"})
        return [] if not lost else [f"{file}: no place for the column{'s' if len(lost) > 1 else ''} {', '.join(lost)}"]


def read_table(
    path: PathLike, ndim: int, *, space: PointSpace | str | None = None, grid: Space | None = None
) -> PointTable:
    """Read points with everything else that their file says; see :func:`registration.io.points.read_points`.

    Parameters
    ----------
    ndim
        D of the points that are wanted: a third coordinate that is 0 everywhere is no reason to refuse a table for 2-D.

    Raises
    ------
    InputError
        Also if the points are of another dimension.
    """
    file, table = parsed(path)
    meaning = meaning_of(file, table.stated, space)
    if grid is None and ndim == 2 and table.values.shape[1] == 3 and not table.values[:, 2].any():
        flat = Table(table.values[:, :2], table.stated)
        points = to_world(file, flat, space, grid)
    else:
        points = to_world(file, table, space, grid)
    if points.shape[1] != ndim:
        raise InputError(file, f"holds {points.shape[1]}-D points, the transform is {ndim}-D")
    return PointTable(file, points, meaning, table)


def check_ending(path: PathLike) -> None:
    """Refuse a file whose ending names no format of points.

    Raises
    ------
    InputError
        If it is none of .csv, .fcsv and .mrk.json.
    """
    if not Path(path).name.lower().endswith(_ENDINGS):
        raise InputError(path, "landmarks are written as .csv, .fcsv or .mrk.json")


def _of_slicer(line: str) -> bool:
    return line.startswith(("# Markups fiducial file version", "# columns ="))


def _lps(values: np.ndarray) -> np.ndarray:
    """(N, 3) LPS mm of (N, D) RAS mm points."""
    wide = np.zeros((len(values), 3))
    wide[:, : values.shape[1]] = values
    return wide * np.diag(flip(3))[:3]


def _number(value: float) -> str:
    """The shortest text that reads as the same number."""
    return repr(float(value))


def _plain(text: str) -> str:
    return " ".join(text.replace(",", ";").split())
