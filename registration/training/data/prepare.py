"""Preprocessing done once: a folder of images to a folder that a training reads as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import InputError
from ...image import Image
from ...io.files import atomic_path, newest
from ...io.images import write_image
from ...preprocessing import Pipeline
from ...space import Space
from .loading import SubjectLoader
from .subjects import PREPARED, Subject

_PARTS = ("images", "labels", "masks")


class Preparation:
    """Writes preprocessed subjects into ``FOLDER/images``, ``labels`` and ``masks``, as ID.nii.gz.

    Labels and mask are written before the image and every file appears whole, so an image that is there says that its
    subject is done. Landmarks in millimetres hold as they are.

    Parameters
    ----------
    pipeline
        The preprocessing.
    folder
        Where to; its ``preprocessing.json`` keeps the pipeline, and what every subject was made from.
    """

    def __init__(self, pipeline: Pipeline, folder: str | os.PathLike[str]) -> None:
        self.load, self.folder = SubjectLoader(pipeline), Path(folder)

    def begin(self, subjects: Sequence[Subject], overwrite: bool = False) -> list[Subject]:
        """Make the folders, and say what is left to do: subjects whose image is missing, or older than their files, or
        made from other ones.

        Parameters
        ----------
        overwrite
            Whether all is left to do, and results of other settings are removed.

        Raises
        ------
        InputError
            If the folder holds results of other settings, something else, or the images themselves.
        """
        # A link may lie here and lead elsewhere, or the other way round.
        own = [Path(os.path.abspath(self.folder)), self.folder.resolve()]
        for file in (f for s in subjects for f in (s.image, s.labels, s.mask) if f is not None):
            if any(
                place.is_relative_to(folder)
                for place in (Path(os.path.abspath(file)), file.resolve())
                for folder in own
            ):
                raise InputError(self.folder, "holds the images themselves", "choose another folder for the results")
        file, config = self.folder / PREPARED, self.load.pipeline.config()
        try:
            if not file.exists() and self.folder.is_dir() and any(self.folder.iterdir()) and not overwrite:
                raise InputError(self.folder, "is not empty", "choose another folder, or give --overwrite")
            known = read_prepared(self.folder)
            if known is not None and Pipeline.from_config(known).digest() != self.load.pipeline.digest():
                if not overwrite:
                    raise InputError(
                        file, "was written with other settings", "give those, another folder, or --overwrite"
                    )
                for part in _PARTS:
                    for old in (self.folder / part).glob("*.nii.gz"):
                        old.unlink()
            sources = _sources(self.folder)
            for subject in subjects:
                if sources.get(subject.id) != (made_from := _source(subject)):
                    for part in _PARTS:
                        self._target(part, subject).unlink(missing_ok=True)
                    sources[subject.id] = made_from
            for part in _PARTS:
                (self.folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(self.folder, f"cannot be written to ({error.strerror or error})") from None
        with atomic_path(file) as temporary:
            temporary.write_text(
                json.dumps({"registration": __version__, "steps": config, "sources": sources}, indent=1) + "\n"
            )
        return [s for s in subjects if overwrite or not self.done(s)]

    def done(self, subject: Subject) -> bool:
        """Whether the results of a subject are there and newer than its files."""
        target = self._target("images", subject)
        sources = [f for f in (subject.image, subject.labels, subject.mask) if f is not None]
        try:
            return target.stat().st_mtime_ns >= max(newest(file) for file in sources)
        except OSError:
            return False

    def end(self) -> None:
        """Take away folders that nothing went into."""
        for part in _PARTS:
            if (self.folder / part).is_dir() and not any((self.folder / part).iterdir()):
                (self.folder / part).rmdir()

    def __call__(self, subject: Subject) -> str | None:
        """Prepare one subject; what is wrong with it in one line, or None. One that is wrong keeps no older result."""
        record = self.load(subject)
        if "error" in record:
            for part in _PARTS:
                self._target(part, subject).unlink(missing_ok=True)
            return str(record["error"])
        space = Space(tuple(record["image"].shape[1:]), record["affine"])
        parts: dict[str, tuple[Any, str]] = {"images": (record["image"], "float32")}
        if "mask" in record:
            parts = {"masks": (record["mask"], "uint8"), **parts}
        if "labels" in record:
            parts = {"labels": (record["labels"], "int16"), **parts}
        try:
            for part, (values, dtype) in parts.items():
                image = Image(values[None].float(), space, name=subject.id)
                write_image(self._target(part, subject), image, dtype=dtype)
        except InputError as error:
            return str(error)
        return None

    def _target(self, part: str, subject: Subject) -> Path:
        return self.folder / part / f"{subject.id}.nii.gz"


def _source(subject: Subject) -> list[str | int | None]:
    """What a subject is made from, as it is kept: absolute names, and the channels."""
    files = (subject.image, subject.labels, subject.mask)
    names = [None if file is None else str(file.resolve()) for file in files]
    return [*names, subject.channel, *([] if subject.label_channel is None else [subject.label_channel])]


def _sources(folder: Path) -> dict[str, Any]:
    """What the subjects of a folder were made from, by their ids."""
    file = folder / PREPARED
    found = json.loads(file.read_text(encoding="utf-8")).get("sources") if file.is_file() else None
    return dict(found) if isinstance(found, dict) else {}


def read_prepared(folder: Path) -> Mapping[str, Any] | None:
    """The configuration of the preprocessing that wrote a folder; None where none did.

    Raises
    ------
    InputError
        If the file that says so is damaged.
    """
    file = folder / PREPARED
    if not file.is_file():
        return None
    try:
        steps = json.loads(file.read_text(encoding="utf-8"))["steps"]
        if not isinstance(steps, dict):
            raise TypeError(f"steps are {type(steps).__name__}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(file, f"is damaged ({type(error).__name__}: {error})", "preprocess once more") from None
    return steps


def left_to_do(folder: Path | None, pipeline: Pipeline) -> Pipeline:
    """The steps that images of a folder still need: all, or none where the same pipeline has written them.

    Raises
    ------
    InputError
        If another one has: a network would then be used on images that are prepared in another way than its training's.
    """
    known = None if folder is None else read_prepared(folder)
    if folder is None or known is None:
        return pipeline
    if Pipeline.from_config(known).digest() != pipeline.digest():
        raise InputError(
            folder / PREPARED, "these images were preprocessed with other settings than those given now",
            "give the settings of that file as preprocessing, or the images as they were before",
        )  # fmt: skip
    return Pipeline()
