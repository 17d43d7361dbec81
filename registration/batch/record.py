"""What is kept of a pair beside its results: how it ended, and what it was made from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from .. import __version__
from ..io.files import atomic_path, beside, sha256
from .table import PairRow

FILE = "status.json"
# The column that chooses the volume of each file.
_CHOSEN_BY = {
    "fixed": "fixed_channel",
    "moving": "moving_channel",
    "fixed_labels": "label_channel",
    "moving_labels": "label_channel",
}


class Status(StrEnum):
    """How a pair ended: registered; registered, but nothing better than the start was found; or not at all."""

    DONE = "done"
    KEPT_INITIAL = "kept-initial"
    FAILED = "failed"


@dataclass(frozen=True)
class Settings:
    """What all pairs of a run share.

    Parameters
    ----------
    words
        What was chosen, as the user would write it: ``transform=affine``.
    digest
        Of every setting, chosen or not, and of the file that all pairs start from; equal digests mean equal results.
    """

    words: tuple[str, ...] = ()
    digest: str = ""
    version: str = __version__

    def difference(self, other: Settings) -> str | None:
        """How ``other`` differs from these earlier settings, in words; None if it does not."""
        if self.version != other.version:
            return f"version {self.version}, now {other.version}"
        if self.digest == other.digest:
            return None
        gone, new = (
            " ".join(sorted(set(a) - set(b))) for a, b in ((self.words, other.words), (other.words, self.words))
        )
        return f"settings {gone or 'the defaults'}, now {new or 'the defaults'}" if gone or new else "other defaults"


@dataclass(frozen=True)
class Record:
    """One pair of a run.

    Parameters
    ----------
    seconds
        Wall-clock time from reading to writing.
    error
        One line, empty unless the pair failed.
    inputs
        Of each file given: path, bytes, time of its last change in ns, and SHA-256; of images and label files also the
        channel that the table chose, where it did.
    """

    id: str
    status: Status
    seconds: float
    error: str
    settings: Settings
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``status.json`` into the folder of the pair."""
        with atomic_path(folder / FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Record | None:
        """The record in a folder; None if there is none, or none that can be read."""
        try:
            told = json.loads((folder / FILE).read_text(encoding="utf-8"))
            made = told["settings"]
            settings = Settings(tuple(made["words"]), made["digest"], made["version"])
            return Record(
                str(told["id"]), Status(told["status"]), float(told["seconds"]), str(told["error"]), settings,
                dict(told["inputs"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def outdated(self, row: PairRow, settings: Settings) -> str | None:
        """Why these results are not those of ``row`` with ``settings``, in words; None if they are."""
        difference = self.settings.difference(settings)
        if difference is not None:
            return difference
        given, channels = row.files(), row.channels()
        for column in sorted(given.keys() | self.inputs.keys()):
            if column not in given:
                return f"{column} is no longer given"
            if column not in self.inputs:
                return f"{column} was not given"
            name = _CHOSEN_BY.get(column, "")
            chosen, then = channels.get(name), self.inputs[column].get("channel")
            if chosen != then:
                return f"{name} was {_said(then)}, is {_said(chosen)}"
            if _changed(given[column], self.inputs[column]):
                return f"{column} {given[column].name} has changed"
        return None


def described(row: PairRow, hashes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The inputs of a pair for its record.

    Parameters
    ----------
    hashes
        SHA-256 of files by column, where they are known already.
    """
    told: dict[str, dict[str, Any]] = {}
    channels = row.channels()
    for column, path in row.files().items():
        found = hashes[column] if column in hashes else sha256(path)
        told[column] = {"path": str(path), **_stamp(path), "sha256": found}
        if (channel := channels.get(_CHOSEN_BY.get(column, ""))) is not None:
            told[column]["channel"] = channel
    return told


def _said(channel: int | None) -> str:
    return "not given" if channel is None else str(channel)


def _changed(path: Path, then: Mapping[str, Any]) -> bool:
    """Whether a file holds something else; read only if its size or time is another, as it may be large."""
    now = _stamp(path)
    if now["bytes"] != then.get("bytes"):
        return True
    return now["modified"] != then.get("modified") and sha256(path) != then.get("sha256")


def _stamp(path: Path) -> dict[str, int]:
    """Bytes and time of the last change in ns; of a folder, or a header and its voxels, sum and latest of the files."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path, *beside(path)]
    stats = [os.stat(file) for file in files]
    return {"bytes": sum(s.st_size for s in stats), "modified": max((s.st_mtime_ns for s in stats), default=0)}
