"""Further images of the moving side, which a run warps beside the moving image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path

from ..errors import InputError
from ..image import Image
from ..io.images import Loaded, load_image, load_labels, write_image
from ..io.raw import ChannelError
from ..sampling import linear, nearest, warp
from ..space import Space
from ..transforms.base import Transform
from .contrasts import result_of_contrast
from .scores import fill_of


def result_of(file: Path) -> str:
    """The name of the file that holds an image warped: ``warped_flair.nii.gz`` of ``flair.nii.gz`` or ``flair.mgz``."""
    name = file.name[:-3] if file.name.lower().endswith(".nii.gz") else file.name
    return f"warped_{Path(name).stem or name}.nii.gz"


def load_also(
    files: Sequence[Path], ndim: int, spacing: tuple[float, ...] | None, contrasts: Sequence[str] = ()
) -> tuple[Loaded, ...]:
    """Read further images of the moving side; label maps exactly.

    Parameters
    ----------
    contrasts
        Names of the files that further contrasts are written to.

    Raises
    ------
    InputError
        If one cannot be read, has other axes than the images that are registered, or two have one name.
    """
    seen = {"warped_labels.nii.gz": "--moving-labels"} | dict.fromkeys(contrasts, "a contrast of --moving")
    for file in files:
        name = result_of(file)
        if name in seen:
            cure = "give label maps by --moving-labels" if name == "warped_labels.nii.gz" else "rename one of them"
            raise InputError(f"--also {file}", f"would be written as {name}, as {seen[name]} is", cure)
        seen[name] = str(file)
    return tuple(_load(file, ndim, spacing) for file in files)


def _load(file: Path, ndim: int, spacing: tuple[float, ...] | None) -> Loaded:
    try:
        loaded = load_image(file, spacing=spacing)
    except ChannelError as error:
        cure = "registration apply takes it, or one of them, through transform.h5"
        raise InputError(file, f"holds {error.count} volumes or channels, --also takes one", cure) from None
    if loaded.image.ndim != ndim:
        raise InputError(file, f"has {loaded.image.ndim} axes, the images that are registered have {ndim}")
    if not loaded.source.labels:
        return loaded
    said = f"{file} is taken for a label map: nearest voxel"
    return replace(load_labels(file, spacing=spacing), notices=(*loaded.notices, said))


def write_also(images: Sequence[Loaded], transform: Transform, fixed: Loaded, folder: Path) -> list[str]:
    """Write the images on the grid of the fixed one; what there is to say of them.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    """
    notices: list[str] = []
    for loaded in images:
        place = folder / result_of(loaded.source.path)
        warped, met = _warped(loaded, transform, fixed.image.space)
        if not met:
            notices.append(f"{place.name} is empty: nothing of {loaded.image.name} comes to lie in the fixed image")
        write_image(place, warped, like=fixed.source, dtype=loaded.source.dtype)
    return notices


def _warped(loaded: Loaded, transform: Transform, space: Space) -> tuple[Image, bool]:
    """An image on another grid, and whether anything of it lies there."""
    labels = loaded.source.labels
    fill = 0.0 if labels else fill_of(loaded.image)
    warped, inside = warp(loaded.image, transform, space, nearest if labels else linear, fill)
    return warped, bool(inside.any())


def written_before(folder: Path) -> list[str]:
    """The names of such files that the run in a folder says it has written."""
    try:
        given = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["inputs"]
        numbers = takewhile(lambda number: f"moving_{number}" in given, count(2))
        return [*map(result_of_contrast, numbers), *(result_of(Path(str(file))) for file in given.get("also", ()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
