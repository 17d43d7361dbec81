"""The empty picture of an overview: a heading, a band with the verdict, and black panels drawn to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .planes import Plane
from .saving import drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGE = "#ffb000"
_INK, _PAPER = "#e8e8e8", "#101010"
_COLOURS = {"passed": "#1f6f3f", "doubtful": "#8a6100", "failed": "#9c2020"}
_BAND = 0.27  # inches
_WIDTH = 3.1  # of a panel, inches
_TALLEST = 40.0  # all panels of a column, inches


@dataclass(frozen=True)
class Heading:
    """What stands above the pictures.

    Parameters
    ----------
    title
        One line.
    status
        passed, doubtful or failed: the colour of the band below it; empty for no band.
    verdict
        What the band says.
    """

    title: str = ""
    status: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Sheet:
    """A picture with its heading and room for panels.

    Parameters
    ----------
    figure, grid
        Of matplotlib; one cell of the grid for every panel.
    titles
        Of the columns.
    inches, width
        Of a panel: in the picture, and of what it shows, mm.
    """

    figure: Figure
    grid: Any
    titles: Sequence[str]
    inches: float
    width: float

    def panel(self, row: int, column: int, plane: Plane, letters: bool) -> Any:
        """Axes for a plane, in mm from its lower left corner, perhaps with the sides of the patient."""
        axes: Any = self.figure.add_subplot(self.grid[row, column])
        _frame(axes, plane, self.width)
        if letters:
            _mark(axes, plane, self.inches * plane.size[1] / self.width, tilt=column == 0)
        if row == 0:
            axes.set_title(self.titles[column], color=_INK, size=10, pad=4)
        return axes


def empty_sheet(sides: Sequence[tuple[float, float]], titles: Sequence[str], heading: Heading) -> Sheet:
    """Room for planes of these widths and heights (mm), one below the other, each as often as there are titles."""
    from matplotlib.figure import Figure

    width, heights = max(w for w, _ in sides), [h for _, h in sides]
    # Labels above and a line of air below come on top of the panels.
    head = 0.56 + (_BAND if heading.status else 0)
    panel = _WIDTH if len(sides) > 1 else 1.4 * _WIDTH
    # A needle-shaped field of view would ask for a picture of endless height.
    panel = min(panel, _TALLEST * width / sum(heights))
    tall = panel * sum(heights) / width + head + 0.04
    figure = Figure(figsize=(panel * len(titles), tall), facecolor=_PAPER)
    grid = figure.add_gridspec(
        len(sides), len(titles), height_ratios=heights, left=0.004, right=0.996, bottom=0.03 / tall,
        top=1 - head / tall, wspace=0.015, hspace=0.02,
    )  # fmt: skip
    # Names of files may hold dollars, which are no formulas.
    title = drawable(heading.title)
    figure.text(0.5, 1 - 0.09 / tall, title, color=_INK, ha="center", va="top", size=12, parse_math=False)
    if heading.status:
        _band(figure, heading, tall)
    return Sheet(figure, grid, titles, panel, width)


def _band(figure: Figure, heading: Heading, tall: float) -> None:
    """The verdict in one line under the title, cut where the picture ends."""
    from matplotlib.patches import Rectangle

    low = 1 - (0.32 + _BAND) / tall
    colour = _COLOURS.get(heading.status, _COLOURS["failed"])
    figure.add_artist(Rectangle((0, low), 1, 0.85 * _BAND / tall, transform=figure.transFigure, color=colour))
    most = int(figure.get_figwidth() * 14)  # letters of this size in the width of the figure
    text = f"{heading.status.upper()}   {heading.verdict}"
    text = text if len(text) <= most else text[: most - 1] + "…"
    place = 0.5, low + 0.42 * _BAND / tall
    figure.text(*place, text, color="white", ha="center", va="center", size=10, parse_math=False)


def _frame(axes: Any, plane: Plane, width: float) -> None:
    """An empty black panel as wide as the widest plane, so that all are drawn to one scale."""
    w, h = plane.size
    axes.set(
        xlim=(w / 2 - width / 2, w / 2 + width / 2),
        ylim=(0, h),
        xticks=[],
        yticks=[],
        facecolor="black",
        aspect="equal",
    )
    axes.set_autoscale_on(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _mark(axes: Any, plane: Plane, height: float, tilt: bool) -> None:
    """The sides of the patient, readable on black and on white; ``height`` of the panel in inches."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="black")]
    left, right, bottom, top = plane.letters
    # Half a letter from the border, and in a low panel no letters above one another.
    edge = min(0.4, 0.07 / height)
    sides = ((left, 0.025, 0.5), (right, 0.975, 0.5), (bottom, 0.5, edge), (top, 0.5, 1 - edge))
    for text, x, y in sides if height > 0.5 else sides[:2]:
        axes.text(
            x,
            y,
            text,
            color=EDGE,
            size=min(9, 60 * height),
            weight="bold",
            ha="center",
            va="center",
            transform=axes.transAxes,
            path_effects=halo,
        )
    if tilt and plane.tilt > 5 and height > 0.5:
        note = f"oblique {plane.tilt:.0f}°"
        axes.text(0.015, 0.015, note, color=_INK, size=7, va="bottom", transform=axes.transAxes, path_effects=halo)
