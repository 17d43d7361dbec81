"""A look at two images before anything is computed: what cannot work is refused, what is odd is said."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..image import Image
from ..space import Space
from .raw import orderly

# Voxels outside this range (mm) are hardly of a body: more likely the file counts metres or microns.
_USUAL_MM = (1e-2, 50.0)
_USUAL_RATIO = 10.0


def check_pair(fixed: Image, moving: Image, *, must_overlap: bool = False) -> list[str]:
    """Refuse two images that cannot be registered, and say what is unusual.

    Parameters
    ----------
    fixed, moving
        The images.
    must_overlap
        Whether the registration starts from the headers alone, so that fields of view without overlap are an error;
        else they are only said.

    Returns
    -------
    Notices, one line each.

    Raises
    ------
    InputError
        If the images differ in dimension, one has no contrast, or they are disjoint and must not be.
    """
    if fixed.ndim != moving.ndim:
        raise InputError(
            moving.name,
            f"has {moving.ndim} spatial axes {moving.space.shape}, the fixed image {fixed.name} has {fixed.ndim} "
            f"{fixed.space.shape}",
            "both must be 2-D or both 3-D",
        )
    for image in (fixed, moving):
        check_registrable(image)
    notices = [*_oddities(fixed), *_oddities(moving), *_sizes(fixed.space, moving.space)]
    apart = _apart(fixed, moving)
    if apart and must_overlap:
        raise InputError(apart, cure="start from the centres or the centres of mass (--initial centre or mass)")
    notices += [apart] if apart else []
    if (_determinant(fixed.space) > 0) != (_determinant(moving.space) > 0):
        notices.append("the two images are stored with opposite handedness; left and right follow the headers")
    return notices


def check_axes(image: Image, partner: Image) -> None:
    """Refuse an image that has not as many axes as the one that it belongs to.

    Raises
    ------
    InputError
        Naming both.
    """
    if image.ndim != partner.ndim:
        raise InputError(
            image.name,
            f"has {image.ndim} axes {image.space.shape}, {partner.name} has {partner.ndim} {partner.space.shape}",
        )


def check_registrable(image: Image) -> None:
    """Refuse an image without contrast.

    Raises
    ------
    InputError
        If every voxel (inside the mask, if there is one) has the same value, or the mask is empty.
    """
    values = image.data
    if image.mask is not None:
        if not bool(image.mask.any()):
            raise InputError(image.name, "its mask is empty", "give a mask with nonzero voxels inside the image")
        values = values[image.mask.expand_as(values)]
    low, high = values.aminmax()
    if not bool(high > low):
        inside = " inside its mask" if image.mask is not None else ""
        raise InputError(image.name, f"is constant{inside}: every voxel is {float(low):g}", "there is nothing to align")


def _oddities(image: Image) -> list[str]:
    """What is unusual about the grid of one image."""
    space, notices = image.space, list[str]()
    spacing = space.spacing.tolist()
    if min(spacing) < _USUAL_MM[0] or max(spacing) > _USUAL_MM[1]:
        notices.append(
            f"{image.name}: voxels of {orderly(spacing)} mm; is the file in metres or microns? (--spacing sets it)"
        )
    axes = space.affine[: space.ndim, : space.ndim] / space.spacing
    skew = float((axes.T @ axes - torch.eye(space.ndim, dtype=axes.dtype)).abs().max())
    if skew > 1e-3:
        notices.append(f"{image.name}: its voxel axes are sheared (cosine {skew:.3g} between two of them)")
    return notices


def _sizes(fixed: Space, moving: Space) -> list[str]:
    """A word where one field of view is many times as large as the other."""
    sizes = [2 * fixed.radius, 2 * moving.radius]
    if max(sizes) <= _USUAL_RATIO * min(sizes):
        return []
    return [
        f"the fields of view differ greatly in size: {sizes[0]:.4g} mm across (fixed), {sizes[1]:.4g} (moving); "
        "are both in mm?"
    ]


def _apart(fixed: Image, moving: Image) -> str:
    """A sentence where the fields of view share nothing, else nothing."""
    if not disjoint(fixed.space, moving.space):
        return ""
    where = f"{orderly(fixed.space.centre)} and {orderly(moving.space.centre)} mm"
    return f"by their headers {fixed.name} and {moving.name} do not overlap (centres {where})"


def _determinant(space: Space) -> float:
    return float(torch.linalg.det(space.affine[: space.ndim, : space.ndim]))


def disjoint(one: Space, other: Space) -> bool:
    """Whether two fields of view (voxel edges) share no point.

    Two convex bodies are disjoint exactly if some axis separates them: for boxes, a face normal of either or, in 3-D, a
    common perpendicular of two edges.
    """
    d = one.ndim
    edges = [space.affine[:d, :d].T for space in (one, other)]
    axes: list[Tensor] = [normal for e in edges for normal in torch.linalg.inv(e).T]
    if d == 3:
        axes += [torch.linalg.cross(a, b) for a in edges[0] for b in edges[1]]
    for axis in axes:
        length = float(axis.norm())
        if length < 1e-9:
            continue
        a, b = (space.corners() @ (axis / length) for space in (one, other))
        if float(a.max()) < float(b.min()) or float(b.max()) < float(a.min()):
            return True
    return False
