"""``registration check``: look at two images before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Channel, FixedChannel, MovingChannel, Spacing, numbers


def check(
    fixed: Annotated[Path, typer.Argument(metavar="FIXED", help="The image that stays.", show_default=False)],
    moving: Annotated[Path, typer.Argument(metavar="MOVING", help="The image to be moved.", show_default=False)],
    header: Annotated[
        bool, typer.Option("--header", help="The run will start from the headers, so they must overlap.")
    ] = False,
    channel: Channel = None,
    fixed_channel: FixedChannel = None,
    moving_channel: MovingChannel = None,
    spacing: Spacing = None,
) -> None:
    """Say how FIXED and MOVING lie in the world and what is odd about them; status 2 if they cannot be registered."""
    from ..io.preflight import check_pair
    from .image_channels import load_side

    steps = numbers("--spacing", spacing)
    pair = [
        load_side("fixed", fixed, (fixed_channel, channel), steps),
        load_side("moving", moving, (moving_channel, channel), steps),
    ]
    notices = check_pair(pair[0].image, pair[1].image, must_overlap=header)
    for path, loaded in zip((fixed, moving), pair, strict=True):
        low, high = loaded.image.data.aminmax()
        kind = "labels" if loaded.source.labels else str(loaded.source.dtype)
        typer.echo(f"{path}: {loaded.image.space.describe()}; {kind}, {float(low):g} to {float(high):g}")
    for text in (*pair[0].notices, *pair[1].notices, *notices):
        typer.echo(f"note: {text}")
    typer.echo("these two can be registered")
