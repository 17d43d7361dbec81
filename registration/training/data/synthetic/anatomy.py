"""Where the label maps of synthetic pairs come from."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from ....errors import InputError
from ....filters import resample
from ....image import Image
from ....limits import HEAVIEST, check_above, check_counts
from ....preprocessing import Pipeline
from ....space import Space
from ..caches import Cache, MemoryCache, Store
from ..checks import View, policy, usable
from ..dataset import OnError
from ..prepare import left_to_do
from ..subjects import Files, Subject

_MOST = 2**15  # labels, as they are kept in 16 bits
_log = logging.getLogger(__name__)


class Anatomy(ABC):
    """Draws label maps."""

    finite = False
    """Whether they are those of a few images, so that validation shows images that are trained on."""

    def prepare(self, pipeline: Pipeline) -> Anatomy:
        """The same, ready to draw, with whatever files it has on the grid that preprocessing gives them."""
        return self

    @abstractmethod
    def __call__(self, generator: Generator) -> Image:
        """A label map, (1, 1, *S) float32 whole numbers."""


@dataclass(frozen=True)
class RandomShapes(Anatomy):
    """Shapes of noise: each voxel gets the label whose smooth random image is the greatest there.

    Parameters
    ----------
    shape, spacing
        Voxels along each axis, D of them, and mm.
    labels
        How many there are.
    coarse
        Voxels of the coarsest noise across one blob, about.
    """

    shape: Sequence[int] = (64, 64, 64)
    spacing: float = 1.0
    labels: int = 16
    coarse: int = 12

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or not all(isinstance(n, int) and n >= 1 for n in self.shape):
            raise ValueError(f"shape is two or three whole numbers of voxels, got {list(self.shape)}")
        check_above(HEAVIEST, spacing=self.spacing)
        check_counts(1, _MOST, labels=self.labels)
        check_counts(1, coarse=self.coarse)

    def __call__(self, generator: Generator) -> Image:
        winner = torch.full((1, 1, *self.shape), -torch.inf, dtype=torch.float32)
        labels = torch.zeros_like(winner)
        for label in range(self.labels):
            noise = self._noise(self.coarse, generator) + 0.2 * self._noise(max(2, self.coarse // 2), generator)
            labels[noise > winner] = label
            torch.maximum(winner, noise, out=winner)
        return Image(labels, Space.regular(self.shape, self.spacing), name="shapes")

    def _noise(self, size: int, generator: Generator) -> Tensor:
        """(1, 1, *S) normal numbers at every ``size`` voxels, linear between."""
        knots = [max(2, -(-n // size)) if n > 1 else 1 for n in self.shape]
        return resample(torch.randn(1, 1, *knots, generator=generator, dtype=torch.float32), self.shape)


@dataclass(frozen=True)
class FromFiles(Anatomy):
    """The label maps of subjects, on the grid that preprocessing gives their images.

    Parameters
    ----------
    files
        The subjects, all with labels. A folder of label maps alone is given as images and as labels.
    cache
        Where they are kept.
    on_error
        What becomes of files that cannot be used.
    """

    files: Files
    cache: Cache = field(default_factory=MemoryCache)
    on_error: OnError | str = OnError.STOP
    store: Store | None = None
    finite = True

    def prepare(self, pipeline: Pipeline) -> FromFiles:
        subjects = self.files.subjects()
        for subject in subjects:
            if subject.labels is None:
                raise InputError(subject.image, "has no labels, synthetic pairs are made of labels", "give data.labels")
        return replace(self, store=_stored(subjects, self.files, pipeline, self.cache, self.on_error))

    def __call__(self, generator: Generator) -> Image:
        labels, space = _drawn(self.store, "labels", generator)
        return Image(labels[None].float(), space, name="labels")


@dataclass(frozen=True)
class Scans(Anatomy):
    """The images of subjects as grey levels, which an :class:`~.appearance.Appearance` gives intensities as it does to
    labels: for pairs that look like scans and need nobody's labels.

    Parameters
    ----------
    files
        The subjects; of several channels the first is taken.
    levels
        How many; the darkest, level 0, is the background.
    cache
        Where they are kept.
    on_error
        What becomes of files that cannot be used.
    """

    files: Files
    levels: int = 48
    cache: Cache = field(default_factory=MemoryCache)
    on_error: OnError | str = OnError.STOP
    store: Store | None = None
    finite = True

    def __post_init__(self) -> None:
        check_counts(2, _MOST, levels=self.levels)

    def prepare(self, pipeline: Pipeline) -> Scans:
        subjects = [replace(subject, labels=None) for subject in self.files.subjects()]
        return replace(self, store=_stored(subjects, self.files, pipeline, self.cache, self.on_error))

    def __call__(self, generator: Generator) -> Image:
        data, space = _drawn(self.store, "image", generator)
        data = data[:1].float()
        low, high = data.aminmax()
        share = (data - low) / (high - low).clamp(min=1e-6)
        return Image((share * (self.levels - 1)).round()[None], space, name="scan")


def _stored(subjects: list[Subject], files: Files, pipeline: Pipeline, cache: Cache, on_error: OnError | str) -> Store:
    """The records of all subjects that can be used; what cannot is told."""
    left_out = list[str]()
    known = usable(subjects, left_to_do(files.folder, pipeline), cache, policy(on_error), left_out)
    for line in left_out:
        _log.warning("left out: %s", line)
    if not known.subjects:
        raise InputError("the dataset", "is empty: none of its files can be used")
    return View(known, range(len(known.subjects)))


def _drawn(store: Store | None, key: str, generator: Generator) -> tuple[Tensor, Space]:
    """(C, *S) of a random subject and its grid."""
    if store is None:
        raise ValueError("prepare(pipeline) was expected before the first label map")
    record = store[int(torch.randint(len(store), (1,), generator=generator))]
    if "error" in record:
        raise InputError(record["error"])
    return record[key], Space(tuple(record[key].shape[1:]), record["affine"])
