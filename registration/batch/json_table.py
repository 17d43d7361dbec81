"""A table of pairs in JSON, told as CSV, so that there is one place that judges tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from ..errors import InputError

_FORM = 'a list of pairs was expected, such as [{"id": "a", "fixed": "f.nii.gz", "moving": "m.nii.gz"}]'


class _Doubled(Exception):
    """A name that one object has twice; JSON's reader would take the last."""


def _single(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object."""
    entry: dict[str, Any] = {}
    for name, value in members:
        if name in entry:
            given = next((word for key, word in members if key == "id"), None)
            raise _Doubled(f"{'a pair' if given is None else f'pair {given}'} gives {name} twice")
        entry[name] = value
    return entry


def as_csv(file: Path, text: str) -> str:
    """The CSV text of a JSON list of objects; null and missing names are empty cells.

    Raises
    ------
    InputError
        If it is something else.
    """
    try:
        entries = json.loads(text, object_pairs_hook=_single)
    except json.JSONDecodeError as error:
        raise InputError(file, f"is no JSON (line {error.lineno}: {error.msg})", _FORM) from None
    except _Doubled as error:
        raise InputError(file, str(error), "keep one of the two") from None
    except RecursionError:
        raise InputError(file, "holds lists in lists without end", _FORM) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(file, _FORM)
    columns = list(dict.fromkeys(name for entry in entries for name in entry))
    for number, entry in enumerate(entries, 1):
        odd = [name for name, value in entry.items() if not isinstance(value, str | int | None)]
        if odd:
            raise InputError(file, f"pair {number} has no word for {odd[0]}", "names and paths were expected")
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    if columns:
        writer.writeheader()
    writer.writerows(entries)
    return stream.getvalue()
