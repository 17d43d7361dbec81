"""Which intensities of the images count: what ``--window`` and its like say, and what becomes of the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..limits import LARGEST

if TYPE_CHECKING:
    from ..image import Image

Ends = tuple[float | None, float | None]


def windows_named(both: str | None, fixed: str | None, moving: str | None) -> dict[str, Any]:
    """What ``--window``, ``--fixed-window`` and ``--moving-window`` say, as ``window``, ``fixed_window``, ...

    Raises
    ------
    InputError
        If one is no ``LOW,HIGH``.
    """
    given = {"window": both, "fixed_window": fixed, "moving_window": moving}
    return {name: _ends(_option(name), text) for name, text in given.items()}


def _ends(option: str, text: str | None) -> Ends | None:
    if text is None:
        return None
    try:
        low, high = (float(part) if part.strip() else None for part in text.split(","))
    except ValueError:
        low, high = None, None
    known = [value for value in (low, high) if value is not None]
    if not known or not all(abs(value) <= LARGEST for value in known) or known != sorted(set(known)):
        raise InputError(
            f"{option} {text}", "LOW,HIGH was expected, two numbers of which the first is smaller, or one of them",
            f"for example {option} -100,300, or {option} -100,",
        )  # fmt: skip
    return low, high


def within(side: str, image: Image, own: Ends | None, common: Ends | None) -> Image:
    """The ``fixed`` or ``moving`` image as it is aligned and judged: a copy where it has a window, else the image.

    Parameters
    ----------
    own, common
        The window of this image, and that of both images, which counts where the first was not given.

    Raises
    ------
    InputError
        If nothing is left to be seen.
    """
    ends = common if own is None else own
    if ends is None:
        return image
    from ..pairwise.window import windowed

    try:
        return windowed(image, *ends)
    except ValueError as error:
        option = _option("window" if own is None else f"{side}_window")
        told = ",".join("" if end is None else f"{end:g}" for end in ends)
        raise InputError(f"{option} {told}", str(error), "choose a window that meets what shall be aligned") from None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
