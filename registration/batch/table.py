"""The table of pairs: which image is brought onto which, with the labels, masks and landmarks that go with them."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io.files import atomic_path, existing_file
from .json_table import as_csv

NEEDED = ("id", "fixed", "moving")
# Names that a run gives to files beside the folders of its pairs.
TAKEN = ("batch.csv", "pairs.csv", "provenance.json", "dataset_description.json", "bids-derivatives")
_LISTED = 100
_LONGEST = 120
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


@dataclass(frozen=True)
class PairRow:
    """One pair of the table; paths are absolute and were there when the table was read.

    Parameters
    ----------
    id
        Names the pair and the folder of its results.
    fixed, moving
        The image that stays, and the one that is brought onto it: files, or folders of one DICOM series.
    fixed_labels, moving_labels, fixed_mask, moving_mask, fixed_points, moving_points
        Label maps, masks and landmark tables of the two images; None where the table names none.
    label_channel, fixed_channel, moving_channel
        Which volume of label files and images with several, from 0; None where the table does not say.
    """

    id: str
    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    label_channel: int | None = None
    fixed_channel: int | None = None
    moving_channel: int | None = None

    def files(self) -> dict[str, Path]:
        """The files that are given, by column."""
        given = {name: getattr(self, name) for name in FILES}
        return {name: path for name, path in given.items() if path is not None}

    def channels(self) -> dict[str, int]:
        """The volumes that the table chooses, by column."""
        return {name: number for name in CHANNELS if (number := getattr(self, name)) is not None}


COLUMNS = tuple(field.name for field in fields(PairRow))
CHANNELS = tuple(name for name in COLUMNS if name.endswith("_channel"))
FILES = tuple(name for name in COLUMNS if name != "id" and name not in CHANNELS)


def read_pairs(path: str | os.PathLike[str]) -> list[PairRow]:
    """Read a table of pairs.

    Parameters
    ----------
    path
        A CSV file in UTF-8, parted by commas, semicolons or tabs, whose first line names the columns: those of
        :class:`PairRow` in any order, ``id``, ``fixed`` and ``moving`` needed. Other columns are ignored, unless their
        name begins like one of these. Paths are relative to the table; empty cells stand for nothing. Or a JSON file
        (``.json``), a list of objects with the same names.

    Returns
    -------
    The pairs in the order of the table, with absolute paths.

    Raises
    ------
    InputError
        If the table is no text, empty or lacks columns; an id is missing, given twice or no safe name for a folder; or
        files are missing, which are all told at once.
    """
    file = existing_file(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(file, "this is no text file in UTF-8", "save the table of pairs as CSV in UTF-8") from None
    columns, lines = _split(file, text)
    rows = [_row(file, number, dict(zip(columns, cells, strict=False))) for number, cells in lines]
    _check_ids(file, rows, [number for number, _ in lines])
    _check_files(file, rows)
    return rows


def check_partners(table: str | os.PathLike[str], rows: Sequence[PairRow]) -> None:
    """Refuse fixed labels and landmarks without those of the moving image, which are compared with them.

    Moving labels may stand alone: they are warped.

    Raises
    ------
    InputError
        Naming the first such pair.
    """
    wanted = {"fixed_labels": "moving_labels", "fixed_points": "moving_points", "moving_points": "fixed_points"}
    for row in rows:
        given = row.files()
        for one, other in wanted.items():
            if one in given and other not in given:
                raise InputError(table, f"pair {row.id} has {one}, but no {other}", "name both, or neither")


def read_columns(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Further columns of a table of pairs: id -> name -> text, of the cells that are not empty.

    Raises
    ------
    InputError
        As :func:`read_pairs` for what is wrong with the table itself.
    """
    file = existing_file(path)
    columns, lines = _split(file, file.read_text(encoding="utf-8-sig"))
    _check_once(file, columns, names)
    cells = [dict(zip(columns, line, strict=False)) for _, line in lines]
    return {row["id"]: {name: row[name] for name in names if row.get(name)} for row in cells}


def write_pairs(path: str | os.PathLike[str], rows: Sequence[PairRow]) -> None:
    """Write a table that :func:`read_pairs` reads from anywhere: absolute paths, only the columns that are used.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    used = [name for name in COLUMNS if name in NEEDED or any(getattr(row, name) is not None for row in rows)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(used)
    for row in rows:
        values = [getattr(row, name) for name in used]
        writer.writerow(["" if value is None else str(value) for value in values])
    with atomic_path(path) as temporary:
        temporary.write_text(stream.getvalue(), encoding="utf-8")


def _split(file: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and (line number, cells) of every row that is not blank."""
    if file.suffix.lower() == ".json":
        text = as_csv(file, text)
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                lines.append((reader.line_num, stripped))
    except csv.Error as error:
        raise InputError(file, f"line {reader.line_num} is no CSV ({error})", "check its quotation marks") from None
    if not lines:
        raise InputError(file, "the table is empty", f"its first line names the columns {', '.join(NEEDED)}")
    columns = [name.lower() for name in lines.pop(0)[1]]
    _check_columns(file, columns)
    for number, cells in lines:
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            raise InputError(
                file, f"line {number} has {len(cells)} cells, the first line names {len(columns)} columns",
                "put paths that hold the separator into quotation marks",
            )  # fmt: skip
    if not lines:
        raise InputError(file, "the table has no pairs, only names of columns", "add one line per pair")
    return columns, lines


def _check_columns(file: Path, columns: list[str]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise InputError(
            file, f"the columns {', '.join(missing)} are missing, it has {', '.join(filter(None, columns))}",
            f"the first line names {', '.join(NEEDED)} and, where there are, {', '.join(COLUMNS[3:])}",
        )  # fmt: skip
    _check_once(file, columns, COLUMNS)
    # A mistyped optional column would silently be left out.
    odd = [name for name in columns if name not in COLUMNS and name.startswith(("fixed", "moving", "label_"))]
    if odd:
        import difflib

        close = difflib.get_close_matches(odd[0], COLUMNS, n=1, cutoff=0.0)
        raise InputError(file, f"there is no column {odd[0]}", f"did you mean {close[0]}?")


def _check_once(file: Path, columns: list[str], names: Sequence[str]) -> None:
    twice = [name for name in names if columns.count(name) > 1]
    if twice:
        raise InputError(file, f"the column {twice[0]} stands there twice", "take one out")


def _row(file: Path, number: int, cells: dict[str, str]) -> PairRow:
    empty = [name for name in NEEDED if not cells.get(name)]
    if empty:
        raise InputError(file, f"line {number} has no {' and no '.join(empty)}")
    folder = Path(os.path.abspath(file)).parent
    paths = {name: Path(os.path.normpath(folder / Path(cells[name]).expanduser())) for name in FILES if cells.get(name)}
    chosen = {name: cells[name] for name in CHANNELS if cells.get(name)}
    for name, text in chosen.items():
        if not (text.isdecimal() and len(text) < 10):
            raise InputError(file, f"line {number}: {name} is {text!r}, a whole number from 0 was expected")
    given: dict[str, Any] = {**paths, **{name: int(text) for name, text in chosen.items()}}
    return PairRow(id=cells["id"], **given)


def _check_ids(file: Path, rows: list[PairRow], numbers: list[int]) -> None:
    seen: dict[str, int] = {}
    for row, number in zip(rows, numbers, strict=True):
        name = row.id
        if _UNSAFE.search(name) or name.startswith(".") or name.endswith(".") or len(name.encode()) > _LONGEST:
            raise InputError(
                file, f"line {number}: the id {name[:40]!r} is no safe name for a folder",
                f"use letters, digits, - and _, at most {_LONGEST}, no dot in front or at the end",
            )  # fmt: skip
        if name.casefold() in TAKEN:
            raise InputError(file, f"line {number}: the id {name} is the name of a file of the run", "choose another")
        # Some file systems do not tell capitals from small letters.
        if name.casefold() in seen:
            first = seen[name.casefold()]
            raise InputError(file, f"the id {name} stands in lines {first} and {number}", "ids must differ")
        seen[name.casefold()] = number


def _check_files(file: Path, rows: list[PairRow]) -> None:
    """Refuse a table that names files which are missing, empty or unreadable; each is told once."""
    bad: dict[Path, str] = {}
    checked: set[Path] = set()
    for row in rows:
        for column, path in row.files().items():
            if path in checked:
                continue
            checked.add(path)
            if not path.exists():
                bad[path] = f"{path} ({column} of {row.id})"
            elif not os.access(path, os.R_OK):
                bad[path] = f"{path} ({column} of {row.id}, not readable)"
            elif path.is_file() and path.stat().st_size == 0:
                bad[path] = f"{path} ({column} of {row.id}, empty)"
    if bad:
        told = list(bad.values())
        more = f" and {len(told) - _LISTED} more" if len(told) > _LISTED else ""
        what = "1 file it names is" if len(told) == 1 else f"{len(told)} files it names are"
        problem = f"{what} missing or unusable: {', '.join(told[:_LISTED])}{more}"
        raise InputError(file, problem, "paths are relative to the table")
