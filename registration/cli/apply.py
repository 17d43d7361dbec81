"""``registration apply``: resample further images through a transform that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Channel, Overwrite, Quiet, Spacing, numbers

if TYPE_CHECKING:
    from ..sampling import Sampler
    from ..space import Space
    from ..transforms.base import Transform


def apply(
    transform: Annotated[
        Path, typer.Option("--transform", "-t", help="Transform file, fixed -> moving.", show_default=False)
    ],
    reference: Annotated[
        Path,
        typer.Option("--reference", "-r", help="Image whose grid the result gets: the fixed one.", show_default=False),
    ],
    inputs: Annotated[
        list[Path], typer.Option("--input", "-i", help="Image to resample; may be repeated.", show_default=False)
    ],
    outputs: Annotated[list[Path], typer.Option("--output", "-o", help="Result, one per --input.", show_default=False)],
    interpolation: Annotated[
        str | None,
        typer.Option(
            "--interpolation", "-n", help="linear, nearest, bspline, label; labels take nearest.", metavar="NAME"
        ),
    ] = None,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Go the other way: --reference is then the moving image.")
    ] = False,
    channel: Channel = None,
    spacing: Spacing = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Resample INPUT onto the grid of REFERENCE through TRANSFORM.

    A transform.h5 of this program is applied exactly; files of ITK, ANTs and Slicer and plain RAS matrices are read
    too. Images of few whole numbers are taken for labels and resampled by nearest voxel, without --interpolation;
    with label every label is interpolated linearly and the largest share wins, which leaves smoother borders.
    """
    from ..errors import InputError
    from ..io.images import load_image
    from ..io.transforms import read_transform
    from .inverting import inverted, telling_misses
    from .progress import watching

    if len(inputs) != len(outputs):
        raise InputError("--input and --output", f"come in pairs, got {len(inputs)} and {len(outputs)}")
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError("--output", "names one file twice")
    for path in outputs:
        if path.exists() and not overwrite:
            raise InputError(path, "is there already", "give --overwrite to replace it, or another --output")
    sampler = _sampler(interpolation)
    chain, info = read_transform(transform)
    # Of the reference only the grid counts, so any volume of it will do.
    target = load_image(reference, channel=0, spacing=numbers("--spacing", spacing))
    if chain.ndim != target.image.ndim:
        raise InputError(transform, f"is a {chain.ndim}-D transform, {reference} has {target.image.ndim} axes")
    if inverse:
        chain = inverted(chain, transform)
    with watching(quiet) as watcher:
        for text in (
            *info.notices,
            *target.notices,
            *_strange_grid(info.moving if inverse else info.fixed, target.image.space),
        ):
            watcher.note(text)
        job = _Job(chain, target, sampler, channel, numbers("--spacing", spacing))
        for source, result in zip(inputs, outputs, strict=True):
            notices: list[str] = []
            with telling_misses(notices):
                notices += job(source, result)
            for text in notices:
                watcher.note(text)
    if not quiet:
        for result in outputs:
            typer.echo(f"wrote {result}")


class _Job:
    """Resample one file after another in the same way."""

    def __init__(
        self,
        chain: Transform,
        target: object,
        sampler: Sampler | None,
        channel: int | None,
        spacing: tuple[float, ...] | None,
    ) -> None:
        self.chain, self.target, self.sampler, self.channel, self.spacing = chain, target, sampler, channel, spacing

    def __call__(self, source: Path, result: Path) -> list[str]:
        """Write ``result``; what had to be decided, in sentences."""
        from ..errors import InputError
        from ..io.images import Loaded, load_image, load_labels, write_image
        from ..sampling import linear, nearest, vote, warp
        from .scores import fill_of

        assert isinstance(self.target, Loaded)
        loaded = load_image(source, channel=self.channel, spacing=self.spacing)
        labels, whole = loaded.source.labels, loaded.source.dtype.kind in "iu"
        sampler = self.sampler or (nearest if labels else linear)
        if sampler is vote or (sampler is nearest and (labels or whole) and self.channel is None):
            loaded = load_labels(source, channel=self.channel, spacing=self.spacing)  # exact beyond 2^24
        notices = list(loaded.notices)
        if self.sampler is None and labels:
            notices.append(
                f"{source} is taken for a label map: nearest voxel; --interpolation linear treats it as an image"
            )
        if loaded.image.ndim != self.chain.ndim:
            raise InputError(source, f"has {loaded.image.ndim} axes, the transform is {self.chain.ndim}-D")
        fill = 0.0 if labels or sampler is vote else fill_of(loaded.image)
        warped, inside = warp(loaded.image, self.chain, self.target.image.space, sampler, fill)
        if not bool(inside.any()):
            notices.append(
                f"{result} is empty: the transform leads nowhere inside {source}; is it the inverse that is needed?"
            )
        write_image(result, warped, like=self.target.source, dtype=loaded.source.dtype, notices=notices)
        return notices


def _sampler(name: str | None) -> Sampler | None:
    from .interpolations import SAMPLERS
    from .settings import choose

    return None if name is None else SAMPLERS[choose("--interpolation ", name, SAMPLERS)]


def _strange_grid(made_for: Space | None, target: Space) -> list[str]:
    """A word when the reference is not the image the transform was made with, a likely slip but no error."""
    if made_for is None or made_for.same_as(target):
        return []
    return [f"the transform was made for a grid of {made_for.describe()}, --reference has {target.describe()}"]
