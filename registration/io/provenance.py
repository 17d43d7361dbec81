"""Where results come from: ``provenance.json`` beside everything a command writes."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from .files import PathLike, atomic_path

FILE = "provenance.json"
_PACKAGES = ("torch", "monai", "nibabel", "SimpleITK", "numpy", "scipy", "numba", "h5py", "hydra-core")


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def provenance(arguments: Sequence[str], started: datetime, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What it takes to make a result again, and to understand how it came about.

    Parameters
    ----------
    arguments
        The words of the command line, without the name of the program; empty from Python.
    started
        When the run began, see :func:`now`; it ends now.
    facts
        What else belongs to it, such as ``settings``, ``seed``, and ``inputs`` with their hashes.

    Returns
    -------
    Plain values for JSON. The names of the user and of the computer are not among them.
    """
    ended = now()
    told: dict[str, Any] = {
        "program": "registration",
        "arguments": list(arguments),
        "started": started.isoformat(timespec="milliseconds"),
        "ended": ended.isoformat(timespec="milliseconds"),
        "seconds": round((ended - started).total_seconds(), 3),
    }
    told |= dict(facts or {})
    return told | {"versions": versions(), "commit": commit(), "hardware": hardware()}


def write_provenance(path: PathLike, told: Mapping[str, Any]) -> None:
    """Write the values of :func:`provenance` as JSON; NaN and infinity, which JSON cannot say, become null.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(finite(dict(told)), indent=2, allow_nan=False, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {str(name): finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """The versions of this package, of Python, and of what the results depend on."""
    return dict(_versions())


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = [("registration", __version__), ("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


@cache
def commit() -> str | None:
    """The git commit of the package where it runs from a checkout, with ``+`` if files differ from it; else None."""
    root = Path(__file__).resolve().parents[2]
    # A checkout of something else may hold the environment this package is installed in.
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return None
    try:
        head, changed = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=5, check=True
            ).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip() + ("+" if changed.strip() else "")


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and, where torch is loaded, the GPU."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "memory_bytes": _memory(),
        "gpu": _gpu(),
    }


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gpu() -> str | None:
    # Loading torch for its word alone would take seconds.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())
