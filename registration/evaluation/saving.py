"""Figures of matplotlib as files, and names in them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawable(text: str) -> str:
    """A text that can be drawn in one line: names of files may hold line ends, and bytes that are no text."""
    return " ".join(text.encode(errors="replace").decode().split())


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure whole or not at all, in the format of the path's ending.

    Signs that the font does not have, as in names of files, are boxes; that is no reason to warn.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(temporary, dpi=dpi, facecolor=figure.get_facecolor(), format=path.suffix[1:])
