"""The yardsticks of the figures: what ANTs finds on the same pair, and how far two transforms are apart."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import registration


@dataclass(frozen=True)
class Reference:
    """A transform found by ANTs (fixed RAS mm -> moving RAS mm), and the seconds it took."""

    transform: registration.Transform
    seconds: float


def ants_linear(kind: str, fixed: Path, moving: Path, mask: Path | None = None) -> Reference | None:
    """What ANTs finds for ``kind`` = "Rigid" or "Affine", with its own settings; None where it is not installed."""
    try:
        import ants
    except ImportError:
        return None
    images = [ants.image_read(str(path)) for path in (fixed, moving)]
    limits = {} if mask is None else {"mask": ants.image_read(str(mask))}
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        found = ants.registration(*images, type_of_transform=kind, outprefix=f"{scratch}/ants", random_seed=1, **limits)
        taken = time.perf_counter() - began
        return Reference(registration.read_transform(found["fwdtransforms"][0])[0], taken)


def foreground(image: registration.Image) -> Tensor:
    """(*S) boolean: voxels brighter than the mean of the image, which in a head is not the air around it."""
    return image.data[0, 0] > image.data.mean()


def distances(
    one: registration.Transform, other: registration.Transform, space: registration.Space, where: Tensor
) -> Tensor:
    """(N,) distances in mm between the images of the chosen voxels under two transforms."""
    points = space.points(torch.zeros(0, dtype=torch.float64))[where]
    return (one(points) - other(points)).norm(dim=-1)
