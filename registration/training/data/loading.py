"""A subject from its files to the tensors that a cache keeps: read, preprocessed, checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError
from ...image import Image
from ...io.files import sha256
from ...io.images import read_image, read_labels
from ...io.raw import ChannelError
from ...preprocessing import Pipeline, carry_labels
from .subjects import Subject

Record = dict[str, Any]
"""What is known of a subject: tensors, numbers and words only, so that it can be stored without pickled code.

``image`` (C, *S) float32, ``affine`` (D+1, D+1) float64 voxel -> RAS mm, ``labels`` (1, *S) int16 and ``mask`` (1, *S)
boolean where there are any, ``native_shape`` and ``native_affine`` of the grid in the file; or ``error`` alone.
"""

_FORMAT = 1


class SubjectLoader:
    """Reads and preprocesses subjects.

    Parameters
    ----------
    pipeline
        The preprocessing.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def __call__(self, subject: Subject) -> Record:
        """The record of a subject; one that cannot be used gives a record of its error, in one line."""
        try:
            return self.load(subject)
        except InputError as error:
            return {"error": str(error)}
        except (OSError, ValueError, EOFError, RuntimeError) as error:
            # What a damaged file makes of its reader is not always foreseen; one bad file must not look like a fault.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return {"error": str(InputError(subject.image, f"cannot be prepared ({reason})"))}

    def load(self, subject: Subject) -> Record:
        """The record of a subject.

        Raises
        ------
        InputError
            If one of its files cannot be used.
        """
        image = _chosen(read_image, subject.image, subject.channel, "data.channel={} takes one of its images")
        native = image.space
        if subject.mask is not None:
            mask = _chosen(read_labels, subject.mask, None, "a mask is one volume: save it as a file of its own")
            if mask.ndim != image.ndim or not mask.space.same_as(native):
                raise InputError(
                    subject.mask, f"is a mask of {mask.space.describe()}, its image has {native.describe()}",
                    "a mask has the grid of its image",
                )  # fmt: skip
            image = image.with_mask(mask.data[0, 0])
        image = self.pipeline(image)
        record: Record = {
            "image": image.data[0].float().contiguous(),
            "affine": image.space.affine.clone(),
            "native_shape": list(native.shape),
            "native_affine": native.affine.clone(),
        }
        if not bool(torch.isfinite(record["image"]).all()):
            raise InputError(subject.image, "has NaN or infinite voxels after preprocessing")
        if image.mask is not None:
            record["mask"] = image.mask[0].contiguous()
        if subject.labels is not None:
            cure = "data.label_channel={}, or a column label_channel of a table, takes one of its label maps"
            labels = _chosen(read_labels, subject.labels, subject.label_channel, cure)
            record["labels"] = _small(carry_labels(labels, image.space))
        return record

    def key(self, subject: Subject) -> str:
        """A name for the record that changes with the bytes of the files and with the preprocessing.

        Raises
        ------
        InputError
            If a file is missing.
        """
        parts = [sha256(f) if f is not None else "-" for f in (subject.image, subject.labels, subject.mask)]
        channels = f"{subject.channel}" + (f".{subject.label_channel}" if subject.label_channel is not None else "")
        return "-".join([*(part[:24] for part in parts), self.pipeline.digest(), channels, f"v{_FORMAT}"])


def _chosen(read: Callable[..., Image], file: Path, channel: int | None, cure: str) -> Image:
    """What a file of images or label maps holds; where it holds several of which none is chosen, with a cure."""
    try:
        return read(file, channel=channel)
    except ChannelError as error:
        if channel is not None:
            raise
        numbers = f"0 ... {error.count - 1}"
        raise InputError(file, f"holds {error.count} volumes or channels", cure.format(numbers)) from None


def _small(labels: Image) -> torch.Tensor:
    """(1, *S) int16 labels."""
    values = labels.data[0]
    low, high = float(values.min()), float(values.max())
    if low < -(2**15) or high >= 2**15:
        raise InputError(labels.name, f"holds the label {max(high, -low):.17g}, beyond 32767", "renumber the labels")
    return values.to(torch.int16).contiguous()
