"""Checkpoints: written whole or not at all, read without running code, complete enough to be used alone."""

from __future__ import annotations

import pickle
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..errors import InputError
from ..io.files import PathLike, atomic_path, existing_file

FORMAT = 1
_NAME = re.compile(r"step-(\d{8})\.pt")
_NEEDED = ("format", "versions", "config", "plan", "model", "metrics", "step")


def write_checkpoint(path: PathLike, content: dict[str, Any]) -> None:
    """Write tensors and plain values; a reader sees the old file or the whole new one.

    Parameters
    ----------
    content
        At least ``config`` (all settings), ``plan`` (blueprints of what inference needs: ``model``, ``start``,
        ``preprocessing``), ``model`` (weights), ``metrics`` and ``step``; ``training`` holds what resuming needs.
    """
    versions = {"registration": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT, "versions": versions, **content}, temporary)


def read_checkpoint(path: PathLike, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint, its tensors on ``device``.

    Raises
    ------
    InputError
        If the file is missing, damaged, no checkpoint, or of a version that this one cannot read.
    """
    file = existing_file(path)
    try:
        content = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = "weights_only" in str(error).lower() or "unsupported" in str(error).lower()
        problem = "holds more than numbers and words and is not loaded" if unsafe else "is no checkpoint"
        raise InputError(file, problem, "give a .pt file that registration train has written") from None
    except Exception as error:  # what bytes of another kind make of its reader has no common class
        raise InputError(file, f"is no checkpoint or damaged ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(content, dict) or not {"format", "versions"} <= set(content):
        raise InputError(
            file, "is no checkpoint of registration", "give a .pt file that registration train has written"
        )
    if content["format"] != FORMAT:
        made = dict(content["versions"]).get("registration", "unknown")
        raise InputError(
            file, f"has the checkpoint format {content['format']} (registration {made}), this is registration "
            f"{__version__}, which reads format {FORMAT}", "use the version that made it, or train again",
        )  # fmt: skip
    _check_content(file, content)
    return content


def _check_content(file: Path, content: dict[str, Any]) -> None:
    missing = [key for key in _NEEDED if key not in content]
    if missing:
        raise InputError(file, f"is an incomplete checkpoint: {missing[0]} is missing", "train again")
    kinds = {"config": dict, "plan": dict, "model": dict, "metrics": dict, "step": int}
    wrong = [key for key, kind in kinds.items() if not isinstance(content[key], kind)]
    if wrong:
        raise InputError(file, f"is a damaged checkpoint: {wrong[0]} is not what it should be", "train again")


def resumable(path: PathLike, plan: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint that a training with this plan and these settings can go on from, on the CPU.

    Whoever loads it moves what belongs on another device; the counts of optimisers are read by the CPU and stay there.

    Raises
    ------
    InputError
        If it holds no training, or one of another network, preprocessing or optimiser.
    """
    saved = read_checkpoint(path)
    if "training" not in saved:
        raise InputError(path, "holds a finished network only", "resume from a file of the folder checkpoints")
    if saved["plan"] != plan:
        raise InputError(path, "was made with other settings of network or preprocessing", "resume with the same")
    kinds = [settings.get("optimiser", {}).get("_target_") for settings in (saved["config"], config)]
    if kinds[0] != kinds[1]:
        raise InputError(path, f"was made with the optimiser {kinds[0]}, not {kinds[1]}", "resume with the same")
    return saved


@dataclass(frozen=True)
class Shelf:
    """The checkpoints of one run: the last few by step, and the best.

    Parameters
    ----------
    folder
        The run's folder.
    keep
        How many of the last are kept.
    """

    folder: Path
    keep: int = 2

    @property
    def best(self) -> Path:
        """The best checkpoint so far."""
        return self.folder / "best.pt"

    @property
    def prepared(self) -> Path:
        """The folder of what terms of the objective have prepared for a rehearsal."""
        return self.folder / "prepared"

    def all(self) -> list[Path]:
        """The kept checkpoints, oldest first."""
        found = self.folder / "checkpoints"
        return sorted(f for f in found.glob("step-*.pt") if _NAME.fullmatch(f.name)) if found.is_dir() else []

    def put(self, content: dict[str, Any]) -> Path:
        """Write a checkpoint that training can go on from, then remove those that are too old."""
        folder = self.folder / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"step-{content['step']:08d}.pt"
        write_checkpoint(file, content)
        for old in self.all()[: -self.keep]:
            old.unlink(missing_ok=True)
        return file

    def clear_partial(self) -> None:
        """Remove what a killed process left half-written."""
        for folder in (self.folder, self.folder / "checkpoints", self.prepared):
            for file in folder.glob(".partial-*"):
                file.unlink(missing_ok=True)
