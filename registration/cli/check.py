"""``registration check``: look at two images before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Channel, FixedChannel, FixedWindow, MovingChannel, MovingWindow, Spacing, Window, numbers
from .windows import windows_named, within


def check(
    fixed: Annotated[Path, typer.Argument(metavar="FIXED", help="The image that stays.", show_default=False)],
    moving: Annotated[Path, typer.Argument(metavar="MOVING", help="The image to be moved.", show_default=False)],
    header: Annotated[
        bool, typer.Option("--header", help="The run will start from the headers, so they must overlap.")
    ] = False,
    channel: Channel = None,
    fixed_channel: FixedChannel = None,
    moving_channel: MovingChannel = None,
    window: Window = None,
    fixed_window: FixedWindow = None,
    moving_window: MovingWindow = None,
    spacing: Spacing = None,
) -> None:
    """Say how FIXED and MOVING lie in the world and what is odd about them; status 2 if they cannot be registered."""
    from ..io.preflight import check_pair
    from ..pairwise.cutout import cut_out
    from .image_channels import load_side

    steps = numbers("--spacing", spacing)
    windows = windows_named(window, fixed_window, moving_window)
    pair = [
        load_side("fixed", fixed, (fixed_channel, channel), steps),
        load_side("moving", moving, (moving_channel, channel), steps),
    ]
    images = pair[0].image, pair[1].image
    notices = [*check_pair(*images, must_overlap=header), *cut_out(*images)]
    for side, path, loaded in zip(("fixed", "moving"), (fixed, moving), pair, strict=True):
        image = loaded.image
        low, high = image.data.aminmax()
        seen = within(side, image, windows[f"{side}_window"], windows["window"])
        ends = seen.data.aminmax()
        count = "" if seen is image else f", of which {float(ends.min):g} to {float(ends.max):g} count"
        kind = "labels" if loaded.source.labels else str(loaded.source.dtype)
        typer.echo(f"{path}: {image.space.describe()}; {kind}, {float(low):g} to {float(high):g}{count}")
    for text in (*pair[0].notices, *pair[1].notices, *notices):
        typer.echo(f"note: {text}")
    typer.echo("these two can be registered")
