"""One registration from files to files: what ``register`` and ``demo`` share."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from .. import __version__
from ..errors import InputError
from ..evaluation.overview import overview, write_overview
from ..evaluation.remembered import Remembered
from ..image import Image
from ..io.files import atomic_path
from ..io.images import write_image
from ..io.itk_images import PHOTOGRAPHS
from ..io.transforms import read_transform, write_transform
from ..sampling import nearest, warp
from ..transforms.base import Transform
from .case import Case, Inputs, load_case
from .progress import Watcher
from .scores import fill_of, headline, scores
from .settings import build

OUTPUTS = ("warped.nii.gz", "warped_labels.nii.gz", "transform.h5", "metrics.json", "overview.png", "config.yaml")
_VERSIONS = ("torch", "monai", "nibabel", "SimpleITK", "numpy", "scipy")


@dataclass(frozen=True)
class Outcome:
    """What a run found: the transform (fixed RAS mm -> moving RAS mm), the figures of metrics.json, a few as text."""

    transform: Transform
    figures: dict[str, Any]
    headline: dict[str, str]


def run_registration(
    inputs: Inputs, settings: DictConfig, folder: Path, watcher: Watcher, initial: Path | None
) -> Outcome:
    """Read, register, judge and write into ``folder``, which exists and is empty.

    Parameters
    ----------
    settings
        The composed configuration: ``pipeline`` is what registers, ``seed`` and ``device`` how.
    initial
        A transform file to start from, in place of the configured start.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    clock = _Clock()
    device, seed = device_of(str(settings.device)), _seed_of(settings)
    start, notices = _initial(initial)
    case = load_case(inputs, header=start is None and OmegaConf.select(settings, "start") == "header")
    if start is not None and start.ndim != case.fixed.image.ndim:
        raise InputError(str(initial), f"is a {start.ndim}-D transform, the images have {case.fixed.image.ndim} axes")
    pipeline = build(settings.pipeline)
    for text in (*notices, *case.notices):
        watcher.note(text)
    clock.lap("read")
    torch.manual_seed(seed)
    try:
        result = pipeline(case.fixed.image.to(device), case.moving.image.to(device), start, watcher)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    watcher.close()
    clock.lap("register")
    seen = Remembered.of(result.transform)
    figures, warped = _judge(case, seen)
    _write_images(case, seen, warped, folder)
    origin = _origin(inputs, settings)
    figures["transform_error_mm"] = write_transform(
        folder / "transform.h5", result.transform, case.fixed.image.space, case.moving.image.space, provenance=origin
    )
    told = headline(figures)
    _draw(case, result.transform, told, folder / "overview.png")
    clock.lap("write")
    figures |= {"stages": [asdict(stage) for stage in result.stages], "seconds": clock.seconds}
    figures |= {"notices": [*notices, *case.notices], **origin}
    _write_text(folder / "metrics.json", json.dumps(_finite(figures), indent=2, allow_nan=False, default=str) + "\n")
    _write_text(
        folder / "config.yaml",
        OmegaConf.to_yaml(OmegaConf.create({"inputs": inputs.described()})) + OmegaConf.to_yaml(settings),
    )
    return Outcome(result.transform, figures, told)


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises
    ------
    InputError
        If there is no such device, or not on this computer.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the device "meta" holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = "cpu" + (", cuda" if torch.cuda.is_available() else "")
        raise InputError(
            f"--device {name}", "there is no such device on this computer", f"use one of: {known}"
        ) from error
    return device


def _seed_of(settings: DictConfig) -> int:
    seed = settings.seed
    if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise InputError(f"seed={seed}", "a whole number from 0 to 2^63 - 1 was expected")
    return seed


class _Clock:
    """Seconds of the parts of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now


def _initial(path: Path | None) -> tuple[Transform | None, Sequence[str]]:
    if path is None:
        return None, ()
    transform, info = read_transform(path)
    return transform, info.notices


def _judge(case: Case, transform: Transform) -> tuple[dict[str, Any], Image]:
    moving = case.moving.image
    warped, inside = warp(moving, transform, case.fixed.image.space, fill=fill_of(moving))
    return scores(case, transform, warped, inside), warped


def _write_images(case: Case, transform: Transform, warped: Image, folder: Path) -> None:
    like = case.fixed.source
    write_image(folder / "warped.nii.gz", warped, like=like, dtype=case.moving.source.dtype)
    if case.moving_labels is not None:
        labels = warp(case.moving_labels.image, transform, case.fixed.image.space, nearest)[0]
        write_image(folder / "warped_labels.nii.gz", labels, like=like, dtype=case.moving_labels.source.dtype)


def _draw(case: Case, transform: Transform, told: dict[str, str], path: Path) -> None:
    fixed, moving = case.fixed, case.moving
    title = f"{Path(moving.image.name).name} onto {Path(fixed.image.name).name}:  " + ",  ".join(
        f"{name} {text}" for name, text in told.items()
    )
    letters = fixed.source.kind not in PHOTOGRAPHS
    # The moving mask would blank the picture outside it, where a failure may show.
    write_overview(path, overview(fixed.image, replace(moving.image, mask=None), transform, title, letters=letters))


def _origin(inputs: Inputs, settings: DictConfig) -> dict[str, Any]:
    """Where a result comes from: enough to make it again."""
    versions = {"registration": __version__, "python": platform.python_version()}
    return {
        "seed": int(settings.seed),
        "device": str(settings.device),
        "inputs": inputs.described(),
        "sha256": inputs.hashes(),
        "versions": versions | {name: metadata.version(name) for name in _VERSIONS},
        "settings": OmegaConf.to_container(settings),
    }


def _finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON cannot say."""
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
