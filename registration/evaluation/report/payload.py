"""One pair as the data of its panel: a few hundred kilobytes of text that the page decodes when the pair is opened."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...filters import resample
from ...sampling import nearest, warp
from ...space import Space
from ...transforms.linear import Linear
from ..metrics import jacobian_determinants, label_counts
from .encode import exact, mosaic, smooth
from .folder import Case
from .scene import Scene, read_scene
from .upright import within

_MOST_VOXELS = 9e6
_MOST_LABELS = 254
# Of WebP, best first, and what three images of a pair take at each, as a share of the first.
_QUALITIES = {84: 1.0, 72: 0.77, 62: 0.67, 52: 0.6}
_USUAL = 72
_FIELD, _FIELD_BYTES, _FIELD_POINTS = 0.15, 3.5, 64_000  # share of the budget, bytes of page per node, most nodes
_MAP, _MAP_BYTES = 0.08, 0.75  # the same of the Jacobian map, per voxel
_STEP = 0.05  # of the field, in voxels
_OCTAVE = 24.0  # steps of the Jacobian map per factor of 2, 3 % each; 127 of them reach to a factor of 39


def case_payload(case: Case, budget: float) -> dict[str, Any]:
    """Everything the panel of a pair shows.

    Parameters
    ----------
    budget
        Bytes of text it should stay within; the images become coarser until it does.

    Returns
    -------
    Ready for JSON. ``shape``, ``affine`` (index -> RAS mm) and ``spacing`` describe the grid of images and labels,
    always with three axes, x fastest; 2-D images have one slice. ``notes`` say what is missing.
    """
    scene = read_scene(case)
    if isinstance(scene, str):
        return {"notes": [scene]}
    fixed: dict[str, Any] = {"letters": scene.letters, "tilt": round(scene.view.tilt, 1), "ndim": scene.view.space.ndim}
    fixed |= _deformation(scene, budget)
    return {**fixed, **_pictures(scene, budget - _length(fixed))}


def _length(content: Any) -> int:
    """Bytes of everything in it that is text, which is what counts."""
    if isinstance(content, str):
        return len(content)
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return sum(_length(value) for value in values)


def _pictures(scene: Scene, budget: float) -> dict[str, Any]:
    """Images, labels and landmarks on the finest grid, and at the best quality, that the budget allows."""
    voxels = min(_MOST_VOXELS, 20 * budget)
    while True:
        space = within(scene.view.space, voxels)
        greys = {name: _grey(values, space) for name, (values, _, _) in scene.images.items()}
        labels, notes = _labels(scene, space)
        rest = budget - _length(labels)
        size = _estimate(greys)
        # Full resolution at a lower quality shows more than the other way round.
        for quality in [q for q, share in _QUALITIES.items() if size * share <= 1.05 * rest]:
            images = {name: mosaic(grey, quality) for name, grey in greys.items()}
            if _length(images) <= rest:
                for name, (_, low, high) in scene.images.items():
                    images[name] |= {"low": low, "high": high}
                notes = scene.notes + _coarser(scene, space) + notes
                points = _points(scene, space)
                return {**_grid(space), "images": images, "labels": labels, "points": points, "notes": notes}
        # Small images take more bytes for a voxel, so a little less than the share.
        voxels = 0.9 * math.prod(space.shape) * min(0.95, max(0.05, rest / (_QUALITIES[_USUAL] * size)))
        if voxels < 50:
            raise ValueError(f"a pair cannot be shown in {budget:.0f} bytes")


def _estimate(greys: dict[str, np.ndarray]) -> float:
    """Bytes that all images take at the first quality, judged by every fifth slice."""
    total = 0.0
    for grey in greys.values():
        some = grey[..., grey.shape[2] // 2 % 5 :: 5]
        total += _length(mosaic(some, next(iter(_QUALITIES)))) * grey.shape[2] / some.shape[2]
    return total


def _grey(values: Tensor, space: Space) -> np.ndarray:
    """(X, Y, Z) uint8 of (*S) values in [0, 1]."""
    return _deep((resample(values[None, None], space.shape)[0, 0] * 255).round().clamp(0, 255).byte())


def _coarser(scene: Scene, space: Space) -> list[str]:
    if space.shape == scene.view.space.shape:
        return []
    spacing = " x ".join(f"{v:.3g}" for v in space.spacing.tolist())
    return [f"Shown at {spacing} mm to keep the page small; the figures are from the full images."]


def _grid(space: Space) -> dict[str, Any]:
    """Shape, spacing and affine with a third axis of one slice in 2-D."""
    d = space.ndim
    affine = np.eye(4)
    affine[:d, :d], affine[:d, 3] = space.affine[:d, :d].numpy(), space.affine[:d, d].numpy()
    shape, spacing = [*space.shape, 1][:3], [*space.spacing.tolist(), 1.0][:3]
    return {"shape": shape, "spacing": [round(v, 6) for v in spacing], "affine": np.round(affine[:3], 6).tolist()}


def _deep(values: Tensor) -> np.ndarray:
    """(X, Y, Z) of an array that may have two axes."""
    return (values if values.ndim == 3 else values[..., None]).numpy()


def _labels(scene: Scene, space: Space) -> tuple[dict[str, Any] | None, list[str]]:
    """Label maps as positions in a list of values, 0 for none."""
    maps = {}
    for name, image in scene.labels.items():
        maps[name] = warp(image, Linear.identity(space.ndim), space, nearest)[0].data[0, 0].round().long()
    if not maps:
        return None, []
    counts = label_counts(torch.cat([values.flatten() for values in maps.values()]))
    counts.pop(0, None)
    largest = sorted(counts, key=lambda label: -counts[label])[:_MOST_LABELS]
    known = torch.tensor(sorted(largest), dtype=torch.long)
    packed: dict[str, Any] = {"values": known.tolist(), "maps": {}}
    for name, values in maps.items():
        place = torch.searchsorted(known, values.contiguous()).clamp(max=max(0, len(known) - 1))
        codes = torch.where(known[place] == values, place + 1, 0) if len(known) else torch.zeros_like(values)
        packed["maps"][name] = exact(_deep(codes.byte()))
    dropped = len(counts) - len(largest)
    return packed, [f"Outlines of the {dropped} smallest labels are left out."] if dropped else []


def _points(scene: Scene, space: Space) -> dict[str, Any] | None:
    """Landmarks of the fixed image in voxels, and what is left between image and partner before and after, in mm."""
    if scene.points is None:
        return None
    fixed, moving = scene.points
    d = space.ndim
    index = (fixed - space.affine[:d, d]) @ torch.linalg.inv(space.affine[:d, :d]).T
    axes = torch.linalg.inv(space.affine[:d, :d] / space.spacing).T
    result = {"fixed": _rounded(index), "before": _rounded((moving - fixed) @ axes)}
    if scene.transform is not None:
        result["after"] = _rounded((moving - scene.transform(fixed.double())) @ axes)
    return result


def _rounded(values: Tensor) -> list[list[float]]:
    return np.round(values.numpy(), 3).tolist()


def _deformation(scene: Scene, budget: float) -> dict[str, Any]:
    """The displacement on a coarse grid, and the Jacobian determinant with no folded voxel lost."""
    if scene.transform is None:
        return {}
    space, d = scene.view.space, scene.view.space.ndim
    linear = isinstance(scene.transform, Linear)
    coarse = space.resized([2] * d) if linear else within(space, min(_FIELD_POINTS, _FIELD * budget / _FIELD_BYTES))
    # Nodes at the outer edges as well, so that the page never extrapolates.
    shape = [max(2, n) for n in coarse.shape]
    points = _edge_to_edge(space, shape)
    shift = (scene.transform(points.reshape(-1, d)) - points.reshape(-1, d)) @ torch.linalg.inv(
        space.affine[:d, :d] / space.spacing
    ).T
    field = shift.reshape(*shape, d).movedim(-1, 0)
    low = field.flatten(1).min(dim=1).values
    step = max(_STEP * float(space.spacing.min()), float(field.flatten(1).max(dim=1).values.sub(low).max()) / 65535)
    codes = ((field - low.reshape(-1, *[1] * d)) / step).round().numpy().astype(np.uint16)
    codes = codes if d == 3 else codes[..., None]
    packed = {"shape": list(codes.shape[1:]), "low": low.tolist(), "step": step, "data": smooth(codes)}
    return {"field": packed, "jacobian": _jacobian(scene, linear, budget)}


def _edge_to_edge(space: Space, shape: list[int]) -> Tensor:
    """(*shape, D) points in RAS mm whose first and last lie on the outer edges of the grid; float64."""
    d = space.ndim
    lines = [
        torch.linspace(-0.5, n - 0.5, count, dtype=torch.float64) for n, count in zip(space.shape, shape, strict=True)
    ]
    index = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
    return index @ space.affine[:d, :d].T + space.affine[:d, d]


def _jacobian(scene: Scene, linear: bool, budget: float) -> dict[str, Any]:
    """Steps of log2 of the determinant around code 128; code 0 where a voxel of the block is folded."""
    assert scene.transform is not None
    space = scene.view.space
    if linear:
        space = space.resized([1] * space.ndim)
        values = torch.linalg.det(scene.transform.jacobian(space.centre[None].double()))
        values = values.reshape([1] * space.ndim).float()
    else:
        values = jacobian_determinants(scene.transform, space)
    shape = within(space, _MAP * budget / _MAP_BYTES).shape
    pool = functional.adaptive_max_pool2d if space.ndim == 2 else functional.adaptive_max_pool3d
    lowest = -pool(-values[None], shape)[0]
    logs = resample(values.clamp(min=1e-3).log2()[None, None], shape)[0, 0]
    codes = (128 + _OCTAVE * logs).round().clamp(1, 255)
    codes = torch.where(lowest <= 0, 0, codes).byte()
    deep = _deep(codes)
    ends = [float(values.min()), float(values.max())]
    folded = 100 * float((values <= 0).double().mean())
    return {"shape": list(deep.shape), "octave": _OCTAVE, "data": smooth(deep), "range": ends, "folded": folded}
