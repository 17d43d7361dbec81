"""MONAI's caching datasets over subjects. Imported only when one is made: MONAI takes seconds to load."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, PersistentDataset
from monai.transforms import Transform

from ...errors import InputError
from ...io.files import atomic_path, beside
from .caches import Store
from .loading import Record, SubjectLoader
from .subjects import Subject


class _Load(Transform):
    """The loader as a transform whose results MONAI caches."""

    def __init__(self, load: SubjectLoader) -> None:
        self.load = load

    def __call__(self, data: Subject) -> Record:
        return self.load(data)


def in_memory(subjects: Sequence[Subject], load: SubjectLoader, workers: int) -> Store:
    """All records, prepared now by that many threads."""
    return CacheDataset(list(subjects), _Load(load), num_workers=workers, progress=False, copy_cache=False)


def on_disk(subjects: Sequence[Subject], load: SubjectLoader, folder: Path) -> Store:
    """Records in the folder, prepared when first asked for.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be made for the cache ({error.strerror or error})") from None
    return _Folder(list(subjects), load, folder)


class _Folder(PersistentDataset):
    """``PersistentDataset`` with three differences: a file appears whole or not at all, also where the folder for
    temporary files is on another disk; a file that is damaged in any way is made again; and errors are not kept.
    """

    def __init__(self, subjects: list[Subject], load: SubjectLoader, folder: Path) -> None:
        super().__init__(subjects, _Load(load), folder, hash_func=self._hash)
        self._load, self._place = load, folder
        self._known: dict[Subject, tuple[tuple[Any, ...], str]] = {}

    def _cachecheck(self, item_transformed: Subject) -> Record:
        try:
            file = self._place / f"{self.hash_func(item_transformed).decode()}.pt"
        except (InputError, OSError) as error:
            return {"error": str(error)}
        # A file of another program or a cut one may raise nearly anything while it is taken apart.
        with contextlib.suppress(OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
            record = torch.load(file, weights_only=True, map_location="cpu")
            if isinstance(record, dict) and {"image", "affine"} <= set(record):
                return record
        record = self._pre_transform(item_transformed)
        if "error" not in record:
            with atomic_path(file) as temporary:
                torch.save(record, temporary)
        return record

    def _hash(self, subject: Subject) -> bytes:
        """The key of a subject, computed again only when its files have changed their size or time."""
        files = [f for f in (subject.image, subject.labels, subject.mask) if f is not None]
        stamp = tuple((s.st_size, s.st_mtime_ns) for f in files for s in map(os.stat, (f, *beside(f))))
        if subject not in self._known or self._known[subject][0] != stamp:
            self._known[subject] = stamp, self._load.key(subject)
        return self._known[subject][1].encode()
