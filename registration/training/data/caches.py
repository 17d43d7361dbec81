"""Where preprocessed subjects are kept between their uses: nowhere, in memory, or in a folder.

A cache holds subjects, not pairs: N subjects make N (N - 1) pairs.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ...limits import check_counts
from .loading import Record, SubjectLoader
from .subjects import Subject


class Store(Protocol):
    """Records by the position of their subject."""

    def __getitem__(self, index: int, /) -> Record:
        """The record of a subject."""

    def __len__(self) -> int:
        """How many subjects there are."""


class Cache(ABC):
    """A way to keep records."""

    @abstractmethod
    def store(self, subjects: Sequence[Subject], load: SubjectLoader) -> Store:
        """The records of these subjects."""

    def fills(self) -> bool:
        """Whether looking at all records once is work that later uses save."""
        return True


class NoCache(Cache):
    """Every use reads and preprocesses again; for data that ``registration preprocess`` has prepared."""

    def store(self, subjects: Sequence[Subject], load: SubjectLoader) -> Store:
        return _Direct(subjects, load)

    def fills(self) -> bool:
        return False


class _Direct:
    def __init__(self, subjects: Sequence[Subject], load: SubjectLoader) -> None:
        self.subjects, self.load = subjects, load

    def __getitem__(self, index: int, /) -> Record:
        return self.load(self.subjects[index])

    def __len__(self) -> int:
        return len(self.subjects)


class MemoryCache(Cache):
    """All records in memory, by MONAI's ``CacheDataset``; workers that are forked afterwards share them.

    Parameters
    ----------
    workers
        Threads that fill it.
    """

    def __init__(self, workers: int = 2) -> None:
        check_counts(1, workers=workers)
        self.workers = workers

    def store(self, subjects: Sequence[Subject], load: SubjectLoader) -> Store:
        from .monai_stores import in_memory

        return in_memory(subjects, load, max(1, min(self.workers, len(subjects))))


class DiskCache(Cache):
    """Records in a folder, one file each, named by the content of the subject's files and the preprocessing.

    So a changed image or setting is prepared anew, and several runs can share a folder, also at the same time. The
    files hold tensors and plain values and are read with ``weights_only=True``: a file that somebody else puts there
    cannot run code, and a damaged one is made again.

    Parameters
    ----------
    folder
        Made if it is missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not isinstance(folder, (str, os.PathLike)):
            raise ValueError(f"folder is the name of a folder, got {folder!r}")
        self.folder = Path(folder)

    def store(self, subjects: Sequence[Subject], load: SubjectLoader) -> Store:
        from .monai_stores import on_disk

        return on_disk(subjects, load, self.folder.expanduser())
