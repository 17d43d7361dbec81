"""Read everything that one registration is given, and check it before any work is done."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..image import Image
from ..io.files import sha256
from ..io.images import Loaded, load_image, load_labels, load_result
from ..io.itk_images import PHOTOGRAPHS
from ..io.links import roles
from ..io.points import PointSpace, read_pairs
from ..io.preflight import check_axes, check_pair
from ..io.raw import ChannelError
from ..pairwise.contrasts import stack_channels
from ..pairwise.cutout import cut_out
from ..sampling import Sampler, nearest, warp
from ..space import Space
from ..transforms.linear import Linear
from .contrasts import Contrast, check_counts, load_contrasts
from .image_channels import load_side
from .label_channels import no_such_volume
from .windows import Ends, within

_BEYOND = 1.1  # of the field of view, from its centre


@dataclass(frozen=True)
class Inputs:
    """The files of a registration and how to read them.

    Parameters
    ----------
    points_space
        What the landmark tables are in: ras or lps (mm), or voxel; without it what they say, and pixels if both images
        are photographs.
    channel
        Which volume of 4-D files, or component of colour images, is aligned.
    spacing
        D voxel spacings in mm that replace those of the images.
    label_channel
        Which volume of 4-D label files is looked at.
    fixed_channel, moving_channel
        ``channel`` of one image alone, which goes before it.
    also
        Further images of the moving side, which are warped as well.
    fixed_more, moving_more
        Further contrasts of both images, as many of one as of the other, in the same order.
    window
        The lowest and highest intensity of the first contrast that count, None where there is no such end.
    fixed_window, moving_window
        ``window`` of one image alone, which goes before it.
    """

    fixed: Path
    moving: Path
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    points_space: str | None = None
    channel: int | None = None
    spacing: tuple[float, ...] | None = None
    label_channel: int | None = None
    fixed_channel: int | None = None
    moving_channel: int | None = None
    also: tuple[Path, ...] = ()
    fixed_more: tuple[Path, ...] = ()
    moving_more: tuple[Path, ...] = ()
    window: Ends | None = None
    fixed_window: Ends | None = None
    moving_window: Ends | None = None

    def described(self) -> dict[str, object]:
        """What was given, as plain values for a file."""
        return {name: _plain(value) for name, value in self._given().items() if value is not None and value != ()}

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file given."""
        given = self._given()
        one = {name: sha256(path) for name, path in given.items() if isinstance(path, Path)}
        return one | {f"also.{number}": sha256(path) for number, path in enumerate(self.also)}

    def _given(self) -> dict[str, object]:
        """Every field by its name; further contrasts by names of their own: fixed_2, moving_2, fixed_3 ..."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for side in ("fixed", "moving"):
            given |= roles(side, (given[side], *given.pop(f"{side}_more")))
        return given


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True)
class Case:
    """What was read: images carry their masks, ``points`` is the pair of (N, D) landmark tables in RAS mm.

    ``label_sampler`` is how moving labels are brought onto the fixed grid, ``contrasts`` what there is of both images
    beside the first contrast, ``windowed`` both images with the intensities that count, where that was said.
    """

    fixed: Loaded
    moving: Loaded
    fixed_labels: Loaded | None
    moving_labels: Loaded | None
    points: tuple[Tensor, Tensor] | None
    notices: tuple[str, ...]
    label_sampler: Sampler = nearest
    contrasts: tuple[Contrast, ...] = ()
    windowed: tuple[Image, Image] | None = None

    @property
    def seen(self) -> tuple[Image, Image]:
        """The first contrast of both images as it is aligned, judged and drawn, not as it is warped into files."""
        return self.windowed or (self.fixed.image, self.moving.image)

    @property
    def aligned(self) -> tuple[Image, Image]:
        """The fixed and the moving image as they are aligned: all contrasts as channels."""
        if not self.contrasts:
            return self.seen
        return (
            stack_channels([self.seen[0], *(contrast.fixed for contrast in self.contrasts)]),
            stack_channels([self.seen[1], *(contrast.moving for contrast in self.contrasts)]),
        )


def load_case(inputs: Inputs, header: bool) -> Case:
    """Read and check all files.

    Parameters
    ----------
    header
        Whether the run starts from the headers, so that they must put the images near each other.

    Raises
    ------
    InputError
        If a file cannot be used, or the files do not belong together.
    """
    _check_partners(inputs)
    notices: list[str] = []
    fixed = load_side("fixed", inputs.fixed, (inputs.fixed_channel, inputs.channel), inputs.spacing)
    moving = load_side("moving", inputs.moving, (inputs.moving_channel, inputs.channel), inputs.spacing)
    notices += [*fixed.notices, *moving.notices]
    fixed = _masked(fixed, inputs.fixed_mask, inputs.spacing, notices)
    moving = _masked(moving, inputs.moving_mask, inputs.spacing, notices)
    notices += check_pair(fixed.image, moving.image, must_overlap=header)
    notices += cut_out(fixed.image, moving.image)
    windowed = (
        within("fixed", fixed.image, inputs.fixed_window, inputs.window),
        within("moving", moving.image, inputs.moving_window, inputs.window),
    )
    contrasts = load_contrasts(inputs, fixed, moving, notices)
    labels = [
        None if path is None else label_map(path, inputs.label_channel, inputs.spacing)
        for path in (inputs.fixed_labels, inputs.moving_labels)
    ]
    for loaded, partner in zip(labels, (fixed, moving), strict=True):
        if loaded is not None:
            notices += loaded.notices
            check_axes(loaded.image, partner.image)
    if labels[0] is not None:
        labels[0] = replace(labels[0], image=_onto(labels[0].image, fixed.image.space, notices))
    points = _points(inputs, fixed, moving, notices)
    return Case(fixed, moving, labels[0], labels[1], points, tuple(notices), contrasts=contrasts, windowed=windowed)


def _check_partners(inputs: Inputs) -> None:
    check_counts(inputs.fixed_more, inputs.moving_more)
    if inputs.fixed_labels and not inputs.moving_labels:
        raise InputError(
            "--fixed-labels", "needs --moving-labels as well", "labels are compared after warping the moving ones"
        )
    if bool(inputs.fixed_points) != bool(inputs.moving_points):
        raise InputError("--fixed-points and --moving-points", "come together, only one was given")


def _masked(loaded: Loaded, path: Path | None, spacing: tuple[float, ...] | None, notices: list[str]) -> Loaded:
    if path is None:
        return loaded
    mask = _mask(path, spacing)
    notices += mask.notices
    check_axes(mask.image, loaded.image)
    inside = _onto(mask.image, loaded.image.space, notices).data[:, :1] != 0
    if not bool(inside.any()):
        empty = not bool(mask.image.data.any())
        problem = "this mask is empty" if empty else f"no voxel of {loaded.image.name} lies in this mask"
        raise InputError(path, problem, "give a mask with nonzero voxels inside the image")
    return replace(loaded, image=loaded.image.with_mask(inside))


def label_map(path: Path, channel: int | None, spacing: tuple[float, ...] | None, result: bool = False) -> Loaded:
    """Read a label map, one volume of a 4-D file.

    Parameters
    ----------
    result
        Whether a program may have made it of that volume alone, so that a file of one volume will do.

    Raises
    ------
    InputError
        As :func:`load_labels`, with the option that chooses.
    """
    try:
        if result:
            loaded = load_result(load_labels, path, channel, spacing)
        else:
            loaded = load_labels(path, channel=channel, spacing=spacing)
    except ChannelError as error:
        raise no_such_volume(path, channel, error.count) from None
    if bool(loaded.image.data.any()):
        return loaded
    return replace(loaded, notices=(*loaded.notices, f"{path} holds no label, only 0"))


def _mask(path: Path, spacing: tuple[float, ...] | None) -> Loaded:
    """Read a mask, which is one volume: --channel speaks of the images alone."""
    try:
        return load_image(path, spacing=spacing, missing=0.0)
    except ChannelError as error:
        problem = f"holds {error.count} volumes or channels, a mask is one"
        raise InputError(path, problem, "save the wanted one as a file of its own") from None


def _onto(image: Image, space: Space, notices: list[str]) -> Image:
    """The image on a grid: as it is if it has that grid, else by nearest voxel, which is said."""
    if image.space.same_as(space):
        return replace(image, space=space)
    notices.append(f"{image.name} has another grid than its image and was resampled by nearest voxel")
    return warp(image, Linear.identity(space.ndim), space, nearest)[0]


def _points(inputs: Inputs, fixed: Loaded, moving: Loaded, notices: list[str]) -> tuple[Tensor, Tensor] | None:
    if inputs.fixed_points is None or inputs.moving_points is None:
        return None
    # Nobody marks a photograph in patient coordinates; on any other image the numbers could be all three.
    pictures = all(loaded.source.kind in PHOTOGRAPHS for loaded in (fixed, moving))
    pair = read_pairs(
        inputs.fixed_points, inputs.moving_points, (fixed.image.space, moving.image.space),
        space=inputs.points_space, otherwise=PointSpace.VOXEL if pictures else None, notices=notices,
    )  # fmt: skip
    for points, loaded in zip(pair, (fixed, moving), strict=True):
        notices += _far_off(points, loaded.image)
    return pair


def _far_off(points: Tensor, image: Image) -> list[str]:
    """A word where landmarks lie well beyond the field of view: their coordinates may be of another kind."""
    count = int((Linear(image.space.to_unit())(points).abs() > _BEYOND).any(dim=1).sum())
    if not count:
        return []
    return [f"{count} of {len(points)} landmarks lie outside of {image.name}; are their coordinates what they say?"]
