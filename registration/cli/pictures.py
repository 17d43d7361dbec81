"""What a run leaves for people to look at: the warped image and labels, the overview, and texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..evaluation.overview import overview, write_overview
from ..evaluation.remembered import Remembered
from ..evaluation.sheet import Heading
from ..evaluation.verdict import Verdict
from ..image import Image
from ..io.files import atomic_path
from ..io.images import write_image
from ..io.itk_images import PHOTOGRAPHS
from ..sampling import warp
from ..transforms.base import Transform
from .case import Case
from .contrasts import result_of_contrast
from .scores import fill_of, headline, scores


@dataclass(frozen=True, eq=False)
class Found:
    """A transform (fixed RAS mm -> moving RAS mm) with its figures and the moving image warped through it."""

    transform: Transform
    seen: Transform
    figures: dict[str, Any]
    warped: Image

    @staticmethod
    def of(case: Case, transform: Transform) -> Found:
        """Warp and score."""
        seen, moving = Remembered.of(transform), case.moving.image
        warped, inside = warp(moving, seen, case.fixed.image.space, fill=fill_of(moving))
        return Found(transform, seen, scores(case, seen, warped, inside), warped)


def write_pictures(case: Case, found: Found, verdict: Verdict, folder: Path) -> None:
    """Write warped.nii.gz, overview.png and, where there are such, warped_labels.nii.gz and further contrasts."""
    like = case.fixed.source
    write_image(folder / "warped.nii.gz", found.warped, like=like, dtype=case.moving.source.dtype)
    if case.moving_labels is not None:
        labels = warp(case.moving_labels.image, found.seen, case.fixed.image.space, case.label_sampler)[0]
        write_image(folder / "warped_labels.nii.gz", labels, like=like, dtype=case.moving_labels.source.dtype)
    for number, contrast in enumerate(case.contrasts, start=2):
        image, dtype = contrast.file.image, contrast.file.source.dtype
        warped = warp(image, found.seen, case.fixed.image.space, fill=fill_of(image))[0]
        write_image(folder / result_of_contrast(number), warped, like=like, dtype=dtype)
    fixed, moving = case.seen
    figures = ",  ".join(f"{name} {text}" for name, text in headline(found.figures).items())
    kept = "initial alignment kept: " + verdict.worse if verdict.worse else verdict.text
    names = titled(Path(moving.name), Path(fixed.name))
    names += f" (first of {1 + len(case.contrasts)} contrasts)" if case.contrasts else ""
    heading = Heading(f"{names}:  {figures}", verdict.status, kept)
    letters = like.kind not in PHOTOGRAPHS
    # The moving mask would blank the picture outside it, where a failure may show.
    figure = overview(fixed, replace(moving, mask=None), found.transform, heading=heading, letters=letters)
    write_overview(folder / "overview.png", figure)


def titled(moving: Path, fixed: Path) -> str:
    """``moving onto fixed``, with the nearest folders that differ where the names of the files do not."""
    names = [moving.name, fixed.name]
    if moving.name == fixed.name:
        folders = [path.absolute().parts[:-1] for path in (moving, fixed)]
        for one, other in zip(reversed(folders[0]), reversed(folders[1]), strict=False):
            names = [f"{one}/{names[0]}", f"{other}/{names[1]}"]
            if one != other:
                break
    return " onto ".join(names)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
