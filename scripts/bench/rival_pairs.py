"""The pairs on which tools are compared: two brains, or hippocampus crops as the Learn2Reg protocol prepares them.

The same brains on coarser grids show in minutes that every tool runs; their figures are not to be quoted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rival_scores import Pair

_SIDE = 64
_ROLES = ("fixed", "moving", "fixed_labels", "moving_labels")


def brain(data: Path, scratch: Path, count: int) -> list[Pair]:
    """The one pair of brains."""
    return [Pair("brain", *(data / f"brain/{role}.nii.gz" for role in _ROLES))]


def coarse_brain(data: Path, scratch: Path, count: int) -> list[Pair]:
    """The brains at 2 mm; labels are those of the nearest voxels."""
    import registration
    from registration.filters import downsample
    from registration.io.images import load_labels
    from registration.sampling import nearest

    pair, files = brain(data, scratch, count)[0], []
    for role in _ROLES:
        source = getattr(pair, role)
        image = load_labels(source).image if "labels" in role else registration.read_image(source)
        coarse = image.space.with_spacing(2.0)
        if "labels" in role:
            image = registration.warp(image, registration.Linear.identity(3), coarse, nearest)[0]
        else:
            image = downsample(image, coarse.shape)
        files.append(scratch / f"{role}.nii.gz")
        scratch.mkdir(parents=True, exist_ok=True)
        registration.write_image(files[-1], image)
    return [Pair("brain at 2 mm", *files)]


def hippocampus(data: Path, scratch: Path, count: int) -> list[Pair]:
    """``count`` pairs spread over the crops, number k of which is brought together with number k from the end."""
    names = sorted(path.name for path in (data / "hippocampus/images").glob("[!.]*.nii.gz"))
    if not names:
        raise SystemExit(f"no crops in {data / 'hippocampus/images'}")
    pairs = []
    for k in range(count):
        ends = names[k * len(names) // (2 * count)], names[-1 - k * len(names) // (2 * count)]
        files = [
            _centred(data / "hippocampus" / kind / name, scratch / f"{name.removesuffix('.nii.gz')}_{kind}.nii.gz")
            for kind in ("images", "labels")
            for name in ends
        ]
        pairs.append(Pair(" and ".join(name.removesuffix(".nii.gz")[-3:] for name in ends), *files))
    return pairs


def _centred(source: Path, target: Path) -> Path:
    """A crop in the middle of 64x64x64 voxels of 1 mm: images padded with their border values, labels with 0."""
    import nibabel as nib
    import numpy as np

    values = np.asarray(nib.load(source).dataobj)
    before = [(_SIDE - size) // 2 for size in values.shape]
    width = [(low, _SIDE - size - low) for low, size in zip(before, values.shape, strict=True)]
    padded = np.pad(values, width) if "labels" in target.name else np.pad(values, width, mode="edge")
    target.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(padded.astype(np.uint8 if "labels" in target.name else np.float32), np.eye(4)), target)
    return target


SETS: dict[str, Callable[[Path, Path, int], list[Pair]]] = {
    "brain": brain,
    "brain-2mm": coarse_brain,
    "hippocampus": hippocampus,
}
