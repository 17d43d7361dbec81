"""``registration apply``: resample further images through a transform that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Channel, Overwrite, Quiet, Spacing, TransformFiles, numbers

if TYPE_CHECKING:
    from ..io.images import Loaded
    from ..io.links import Link
    from ..sampling import Sampler
    from ..space import Space
    from ..transforms.base import Transform

_Reference = Annotated[
    Path,
    typer.Option("--reference", "-r", help="Image whose grid the result gets: the fixed one.", show_default=False),
]
_Inputs = Annotated[
    list[Path], typer.Option("--input", "-i", help="Image to resample; may be repeated.", show_default=False)
]
_Outputs = Annotated[list[Path], typer.Option("--output", "-o", help="Result, one per --input.", show_default=False)]
_Interpolation = Annotated[
    str | None,
    typer.Option("--interpolation", "-n", help="linear, nearest, bspline, label; labels take nearest.", metavar="NAME"),
]
_Inverse = Annotated[bool, typer.Option("--inverse", help="Go the other way: --reference is then the moving image.")]


def apply(
    transform: TransformFiles,
    reference: _Reference,
    inputs: _Inputs,
    outputs: _Outputs,
    interpolation: _Interpolation = None,
    inverse: _Inverse = False,
    channel: Channel = None,
    spacing: Spacing = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Resample INPUT onto the grid of REFERENCE through TRANSFORM.

    Several transforms go from the reference to the input, in the order of antsApplyTransforms; [FILE,1] is an inverse.
    A transform.h5 of this program is applied exactly; files of ITK, ANTs and Slicer and plain RAS matrices are read
    too. Images of few whole numbers are taken for labels and resampled by nearest voxel, without --interpolation;
    with label every label is interpolated linearly and the largest share wins, which leaves smoother borders.
    Without --channel every volume of a NIfTI file goes through the transform.
    """
    from .convert import links_of
    from .inverting import telling_misses
    from .progress import watching
    from .resampling import Resampling

    links = links_of(transform)
    _check_outputs(outputs, overwrite, inputs, (*(link.file for link in links), reference))
    sampler = _sampler(interpolation)
    chain, target, said = _loaded(links, inverse, reference, numbers("--spacing", spacing))
    with watching(quiet) as watcher:
        for text in said:
            watcher.note(text)
        resample = Resampling(chain, target, sampler, channel, numbers("--spacing", spacing))
        for source, result in zip(inputs, outputs, strict=True):
            notices: list[str] = []
            with telling_misses(notices):
                notices += resample(source, result)
            for text in notices:
                watcher.note(text)
    if not quiet:
        for result in outputs:
            typer.echo(f"wrote {result}")


def _check_outputs(outputs: list[Path], overwrite: bool, inputs: list[Path], others: tuple[Path, ...]) -> None:
    """Refuse results that are not one for every input, or that would replace what may not be replaced."""
    from ..errors import InputError
    from .outputs import check_file

    if len(inputs) != len(outputs):
        raise InputError("--input and --output", f"come in pairs, got {len(inputs)} and {len(outputs)}")
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError("--output", "names one file twice")
    for path in outputs:
        check_file(path, overwrite, (*inputs, *others))


def _loaded(
    links: Sequence[Link], inverse: bool, reference: Path, spacing: tuple[float, ...] | None
) -> tuple[Transform, Loaded, list[str]]:
    """The transform in the wanted direction, the image whose grid counts, and what to say of them.

    Raises
    ------
    InputError
        If one cannot be read, they differ in dimension, or there is no inverse.
    """
    from ..errors import InputError
    from ..io.images import load_image
    from ..io.links import inverted, named, read_links

    chain, info = read_links(links)
    # Of the reference only the grid counts, so any volume of it will do.
    target = load_image(reference, channel=0, spacing=spacing)
    if chain.ndim != target.image.ndim:
        raise InputError(named(links), f"is a {chain.ndim}-D transform, {reference} has {target.image.ndim} axes")
    if inverse:
        chain = inverted(chain, named(links))
    strange = _strange_grid(info.moving if inverse else info.fixed, target.image.space)
    return chain, target, [*info.notices, *target.notices, *strange]


def _sampler(name: str | None) -> Sampler | None:
    from .interpolations import SAMPLERS
    from .settings import choose

    return None if name is None else SAMPLERS[choose("--interpolation ", name, SAMPLERS)]


def _strange_grid(made_for: Space | None, target: Space) -> list[str]:
    """A word when the reference is not the image the transform was made with, a likely slip but no error."""
    if made_for is None or made_for.same_as(target):
        return []
    return [f"the transform was made for a grid of {made_for.describe()}, --reference has {target.describe()}"]
