"""Which files belong to which subject: found in folders by patterns, or listed."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...limits import is_whole
from .patterns import matches, stem, strangers

PathLike = str | os.PathLike[str]
PREPARED = "preprocessing.json"
"""The file by which a folder says that ``registration preprocess`` has written it."""


@dataclass(frozen=True)
class Subject:
    """One image and what goes with it.

    Parameters
    ----------
    id
        Names the subject in messages and in the ids of pairs.
    image
        A file, or the folder of a DICOM series.
    labels, mask, points
        Label map, mask (nonzero is inside) and landmarks of the image, if there are any.
    channel
        Volume of a 4-D file, or component of a colour image, from 0.
    label_channel
        Volume of 4-D labels, from 0.
    """

    id: str
    image: Path
    labels: Path | None = None
    mask: Path | None = None
    points: Path | None = None
    channel: int | None = None
    label_channel: int | None = None


class Files(ABC):
    """A source of subjects."""

    @abstractmethod
    def subjects(self) -> list[Subject]:
        """All subjects, in an order that does not depend on the file system.

        Raises
        ------
        InputError
            If there are none or a place is missing.
        """

    @property
    def folder(self) -> Path | None:
        """The one folder they come from, if there is one."""
        return None


@dataclass(frozen=True)
class Folder(Files):
    """Subjects of a folder, found by patterns with one ``*``, which stands for the id of the subject.

    Parameters
    ----------
    root
        The folder the patterns are relative to.
    images
        Such as ``images/*``, ``*/t1.nii.gz`` or ``images/*_0000.nii.gz``. The ending of the file is no part of the id.
    labels, masks, points
        The same for what goes with the images; None for nothing. Files without an image are left alone. In a folder of
        ``registration preprocess`` its masks are taken without asking.
    channel, label_channel
        As in :class:`Subject`.
    """

    root: PathLike | None
    images: str = "images/*"
    labels: str | None = None
    masks: str | None = None
    points: str | None = None
    channel: int | None = None
    label_channel: int | None = None

    @property
    def folder(self) -> Path | None:
        return None if self.root is None else Path(str(self.root)).expanduser()  # settings take a name such as 7 for 7

    def subjects(self) -> list[Subject]:
        root = self.folder
        if root is None:
            raise InputError("data.root", "is not given", "data.root=FOLDER names the folder of the images")
        check_channels(channel=self.channel, label_channel=self.label_channel)
        made = self.masks is None and (root / PREPARED).is_file() and (root / "masks").is_dir()
        images = matches(root, self.images, "images")
        if not images:
            raise InputError(
                root / self.images, "no image matches", "data.root and data.images say where the images are"
            )
        labels, masks, points = (
            {} if pattern is None else matches(root, pattern, what)
            for what, pattern in (
                ("labels", self.labels),
                ("masks", "masks/*" if made else self.masks),
                ("points", self.points),
            )
        )
        for what, found in (("labels", labels), ("masks", masks), ("points", points)):
            if getattr(self, what) is not None and not found.keys() & images.keys():
                raise strangers(root, what, str(getattr(self, what)), sorted(found), sorted(images))
        return [
            Subject(
                name, images[name], labels.get(name), masks.get(name), points.get(name), self.channel,
                self.label_channel,
            )
            for name in sorted(images)
        ]  # fmt: skip


@dataclass(frozen=True)
class Listed(Files):
    """Subjects from lists of files, in the order of the lists.

    Parameters
    ----------
    images
        Files; their names without ending are the ids.
    labels, masks, points
        As many files, or None.
    """

    images: Sequence[PathLike]
    labels: Sequence[PathLike] | None = None
    masks: Sequence[PathLike] | None = None
    points: Sequence[PathLike] | None = None

    def subjects(self) -> list[Subject]:
        if not self.images:
            raise InputError("the list of images", "is empty", "name two images at least")
        columns = []
        for what in ("labels", "masks", "points"):
            files = getattr(self, what)
            if files is not None and len(files) != len(self.images):
                raise InputError(f"the list of {what}", f"has {len(files)} files, there are {len(self.images)} images")
            columns.append([None] * len(self.images) if files is None else [Path(f) for f in files])
        ids = [stem(Path(file)) for file in self.images]
        for name in ids:
            if ids.count(name) > 1:
                raise InputError("the list of images", f"has two files that are called {name}", "names tell them apart")
        return [Subject(name, Path(file), *rest) for name, file, *rest in zip(ids, self.images, *columns, strict=True)]


@dataclass(frozen=True)
class Decathlon(Files):
    """A task of the Medical Segmentation Decathlon (Antonelli et al. 2022), as it is unpacked, labels included.

    Parameters
    ----------
    root
        The folder that holds ``Task04_Hippocampus`` or whatever the task is called.
    task
        Its name.
    download
        Whether MONAI fetches the task into ``root`` if it is not there (27 MB for the hippocampus, GB for others).
    channel
        As in :class:`Subject`.
    """

    root: PathLike | None
    task: str = "Task04_Hippocampus"
    download: bool = False
    channel: int | None = None

    def subjects(self) -> list[Subject]:
        folder = None if self.root is None else Path(str(self.root)).expanduser() / str(self.task)
        if folder is not None and not folder.is_dir() and self.download:
            from monai.apps.datasets import DecathlonDataset

            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                DecathlonDataset(str(folder.parent), self.task, "training", download=True, cache_num=0, val_frac=0.0)
            except (OSError, RuntimeError, ValueError) as error:
                raise InputError(
                    folder, f"cannot be downloaded ({error})", "unpack the archive there yourself"
                ) from error
        if folder is not None and not folder.is_dir():
            raise InputError(folder, "there is no such folder", "data.download=true fetches the task")
        return Folder(folder, "imagesTr/*", "labelsTr/*", channel=self.channel).subjects()


def check_channels(**channels: int | None) -> None:
    """Refuse what cannot be the number of a volume.

    Raises
    ------
    InputError
        Naming the setting.
    """
    for name, value in channels.items():
        if value is not None and not (is_whole(value) and value >= 0):
            raise InputError(f"data.{name}={value}", "the number of a volume was expected, from 0, or null")
