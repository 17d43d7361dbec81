"""Images in files of several volumes: which one is taken of each side, and what is said where it is not there."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..io.images import Loaded, load_image
from ..io.raw import ChannelError

_OTHER = {"fixed": "moving", "moving": "fixed"}


def load_side(
    side: str, path: Path, channels: tuple[int | None, int | None], spacing: tuple[float, ...] | None
) -> Loaded:
    """Read the ``fixed`` or ``moving`` image.

    Parameters
    ----------
    channels
        The volume of this image, and that of both images, which counts where the first was not chosen.

    Raises
    ------
    InputError
        As :func:`load_image`, with the options that choose.
    """
    own, common = channels
    channel = common if own is None else own
    try:
        return load_image(path, channel=channel, spacing=spacing)
    except ChannelError as error:
        raise _no_such_volume(side, path, channel, error.count) from None


def _no_such_volume(side: str, path: Path, channel: int | None, count: int) -> InputError:
    numbers = f"0 ... {count - 1}"
    if channel is None:
        cure = f"choose with --{side}-channel {numbers}, or for both images with --channel"
        return InputError(path, f"holds {count} volumes or channels, one is needed", cure)
    held = "it holds one volume" if count == 1 else f"it has {numbers}"
    other = _OTHER[side]
    return InputError(
        path, f"has no channel {channel}", f"{held}; --{other}-channel chooses that of the {other} image alone"
    )
