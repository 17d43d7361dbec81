"""Further contrasts of the two images, which are aligned together with the first ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..image import Image
from ..io.images import Loaded
from ..io.preflight import check_axes, check_registrable
from ..pairwise.contrasts import onto_grid
from .image_channels import load_side

if TYPE_CHECKING:
    from .case import Inputs


@dataclass(frozen=True, eq=False)
class Contrast:
    """A further contrast of both images.

    Parameters
    ----------
    fixed, moving
        On the grids of the first contrast, for the alignment.
    file
        The moving one as its file has it, which is what is warped.
    """

    fixed: Image
    moving: Image
    file: Loaded


def check_counts(fixed: Sequence[Path], moving: Sequence[Path]) -> None:
    """Refuse contrasts of one image without those of the other; both without the first.

    Raises
    ------
    InputError
        With the numbers.
    """
    if len(fixed) != len(moving):
        given = f"--fixed was given {_times(len(fixed) + 1)}, --moving {_times(len(moving) + 1)}"
        raise InputError(given, cure="every contrast is named for both images, in the same order")


def load_contrasts(inputs: Inputs, fixed: Loaded, moving: Loaded, notices: list[str]) -> tuple[Contrast, ...]:
    """Read the further contrasts, and bring those with other grids than the first ones onto these.

    Parameters
    ----------
    fixed, moving
        The first contrast of both images, with their masks.

    Raises
    ------
    InputError
        If one cannot be used, has other axes than the first, does not meet it, or shows nothing inside its mask.
    """
    sides = (
        ("fixed", inputs.fixed_more, inputs.fixed_channel, fixed.image),
        ("moving", inputs.moving_more, inputs.moving_channel, moving.image),
    )
    found = [
        [_load(load_side(side, path, (own, inputs.channel), inputs.spacing), first, notices) for path in files]
        for side, files, own, first in sides
    ]
    return tuple(Contrast(here[0], *there) for here, there in zip(*found, strict=True))


def _load(loaded: Loaded, first: Image, notices: list[str]) -> tuple[Image, Loaded]:
    """A contrast on the grid of the first, and as it was read."""
    image = loaded.image
    notices += loaded.notices
    check_axes(image, first)
    try:
        there, covered = onto_grid(image, first.space)
    except ValueError:
        problem = f"does not meet {first.name} by their headers, which must lay contrasts of one image on one another"
        raise InputError(image.name, problem, "register them first, or repair the headers") from None
    if not image.space.same_as(first.space):
        left = "" if covered == 1 else f"; {100 * (1 - covered):.2g} % of that grid lie outside of it"
        notices.append(
            f"{image.name} has another grid than {first.name} and was resampled onto it, linearly, by the headers{left}"
        )
    check_registrable(replace(there, mask=first.mask))
    return there, loaded


def result_of_contrast(number: int) -> str:
    """The name of the file that holds the moving contrast of that number, warped; the second is number 2."""
    return f"warped_{number}.nii.gz"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
