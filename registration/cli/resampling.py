"""What ``apply`` does with a file: its volumes through the transform, onto the grid of the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..image import Image
from ..io.images import Loaded, as_image, as_labels, load_image, load_labels, write_image
from ..io.raw import Source
from ..io.series import Series, open_series, write_volumes
from ..sampling import Sampler, linear, nearest, unit_grid, vote, warp, warp_at
from ..space import Space
from ..transforms.base import Transform
from .fitting import Fitting
from .scores import fill_of

_DIRECTED = (3, 6)  # volumes of vectors and tensors in files that do not say what they hold


@dataclass(frozen=True)
class Resampling:
    """Resamples one file after another in the same way.

    Parameters
    ----------
    chain
        RAS mm of the reference -> RAS mm of the files.
    onto, like
        The grid of the results, and what the file of the reference says beside it.
    sampler
        None where the kind of image decides.
    channel, spacing
        How the files are read; without a channel, all volumes of a NIfTI file go through the transform.
    dtype
        Of the voxels of the results; that of each file without.
    """

    chain: Transform
    onto: Space
    like: Source
    sampler: Sampler | None = None
    channel: int | None = None
    spacing: tuple[float, ...] | None = None
    dtype: np.dtype | None = None

    def __call__(self, source: Path, result: Path) -> list[str]:
        """Write ``result``; what had to be decided, in sentences."""
        series = open_series(source) if self.channel is None else None
        return self._volume(source, result) if series is None else self._volumes(series, result)

    def _volume(self, source: Path, result: Path) -> list[str]:
        loaded, sampler = self._read(source)
        labels = loaded.source.labels
        notices = list(loaded.notices)
        if self.sampler is None and labels:
            notices.append(_taken(source, "a label map"))
        fill = 0.0 if labels or sampler is vote else fill_of(loaded.image)
        warped, inside = warp(loaded.image, self.chain, self.onto, sampler, fill)
        if not bool(inside.any()):
            notices.append(_empty(source, result))
        if self.dtype is not None:
            fitting = Fitting(source, self.dtype, labels or sampler is vote)
            fitting.look(warped)
            notices += fitting.notes()
        write_image(result, warped, like=self.like, dtype=self.dtype or loaded.source.dtype, notices=notices)
        return notices

    def _read(self, source: Path) -> tuple[Loaded, Sampler]:
        """An image and how its values are found; labels are read exactly."""
        loaded = load_image(source, channel=self.channel, spacing=self.spacing)
        labels, whole = loaded.source.labels, loaded.source.dtype.kind in "iu"
        sampler = self.sampler or (nearest if labels else linear)
        if sampler is vote or (sampler is nearest and (labels or whole) and self.channel is None):
            exact = load_labels(source, channel=self.channel, spacing=self.spacing)  # also beyond 2^24
            loaded = replace(exact, source=loaded.source)
        self._check(source, loaded.image)
        return loaded, sampler

    def _check(self, source: Path, image: Image) -> None:
        if image.ndim != self.chain.ndim:
            raise InputError(source, f"has {image.ndim} axes, the transform is {self.chain.ndim}-D")

    def _volumes(self, series: Series, result: Path) -> list[str]:
        """Every volume in turn; all are labels or none is."""
        first = next(iter(series))
        labels = series.labels()
        sampler = self.sampler or (nearest if labels else linear)
        exact = sampler is vote or (sampler is nearest and (labels or first.source.dtype.kind in "iu"))
        notices = [_taken(series.file, "label maps")] if self.sampler is None and labels else []
        warped = _Volumes(self, series, sampler, exact, labels)
        dtype = self.dtype or first.source.dtype
        told: list[str] = []
        like = replace(self.like, fourth=first.source.fourth)
        write_volumes(result, warped, series.shape[3:], self.onto, like=like, dtype=dtype, notices=told)
        notices += [*warped.notices, *told]
        if not warped.met:
            notices.append(_empty(series.file, result))
        return [*notices, *_directions(series, warped.below)]


class _Volumes:
    """The volumes of a file on the grid of the target; where they lie in the file is found once."""

    def __init__(self, how: Resampling, series: Series, sampler: Sampler, exact: bool, labels: bool) -> None:
        self.how, self.series, self.sampler, self.exact, self.labels = how, series, sampler, exact, labels
        self.notices: list[str] = []
        self.met = self.below = False
        named = labels or sampler is vote
        self.fitting = None if how.dtype is None else Fitting(series.file, how.dtype, named)

    def __iter__(self) -> Iterator[Image]:
        onto, grids = self.how.onto, dict[torch.dtype, Tensor]()
        likewise = 0
        for number, raw in enumerate(self.series):
            read = as_labels(raw, self.how.spacing) if self.exact else as_image(raw, self.how.spacing, labels=False)
            image = read.image
            self.how._check(self.series.file, image)
            if image.data.dtype not in grids:
                grids[image.data.dtype] = unit_grid(self.how.chain, image.space, onto, image.data)
            fill = 0.0 if self.labels or self.sampler is vote else fill_of(image)
            warped, inside = warp_at(image, grids[image.data.dtype], onto, self.sampler, fill)
            self.met, self.below = self.met or bool(inside.any()), self.below or fill < 0
            fresh = [text for text in read.notices if text not in self.notices]
            if number == 0:  # what is said of the file as well
                self.notices += fresh
            elif fresh:
                self.notices += fresh if not likewise else []
                likewise += 1
            if self.fitting is not None:
                self.fitting.look(warped)
            yield warped
        if likewise > 1:
            self.notices.append(f"{self.series.file}: likewise {likewise - 1} more of its volumes")
        self.notices += self.fitting.notes() if self.fitting is not None else []


def _taken(source: Path, what: str) -> str:
    return f"{source} is taken for {what}: nearest voxel; --interpolation linear treats it as an image"


def _empty(source: Path, result: Path) -> str:
    return f"{result} is empty: the transform leads nowhere inside {source}; is it the inverse that is needed?"


def _directions(series: Series, below: bool) -> list[str]:
    """What resampling does not do for directions: a word where gradients lie beside the file, or its values may be."""
    stem = series.file.name.removesuffix(".gz").removesuffix(".nii")
    beside = [file for file in (series.file.with_name(f"{stem}.{end}") for end in ("bvec", "bvecs")) if file.is_file()]
    if beside:
        return [f"the gradient directions in {beside[0]} are not turned; turn them by the rotation of the transform"]
    if below and series.count in _DIRECTED:
        return [f"{series.file}: each of its {series.count} volumes is resampled by itself; vectors are not turned"]
    return []
