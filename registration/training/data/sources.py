"""From settings to the two datasets of a training: which files, which pairs, what happens to bad ones."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch.utils.data import Dataset

from ...batch.table import PairRow, read_pairs
from ...errors import InputError
from ...preprocessing import Pipeline
from .caches import Cache, MemoryCache
from .checks import View, policy, refuse, usable
from .dataset import Item, OnError, PairDataset, Subjects
from .pairing import Fraction, Opposite, Ordered, Pairing, Split
from .patterns import stem
from .prepare import left_to_do
from .subjects import Files, Subject, check_channels

PathLike = str | os.PathLike[str]


class Parts(NamedTuple):
    """The datasets of training and validation; None where nothing is kept for validation."""

    train: Dataset[Item]
    validation: Dataset[Item] | None
    left_out: tuple[str, ...] = ()
    """Files that cannot be used, one line each; only with ``OnError.SKIP``."""


class Source(ABC):
    """What ``configs/data`` describes."""

    @abstractmethod
    def datasets(self, pipeline: Pipeline) -> Parts:
        """The datasets, with images preprocessed by ``pipeline``.

        Raises
        ------
        InputError
            If there are no pairs, or files cannot be used and are not to be skipped.
        """

    def notes(self) -> Sequence[str]:
        """What the user should know of these pairs beforehand, one line each."""
        return ()


@dataclass(frozen=True)
class SubjectPairs(Source):
    """Pairs made of subjects.

    Parameters
    ----------
    files
        Where the subjects come from.
    split
        Parts them.
    train_pairs, validation_pairs
        How pairs are made in each part.
    cache
        Where preprocessed subjects are kept.
    on_error
        What becomes of files that cannot be used, and of images without labels where others have them.
    """

    files: Files
    split: Split = field(default_factory=Fraction)
    train_pairs: Pairing = field(default_factory=Ordered)
    validation_pairs: Pairing = field(default_factory=Opposite)
    cache: Cache = field(default_factory=MemoryCache)
    on_error: OnError | str = OnError.STOP

    def datasets(self, pipeline: Pipeline) -> Parts:
        found = self.files.subjects()
        on_error, left_out = policy(self.on_error), list[str]()
        found = _all_alike(found, on_error, left_out)
        # Split before bad files are taken out, so that one bad file does not move others between the parts.
        shared = {*self.train_pairs.shared(), *self.validation_pairs.shared()}
        train, validation = self.split([s.id for s in found if s.id not in shared])
        found = [s for s in found if s.id in {*train, *validation, *shared}]  # others are not even read
        subjects = usable(found, left_to_do(self.files.folder, pipeline), self.cache, on_error, left_out)
        parts: list[PairDataset | None] = []
        for names, pairing in ((train, self.train_pairs), (validation, self.validation_pairs)):
            wanted = {*names, *(shared if names else ())}
            places = [k for k, s in enumerate(subjects.subjects) if s.id in wanted]
            if not names:
                parts.append(None)
                continue
            pairs = pairing([subjects.subjects[k].id for k in places])
            mine = Subjects([subjects.subjects[k] for k in places], View(subjects, places), subjects.masked)
            parts.append(PairDataset(mine, pairs, None, on_error))
        if parts[0] is None:
            raise InputError("data.split", "leaves no subject for training")
        return Parts(parts[0], parts[1], tuple(left_out))


@dataclass(frozen=True)
class TablePairs(Source):
    """Pairs of a table (``registration.batch.table``), CSV or JSON.

    Parameters
    ----------
    table
        The pairs; those of training alone if ``validation`` is given.
    validation
        A table of pairs for validation; without one ``split`` parts the pairs of ``table`` by their ids.
    split
        Parts pairs, not subjects: keep images that appear in several pairs on one side by ``ByName``.
    cache, on_error
        As for :class:`SubjectPairs`; labels and landmarks are there in all rows of a part, or in none.
    channel
        Volume of 4-D images, or component of colour images, from 0; of one image the table may choose another.
    """

    table: PathLike | None
    validation: PathLike | None = None
    split: Split = field(default_factory=Fraction)
    cache: Cache = field(default_factory=MemoryCache)
    on_error: OnError | str = OnError.STOP
    channel: int | None = None

    def datasets(self, pipeline: Pipeline) -> Parts:
        if self.table is None:
            raise InputError("data.table", "is not given", "data.table=FILE names the table of pairs")
        check_channels(channel=self.channel)
        rows, on_error, left_out = read_pairs(str(self.table)), policy(self.on_error), list[str]()
        if self.validation is not None:
            train, validation = rows, read_pairs(str(self.validation))
        else:
            names = self.split([row.id for row in rows])
            train, validation = ([row for row in rows if row.id in set(part)] for part in names)
        train, validation = (_whole_rows(part, on_error, left_out) for part in (train, validation))
        found = _subjects_of([*train, *validation], self.channel)
        subjects = usable(list(found.values()), pipeline, self.cache, on_error, left_out)
        return Parts(
            _of_rows(train, subjects, on_error, self.channel),
            _of_rows(validation, subjects, on_error, self.channel) if validation else None,
            tuple(left_out),
        )


def _all_alike(found: list[Subject], on_error: OnError, left_out: list[str]) -> list[Subject]:
    """Subjects that have labels, masks and points where others have: an item of a batch is like the next."""
    if not found:
        raise InputError("the dataset", "is empty: it has no images", "check data.root")
    for what in ("labels", "mask", "points"):
        missing = [s for s in found if getattr(s, what) is None]
        if missing and len(missing) < len(found):
            word = {"mask": "masks"}.get(what, what)
            lines = [f"{s.image}: has no {what}, {len(found) - len(missing)} other images have" for s in missing]
            refuse(lines, on_error, left_out, f"data.{word}=null trains without {word}")
            found = [s for s in found if getattr(s, what) is not None]
    return found


def _whole_rows(rows: list[PairRow], on_error: OnError, left_out: list[str]) -> list[PairRow]:
    """Rows that have labels and landmarks of both images or of none, and where others have them."""
    lines, good = list[str](), list[PairRow]()
    for row in rows:
        lone = [
            what for what in ("labels", "points")
            if (getattr(row, f"fixed_{what}") is None) != (getattr(row, f"moving_{what}") is None)
        ]  # fmt: skip
        lines += [f"pair {row.id}: only one of its images has {what}" for what in lone[:1]]
        good += [] if lone else [row]
    refuse(lines, on_error, left_out, "fill the cell or clear both")
    for what in ("labels", "points"):
        lacking = [row for row in good if getattr(row, f"fixed_{what}") is None]
        if lacking and len(lacking) < len(good):
            count = len(good) - len(lacking)
            lines = [f"pair {row.id}: its images have no {what}, those of {count} other pairs have" for row in lacking]
            refuse(lines, on_error, left_out, f"fill the cells of {what} or clear them all")
            good = [row for row in good if getattr(row, f"fixed_{what}") is not None]
    return good


def _subjects_of(rows: Sequence[PairRow], channel: int | None) -> dict[tuple, Subject]:
    """Each image of a table once with what goes with it."""
    found: dict[tuple, Subject] = {}
    for row in rows:
        for key in _keys(row, channel):
            found.setdefault(key, Subject(stem(key[0]), *key))
    return found


def _keys(row: PairRow, channel: int | None) -> tuple[tuple, tuple]:
    """What makes the two subjects of a pair, their ids left out."""
    fixed, moving = (channel if own is None else own for own in (row.fixed_channel, row.moving_channel))
    return (
        (row.fixed, row.fixed_labels, row.fixed_mask, row.fixed_points, fixed, row.label_channel),
        (row.moving, row.moving_labels, row.moving_mask, row.moving_points, moving, row.label_channel),
    )


def _of_rows(rows: Sequence[PairRow], subjects: Subjects, on_error: OnError, channel: int | None) -> PairDataset:
    places = {
        (s.image, s.labels, s.mask, s.points, s.channel, s.label_channel): k for k, s in enumerate(subjects.subjects)
    }
    kept = [row for row in rows if all(key in places for key in _keys(row, channel))]
    pairs = [(places[a], places[b]) for a, b in (_keys(row, channel) for row in kept)]
    return PairDataset(subjects, pairs, [row.id for row in kept], on_error)
