"""Synthetic pairs as a dataset, each a function of seed and index."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from ....errors import InputError
from ....image import Image
from ....preprocessing import Pipeline
from ....sampling import nearest, sample, unit_grid
from ....space import Space
from ....transforms.base import Transform
from ....transforms.field import sample_field
from ..sources import Parts, Source
from .anatomy import Anatomy, RandomShapes
from .appearance import Alike, Appearance
from .deformations import Chain, RandomFlow, RandomLinear, RandomMap

_POINTS = 32


@dataclass(frozen=True)
class Recipe:
    """How pairs are made.

    Parameters
    ----------
    anatomy
        Draws the label map, which the moving image shows.
    pose
        Moves the label map before anything else, so that the moving images differ too.
    deformation
        Draws the truth, fixed -> moving.
    appearance
        Draws the intensities of each image.
    alike
        Whether both images have one contrast (each its own noise), as two scans of one kind.
    labelled
        Whether items hold the label maps; grey levels are no labels.
    """

    anatomy: Anatomy = field(default_factory=RandomShapes)
    pose: RandomMap = field(default_factory=lambda: RandomLinear(degrees=10, shift=0.05))
    deformation: RandomMap = field(default_factory=lambda: Chain([RandomLinear(), RandomFlow()]))
    appearance: Appearance = field(default_factory=Appearance)
    alike: bool = False
    labelled: bool = True


class SyntheticDataset(Dataset[dict[str, Any]]):
    """Items as those of :class:`PairDataset`, with labels, and with the truth.

    The fixed image at x shows what the moving image shows at T(x). Every item has 32 ``fixed_points`` with the
    ``moving_points`` that T maps them to, and where the recipe is labelled ``truth`` (D, *S) float32, the displacements
    T(x) - x in RAS mm at the voxels of the fixed grid; :meth:`truth` gives T itself.

    Parameters
    ----------
    recipe
        How pairs are made; its anatomy is prepared.
    size
        Number of pairs.
    seed
        With the index decides everything about a pair.
    kept
        Whether pairs are kept in memory once they are made; do not change their tensors in place then.
    """

    def __init__(self, recipe: Recipe, size: int, seed: int = 0, kept: bool = False) -> None:
        if size < 1:
            raise InputError("data.size", f"a number of pairs from 1 was expected, got {size}")
        self.recipe, self.size, self.seed, self.kept = recipe, size, seed, kept
        self._items: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return self.size

    def truth(self, index: int) -> Transform:
        """The exact map of a pair, fixed RAS mm -> moving RAS mm."""
        return self._drawn(index)[2]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.size:
            raise IndexError(index)
        item = self._items.get(index) or self._made(index)
        if self.kept:
            self._items[index] = item
        return dict(item)

    def _made(self, index: int) -> dict[str, Any]:
        labels, pose, truth, generator = self._drawn(index)
        space = labels.space
        item: dict[str, Any] = {"id": f"synthetic-{self.seed}-{index}"}
        contrast = int(torch.randint(2**62, (1,), generator=generator))
        whole = Alike(contrast, *(int(v) for v in labels.data.aminmax()))
        for side, view in (("moving", pose), ("fixed", pose @ truth)):
            # Border labels go on outside, so that a shape which fills the grid leaves no edge where it is moved in.
            seen = sample(labels, unit_grid(view, space, space, labels.data), nearest)[0][0]
            item[side] = self.recipe.appearance(seen, generator, whole if self.recipe.alike else None)
            if self.recipe.labelled:
                item[f"{side}_labels"] = seen.to(torch.int16)
            item[f"{side}_affine"] = space.affine.clone()
        if self.recipe.labelled:
            item["truth"] = sample_field(truth, space)
        item["fixed_points"] = _places(space, generator)
        item["moving_points"] = truth(item["fixed_points"])
        return item

    def _drawn(self, index: int) -> tuple[Image, Transform, Transform, Generator]:
        seed = random.Random(f"{self.seed} {index}").getrandbits(62)
        generator = Generator().manual_seed(seed)
        labels = self.recipe.anatomy(generator)
        pose = self.recipe.pose(labels.space, generator)
        return labels, pose, self.recipe.deformation(labels.space, generator), generator


@dataclass(frozen=True)
class SyntheticPairs(Source):
    """Synthetic pairs for training and for validation.

    Parameters
    ----------
    recipe
        How they are made.
    train, validation
        How many; the pairs of validation are none of training.
    seed
        Of all of them.
    kept
        Whether pairs are kept in memory once they are made: for networks that learn faster than pairs are made.
    """

    recipe: Recipe = field(default_factory=Recipe)
    train: int = 1000
    validation: int = 20
    seed: int = 0
    kept: bool = False

    def __post_init__(self) -> None:
        for key, value, least in (("size", self.train, 1), ("validation", self.validation, 0), ("seed", self.seed, 0)):
            if not isinstance(value, int) or value < least:
                raise InputError(f"data.{key}", f"a whole number from {least} was expected, got {value!r}")

    def datasets(self, pipeline: Pipeline) -> Parts:
        recipe = replace(self.recipe, anatomy=self.recipe.anatomy.prepare(pipeline))
        # Seeds of validation are odd, those of training even.
        held = SyntheticDataset(recipe, self.validation, 2 * self.seed + 1, self.kept) if self.validation else None
        return Parts(SyntheticDataset(recipe, self.train, 2 * self.seed, self.kept), held)

    def notes(self) -> Sequence[str]:
        if not (self.validation and self.recipe.anatomy.finite):
            return ()
        return (
            "training and validation draw from the same images, deformed anew each time: "
            "figures of validation say little about other images",
        )


def _places(space: Space, generator: Generator) -> Tensor:
    """(N, D) float64 points in the inner three quarters of the field of view, RAS mm."""
    d = space.ndim
    share = 0.125 + 0.75 * torch.rand(_POINTS, d, generator=generator, dtype=torch.float64)
    index = share * torch.tensor(space.shape, dtype=torch.float64) - 0.5
    return index @ space.affine[:d, :d].T + space.affine[:d, d]
