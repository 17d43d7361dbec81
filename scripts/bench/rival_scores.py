"""One judge for every tool: its files become one kind of transform, and the same code warps labels and counts folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from reference import foreground

import registration
from registration.evaluation.metrics import dice, folding_percent, mean_dice
from registration.io.images import load_labels
from registration.sampling import nearest
from registration.transforms.inverse import InversionError

# The structures of the shared label maps of the brain pair (numbers of FreeSurfer).
SHARED = (2, 3, 4, 10, 11, 12, 16, 17, 42, 43, 46, 49, 51, 53, 60)
_POINTS = 50_000


@dataclass(frozen=True)
class Pair:
    """Two images with their label maps; ``swapped`` is the same pair the other way round."""

    name: str
    fixed: Path
    moving: Path
    fixed_labels: Path
    moving_labels: Path

    def swapped(self) -> Pair:
        return Pair(f"{self.name}, swapped", self.moving, self.fixed, self.moving_labels, self.fixed_labels)


def read_chain(folder: Path, names: Sequence[str]) -> registration.Transform:
    """The transform in some files, outermost first; a leading "-" is the inverse of what the file holds."""
    parts = [
        registration.read_transform(folder / name.removeprefix("-"))[0].inverse()
        if name.startswith("-")
        else registration.read_transform(folder / name)[0]
        for name in names
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole @ part
    return whole


def quality(pair: Pair, transform: registration.Transform) -> dict[str, Any]:
    """Dice of the labels after warping them by nearest voxel, and the share of folded voxels.

    ``dice_shared`` is over the 15 structures of the shared label maps, where the maps hold more than those.

    Parameters
    ----------
    transform
        Fixed RAS mm -> moving RAS mm.
    """
    fixed, moving = (load_labels(path).image for path in (pair.fixed_labels, pair.moving_labels))
    values = dice(fixed.data, registration.warp(moving, transform, fixed.space, nearest)[0].data)
    shared = {label: value for label, value in values.items() if label in SHARED}
    return {
        "dice": mean_dice(values),
        "dice_shared": mean_dice(shared) if len(values) > len(shared) == len(SHARED) else None,
        "labels": len(values),
        "per_label": {str(label): value for label, value in values.items()},
        "folding_percent": folding_percent(transform, fixed.space),
    }


def there_and_back(pair: Pair, there: registration.Transform, back: registration.Transform) -> float | None:
    """Mean distance in mm of ``back(there(x))`` from x, over points x of the fixed image's foreground.

    None where an inverse cannot be found: the map folds.
    """
    fixed = registration.read_image(pair.fixed)
    points = fixed.space.points(torch.zeros(0, dtype=torch.float64))[foreground(fixed)]
    points = points[:: max(1, len(points) // _POINTS)]
    try:
        with torch.no_grad():
            return float((back(there(points)) - points).norm(dim=-1).mean())
    except InversionError:
        return None
