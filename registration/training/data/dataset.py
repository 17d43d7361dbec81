"""Pairs of preprocessed subjects as a map-style dataset."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import InputError
from ...io.points import read_pairs
from ...space import Space
from .caches import Store
from .loading import Record
from .pairing import Pairs
from .subjects import Subject

Item = dict[str, Any]
_TRIES = 1000
_log = logging.getLogger(__name__)


class OnError(StrEnum):
    """What a file that cannot be used does: end the run, or be left out, named and counted."""

    STOP = "stop"
    SKIP = "skip"


@dataclass(frozen=True)
class Subjects:
    """Subjects, their records, and whether items carry masks."""

    subjects: Sequence[Subject]
    store: Store
    masked: bool = False


class PairDataset(Dataset[Item]):
    """Items of two subjects on one grid shape.

    An item is a dict of ``fixed`` and ``moving`` (C, *S) float32; ``fixed_affine`` and ``moving_affine`` (D+1, D+1)
    float64, voxel -> RAS mm; ``fixed_labels`` and ``moving_labels`` (1, *S) int16 where both images have them;
    ``fixed_mask`` and ``moving_mask`` (1, *S) boolean where the dataset has masks (an image without has True
    everywhere); ``fixed_points`` and ``moving_points`` (N, D) float64 RAS mm, row by row the same place, where both
    have landmarks; and ``id``. Its tensors are those of the cache: do not change them in place.

    Parameters
    ----------
    of
        The subjects.
    pairs
        (fixed, moving) positions among them.
    ids
        A name for each pair; ``MOVING-to-FIXED`` without.
    on_error
        ``SKIP`` puts another pair, always the same, in the place of one that cannot be read; :attr:`skipped` counts.

    Raises
    ------
    InputError
        If there are no pairs; on access, if an image cannot be used and ``on_error`` is ``STOP``, or none can.
    """

    def __init__(
        self, of: Subjects, pairs: Pairs, ids: Sequence[str] | None = None, on_error: OnError = OnError.STOP
    ) -> None:
        if len(pairs) == 0:
            raise InputError("the dataset", "is empty: there are no pairs", "check data.root and data.split")
        self.of, self.pairs, self.ids, self.on_error = of, pairs, ids, OnError(on_error)
        # In shared memory, so that what workers skip is counted here.
        self._bad = torch.zeros(len(of.subjects), dtype=torch.int64).share_memory_()
        self._shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """The id of a pair."""
        fixed, moving = self.pairs[index]
        return self.ids[index] if self.ids is not None else self._name(fixed, moving)

    @property
    def skipped(self) -> dict[str, int]:
        """How often a subject that cannot be used was skipped, by its id, counted over all workers."""
        return {s.id: n for s, n in zip(self.of.subjects, self._bad.tolist(), strict=True) if n}

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            return self._item(index)
        except InputError as error:
            if self.on_error is OnError.STOP:
                raise
            first = error
        generator = random.Random(index)
        for _ in range(_TRIES):
            other = generator.randrange(len(self))
            if not self._known_bad(other):
                try:
                    return self._item(other)
                except InputError:
                    continue
        raise InputError("the dataset", f"has hardly a pair that can be used; the first error: {first}")

    def _item(self, index: int) -> Item:
        chosen = self.pairs[index]
        fixed, moving = (self._record(place) for place in chosen)
        self._check_grids(chosen, fixed, moving)
        item: Item = {"id": self.name(index)}
        for side, record in (("fixed", fixed), ("moving", moving)):
            item[side] = record["image"]
            item[f"{side}_affine"] = record["affine"]
            if "labels" in fixed and "labels" in moving:
                item[f"{side}_labels"] = record["labels"]
            if self.of.masked or "mask" in fixed or "mask" in moving:
                mask = record.get("mask")
                item[f"{side}_mask"] = torch.ones_like(record["image"][:1], dtype=torch.bool) if mask is None else mask
        files = [self.of.subjects[place].points for place in chosen]
        if files[0] is not None and files[1] is not None:
            item["fixed_points"], item["moving_points"] = _points(files[0], files[1], fixed, moving)
        return item

    def _record(self, place: int) -> Record:
        record = self.of.store[place]
        if "error" in record:
            if self.on_error is OnError.SKIP:
                if not self._bad[place]:
                    _log.warning("skipped: %s", record["error"])
                self._bad[place] += 1
            raise InputError(record["error"])
        return record

    def _check_grids(self, chosen: tuple[int, int], fixed: Record, moving: Record) -> None:
        names = [self.of.subjects[place].image for place in chosen]
        shapes = [tuple(record["image"].shape[1:]) for record in (fixed, moving)]
        if len(shapes[0]) != len(shapes[1]):
            raise InputError(
                names[1], f"has {len(shapes[1])} axes {shapes[1]}, the fixed image {names[0]} has {len(shapes[0])} "
                f"{shapes[0]}", "a pair is 2-D or 3-D",
            )  # fmt: skip
        if self._shape is None:
            self._shape = shapes[0]
        for name, shape in zip(names, shapes, strict=True):
            if shape != self._shape:
                raise InputError(
                    name, f"is {shape} after preprocessing, others are {self._shape}",
                    "a last step CropOrPad (preprocessing.shape) gives all one shape",
                )  # fmt: skip

    def _known_bad(self, index: int) -> bool:
        return any(bool(self._bad[place]) for place in self.pairs[index])

    def _name(self, fixed: int, moving: int) -> str:
        return f"{self.of.subjects[moving].id}-to-{self.of.subjects[fixed].id}"


def _points(fixed_file: Path, moving_file: Path, fixed: Record, moving: Record) -> tuple[Tensor, Tensor]:
    """Corresponding landmarks; where a table counts voxels, it counts those of the image file."""
    grids = tuple(Space(tuple(record["native_shape"]), record["native_affine"]) for record in (fixed, moving))
    return read_pairs(fixed_file, moving_file, (grids[0], grids[1]))
