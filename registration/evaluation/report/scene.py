"""Everything that can be shown of one pair, read from its files and brought onto one upright grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from ...errors import InputError
from ...image import Image
from ...interpolate import nearest, vote
from ...io.images import Loaded, load_image, load_labels, load_result
from ...io.itk_images import PHOTOGRAPHS
from ...io.links import Grids, linked, read_links
from ...io.points import PointSpace, read_pairs
from ...sampling import warp
from ...space import Space
from ...transforms.base import Transform
from ...transforms.linear import Linear
from ..planes import window_of
from ..remembered import Remembered
from .folder import Case, Reading
from .upright import Upright, upright

_T = TypeVar("_T")


@dataclass
class Scene:
    """A pair on the upright grid of its fixed image.

    Parameters
    ----------
    view
        The grid, at the resolution of the fixed image.
    letters
        Whether it has patient sides; a photograph has none.
    images
        ``fixed``, ``before`` (the moving image where its header places it) and ``after`` (warped), each as (*S) values
        in [0, 1] with the intensities that 0 and 1 stand for. What could not be had is absent.
    labels
        The same three as label images on grids of their own.
    transform
        Fixed RAS mm -> moving RAS mm.
    points
        (N, D) landmarks of the fixed and the moving image, RAS mm.
    notes
        What is missing and why, in sentences.
    """

    view: Upright
    letters: bool
    images: dict[str, tuple[Tensor, float, float]] = field(default_factory=dict)
    labels: dict[str, Image] = field(default_factory=dict)
    transform: Transform | None = None
    points: tuple[Tensor, Tensor] | None = None
    notes: list[str] = field(default_factory=list)


def read_scene(case: Case) -> Scene | str:
    """Read a case's files; without a fixed image there is nothing to show, and the answer is a sentence saying so."""
    if "fixed" not in case.files:
        return "No fixed image is named, so there is nothing to show."
    how = case.reading.on(case.reading.moving_channel)
    try:
        own = case.reading.on(case.reading.fixed_channel)
        fixed = load_image(case.files["fixed"], channel=own.channel, spacing=own.spacing)
    except (InputError, OSError) as error:
        return f"The fixed image cannot be shown: {error}"
    scene = Scene(upright(fixed.image.space), fixed.source.kind not in PHOTOGRAPHS, notes=list(case.notices))
    scene.images["fixed"] = _shown(fixed.image, scene, window_of(fixed.image))
    read = _Reader(case, scene)
    shown = _transform(case, fixed.image.space)
    scene.transform = read("transform", "deformation and Jacobian are not shown", shown)
    partner = read("moving", "there is no view before registration", _same_axes(fixed.image.ndim, how, load_image))
    moving, window = None if partner is None else partner.image, None
    if moving is not None:
        window = window_of(moving)
        scene.images["before"] = _shown(moving, scene, window)
    result = partial(load_result, load_image)
    warped = read("warped", "", _same_axes(fixed.image.ndim, how, result)) if "warped" in case.files else None
    if warped is not None:
        scene.images["after"] = _shown(warped.image, scene, window or window_of(warped.image))
    elif moving is not None and scene.transform is not None:
        scene.images["after"] = _shown(moving, scene, window_of(moving), scene.transform)
    else:
        scene.notes.append("There is no warped image, nor moving image and transform to make it from.")
    _read_labels(read, fixed.image.ndim)
    if partner is not None:
        _read_points(read, (fixed, partner))
    return scene


def _same_axes(ndim: int, how: Reading, reader: Callable[..., Loaded]) -> Callable[[Path], Loaded]:
    """A reader of images as ``how`` says that refuses those of another dimension than the fixed one."""

    def read(path: Path) -> Loaded:
        loaded = reader(path, channel=how.channel, spacing=how.spacing)
        if loaded.image.ndim != ndim:
            raise InputError(path, f"has {loaded.image.ndim} spatial axes, the fixed image {ndim}")
        return loaded

    return read


def _transform(case: Case, fixed: Space) -> Callable[[Path], Transform]:
    def read(path: Path) -> Transform:
        grids: Grids = (None, None)
        if case.reading.fsl and "moving" in case.files:
            how = case.reading.on(case.reading.moving_channel)
            grids = fixed, load_image(case.files["moving"], channel=how.channel).image.space
        links = linked("transform", case.files, case.reading.inverted, case.reading.fsl)
        transform = read_links(links, grids)[0]
        if transform.ndim != fixed.ndim:
            raise InputError(path, f"is a {transform.ndim}-D transform, the fixed image has {fixed.ndim} axes")
        # Looked at on the fixed grid more than once.
        return Remembered.of(transform)

    return read


class _Reader:
    """Reads the file of a role, or notes why there is none."""

    def __init__(self, case: Case, scene: Scene) -> None:
        self.case, self.scene = case, scene

    def __call__(self, role: str, otherwise: str, reader: Callable[[Path], _T]) -> _T | None:
        named = role.replace("_", " ")
        ending = f"; {otherwise}" if otherwise else ""
        if role not in self.case.files:
            self.scene.notes.append(f"No {named} is named{ending}.")
            return None
        try:
            return reader(self.case.files[role])
        except (InputError, OSError, ValueError) as error:
            self.scene.notes.append(f"{named.capitalize()} cannot be read{ending}: {error}")
            return None


def _shown(
    image: Image, scene: Scene, window: tuple[float, float], transform: Transform | None = None
) -> tuple[Tensor, float, float]:
    """The first channel on the view grid, the window cut to [0, 1], black outside the field of view."""
    low, high = window
    space = scene.view.space
    first = Image(image.data[:1, :1].float(), image.space)
    values, inside = warp(first, transform or Linear.identity(space.ndim), space)
    return ((values.data - low) / (high - low)).clamp(0, 1)[0, 0] * inside[0, 0], low, high


def _read_labels(read: _Reader, ndim: int) -> None:
    """Label maps of the fixed image, of the moving one, and of the warped one, made here if there is no file."""
    scene, files = read.scene, read.case.files
    if not {"fixed_labels", "moving_labels", "warped_labels"} & set(files):
        scene.notes.append("No label maps are named; there are no outlines.")
        return
    how = replace(read.case.reading, channel=read.case.reading.label_channel)
    for role, name in (("fixed_labels", "fixed"), ("moving_labels", "before"), ("warped_labels", "after")):
        reader = partial(load_result, load_labels) if name == "after" else load_labels
        found = read(role, "", _same_axes(ndim, how, reader)) if role in files else None
        if found is not None:
            scene.labels[name] = found.image
    if "after" not in scene.labels and "before" in scene.labels and scene.transform is not None:
        space = scene.labels["fixed"].space if "fixed" in scene.labels else scene.view.space
        sampler = vote if how.label_interpolation == "label" else nearest
        scene.labels["after"] = warp(scene.labels["before"], scene.transform, space, sampler)[0]
    if "fixed" not in scene.labels or len(scene.labels) < 2:
        scene.notes.append("Label maps of one side only; their outlines have nothing to be compared with.")


def _read_points(read: _Reader, images: tuple[Loaded, Loaded]) -> None:
    files: Any = read.case.files
    if not {"fixed_points", "moving_points"} <= set(files):
        return
    grids = images[0].image.space, images[1].image.space
    # Nobody marks a photograph in patient coordinates.
    pictures = all(loaded.source.kind in PHOTOGRAPHS for loaded in images)
    otherwise, space = PointSpace.VOXEL if pictures else PointSpace.RAS, read.case.reading.points_space
    read.scene.points = read(
        "fixed_points",
        "landmarks are not shown",
        lambda path: read_pairs(path, files["moving_points"], grids, space=space, otherwise=otherwise),
    )
