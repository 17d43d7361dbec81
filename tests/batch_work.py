"""Work for the tests of batches: no torch, so workers start at once; what a pair does is told by its fixed file."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from registration.batch.attempt import Findings, Work
from registration.batch.record import Settings, Status
from registration.batch.table import PairRow
from registration.errors import InputError

LINES = 2000
SETTINGS = Settings(("transform=affine",), "a")


@dataclass(frozen=True)
class Told(Work):
    """Does what stands in the fixed file, and writes ``result.txt`` slowly enough to be interrupted."""

    settings: Settings = SETTINGS
    pause: float = 0.0

    def prepare(self) -> None:
        """Nothing."""

    def __call__(self, row: PairRow, folder: Path) -> Findings:
        word = row.fixed.read_text().strip()
        with (folder / "result.txt").open("w") as stream:
            for line in range(LINES):
                stream.write(f"{row.id} {line}\n")
                if line == LINES // 2:
                    stream.flush()
                    time.sleep(self.pause)
                    _act(word, folder.parent.parent)
        return Findings(Status.KEPT_INITIAL if word == "keep" else Status.DONE)


def _act(word: str, run: Path) -> None:
    if word == "refuse":
        raise InputError("image.nii", "cannot\nbe used")
    if word == "fault":
        raise KeyError("unforeseen")
    if word == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "dies once" and not (run / ".died").exists():
        (run / ".died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def write_table(folder: Path, words: list[str]) -> Path:
    """A table of as many pairs p0, p1 ..., each with a fixed file that tells what happens to it."""
    (folder / "moving.nii").write_text("moving")
    lines = ["id,fixed,moving"]
    for number, word in enumerate(words):
        (folder / f"f{number}.nii").write_text(word + "\n")
        lines.append(f"p{number},f{number}.nii,moving.nii")
    table = folder / "pairs.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def whole(folder: Path, name: str) -> bool:
    """Whether the results of a pair are complete."""
    lines = (folder / name / "result.txt").read_text().splitlines()
    return lines == [f"{name} {line}" for line in range(LINES)]
