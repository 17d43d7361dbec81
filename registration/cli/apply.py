"""``registration apply``: resample further images through a transform that is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Channel, Overwrite, Quiet, Spacing, TransformFiles, numbers

if TYPE_CHECKING:
    import numpy as np

    from ..io.images import Loaded
    from ..io.links import Grids, Link
    from ..sampling import Sampler
    from ..space import Space
    from ..transforms.base import Transform

_MOST_VOXELS = 1 << 31
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
_GridSpacing = Annotated[
    str | None,
    typer.Option(
        "--grid-spacing", metavar="MM[,MM...]", help="Voxels of the results, in the field of view of REFERENCE."
    ),
]
_Type = Annotated[
    str | None,
    typer.Option("--dtype", metavar="NAME", help="Type of their voxels, such as uint8, int16, float32; that of INPUT."),
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
    grid_spacing: _GridSpacing = None,
    dtype: _Type = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Resample INPUT onto the grid of REFERENCE through TRANSFORM.

    Several transforms go from the reference to the input, in the order of antsApplyTransforms; [FILE,1] is an inverse.
    A transform.h5 of this program is applied exactly; files of ITK, ANTs, elastix, FreeSurfer and RAS matrices are read
    too. Images of few whole numbers are taken for labels and resampled by nearest voxel, without --interpolation;
    with label every label is interpolated linearly and the largest share wins, which leaves smoother borders.
    Without --channel every volume of a NIfTI file goes through the transform. Several results appear together, or none
    of them if one cannot be made.
    """
    from .convert import links_of
    from .inverting import telling_misses
    from .outputs import output_files, renamed
    from .progress import watching
    from .resampling import Resampling

    links = links_of(transform)
    _check_outputs(outputs, overwrite, inputs, (*(link.file for link in links), reference))
    sampler, wanted = _sampler(interpolation), _type(dtype)
    chain, target, said = _loaded(links, inverse, reference, inputs, numbers("--spacing", spacing))
    onto = _regridded(target.image.space, grid_spacing, said)
    with watching(quiet) as watcher:
        for text in said:
            watcher.note(text)
        steps = numbers("--spacing", spacing)
        resample = Resampling(chain, onto, target.source, sampler, channel, steps, wanted)
        with output_files(outputs) as places:
            for source, place in zip(inputs, places, strict=True):
                notices: list[str] = []
                with telling_misses(notices):
                    notices += resample(source, place)
                for text in notices:
                    watcher.note(renamed(text, places, outputs))
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
    links: Sequence[Link], inverse: bool, reference: Path, inputs: Sequence[Path], spacing: tuple[float, ...] | None
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

    images: Grids = (None, None)
    if any(link.fsl for link in links):
        images = _grid_of([reference], spacing), _grid_of(inputs, spacing)
    chain, info = read_links(links, images[::-1] if inverse else images)
    # Of the reference only the grid counts, so any volume of it will do.
    target = load_image(reference, channel=0, spacing=spacing)
    if chain.ndim != target.image.ndim:
        raise InputError(named(links), f"is a {chain.ndim}-D transform, {reference} has {target.image.ndim} axes")
    if inverse:
        chain = inverted(chain, named(links))
    strange = _strange_grid(info.moving if inverse else info.fixed, target.image.space)
    return chain, target, [*info.notices, *target.notices, *strange]


def _grid_of(inputs: Sequence[Path], spacing: tuple[float, ...] | None) -> Space:
    """The grid that all these images have, in which a matrix of FSL counts."""
    from ..errors import InputError
    from ..io.images import load_image

    if spacing is not None:
        raise InputError("--spacing", "changes what a matrix of FSL counts in", "convert the matrix first")
    first, *others = (load_image(path, channel=0).image.space for path in inputs)
    for path, other in zip(inputs[1:], others, strict=True):
        if not other.same_as(first):
            raise InputError(
                path, f"has another grid than {inputs[0]}, and a matrix of FSL is of one", "apply it alone"
            )
    return first


def _sampler(name: str | None) -> Sampler | None:
    from .interpolations import sampler_named

    return None if name is None else sampler_named(name)


def _type(name: str | None) -> np.dtype | None:
    if name is None:
        return None
    import numpy as np

    from .fitting import TYPES
    from .settings import choose

    return np.dtype(choose("--dtype ", name, TYPES))


def _regridded(space: Space, text: str | None, said: list[str]) -> Space:
    """The same field of view in voxels of about the wanted size; if it is not a multiple of them, that is said.

    Raises
    ------
    InputError
        If the sizes do not fit the axes, or would make more voxels than any machine holds.
    """
    from ..errors import InputError

    steps = numbers("--grid-spacing", text)
    if steps is None:
        return space
    if len(steps) not in (1, space.ndim):
        raise InputError(f"--grid-spacing {text}", f"takes one number or {space.ndim}, for {space.ndim} axes")
    wanted = steps * (space.ndim // len(steps))
    shape = [max(1.0, length / step) for length, step in zip(space.extent.tolist(), wanted, strict=True)]
    if math.prod(shape) > _MOST_VOXELS:
        raise InputError(f"--grid-spacing {text}", f"would make {math.prod(shape):.2g} voxels", "choose larger ones")
    found = space.resized([round(count) for count in shape])
    if any(abs(have / want - 1) > 1e-3 for have, want in zip(found.spacing.tolist(), wanted, strict=True)):
        said.append(f"--grid-spacing {text}: the field of view of the reference makes {found.describe()}")
    return found


def _strange_grid(made_for: Space | None, target: Space) -> list[str]:
    """A word when the reference is not the image the transform was made with, a likely slip but no error."""
    if made_for is None or made_for.same_as(target):
        return []
    return [f"the transform was made for a grid of {made_for.describe()}, --reference has {target.describe()}"]
