"""One picture that shows whether a registration worked: checkerboards and edges before and after, and the warp."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..image import Image
from ..sampling import warp
from ..transforms.base import Transform
from ..transforms.linear import Linear
from .planes import Plane, planes_through, window_of
from .remembered import Remembered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _PAPER, _EDGE, _GRID = "#e8e8e8", "#101010", "#ffb000", "#40d8ff"
_COLUMNS = ("checkerboard before", "checkerboard after", "fixed edges before", "fixed edges after", "deformation")
_COLOURS = {"passed": "#1f6f3f", "doubtful": "#8a6100", "failed": "#9c2020"}
_BAND = 0.27  # inches
_CELLS = 8  # checkerboard fields along the longest side
_LINES = 18  # at most, along the longest side
_WIDTH = 3.1  # of a panel, inches
_TALLEST = 40.0  # all panels of a column, inches


def write_overview(path: Path, pictures: Figure) -> None:
    """Save a figure of :func:`overview` as PNG."""
    pictures.savefig(path, dpi=110, facecolor=pictures.get_facecolor(), format="png")


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


def overview(
    fixed: Image,
    moving: Image,
    transform: Transform,
    heading: Heading | str = "",
    before: Transform | None = None,
    letters: bool = True,
) -> Figure:
    """Draw the fixed image with the moving one, before and after, in planes through the middle of the object.

    Parameters
    ----------
    fixed, moving
        (1, C, *S) images; the first channel is shown. Planes go through the middle of the fixed mask, if there is one.
    transform
        The result, fixed RAS mm -> moving RAS mm.
    heading
        A title above the pictures, and a band with the verdict.
    before
        What "before" stands for; without, the images as their headers place them.
    letters
        Whether to mark R, L, A, P, S, I; a photograph has no such sides.

    Returns
    -------
    A matplotlib figure: one row per plane; columns are checkerboards and fixed edges over the moving image, before and
    after, and lines of constant moving coordinates (every 15 mm for a head) over the warped image.
    """
    from matplotlib.figure import Figure

    fixed, moving = fixed.to("cpu", torch.float32), moving.to("cpu", torch.float32)
    planes = planes_through(fixed)
    sides = [plane.size for plane in planes]
    width, heights = max(w for w, _ in sides), [h for _, h in sides]
    heading = Heading(heading) if isinstance(heading, str) else heading
    # Labels above and a line of air below come on top of the panels.
    head = 0.56 + (_BAND if heading.status else 0)
    panel = _WIDTH if len(planes) > 1 else 1.4 * _WIDTH
    # A needle-shaped field of view would ask for a picture of endless height.
    panel = min(panel, _TALLEST * width / sum(heights))
    tall = panel * sum(heights) / width + head + 0.04
    figure = Figure(figsize=(panel * len(_COLUMNS), tall), facecolor=_PAPER)
    grid = figure.add_gridspec(
        len(planes), len(_COLUMNS), height_ratios=heights, left=0.004, right=0.996, bottom=0.03 / tall,
        top=1 - head / tall, wspace=0.015, hspace=0.02,
    )  # fmt: skip
    figure.text(0.5, 1 - 0.09 / tall, heading.title, color=_INK, ha="center", va="top", size=12)
    if heading.status:
        _band(figure, heading, tall)
    windows = window_of(fixed), window_of(moving)
    step = _round_step(max(max(side) for side in sides) / _LINES)
    start = Linear.identity(fixed.ndim) if before is None else before
    for row, plane in enumerate(planes):
        seen = _Seen(plane, fixed, moving, start, transform, windows)
        for column, name in enumerate(_COLUMNS):
            axes: Any = figure.add_subplot(grid[row, column])
            _frame(axes, plane, width)
            if letters:
                _mark(axes, plane, panel * plane.size[1] / width, tilt=column == 0)
            if row == 0:
                axes.set_title(name, color=_INK, size=10, pad=4)
            seen.draw(axes, column, step)
    return figure


def _band(figure: Figure, heading: Heading, tall: float) -> None:
    """The verdict in one line under the title, cut where the picture ends."""
    from matplotlib.patches import Rectangle

    low = 1 - (0.32 + _BAND) / tall
    colour = _COLOURS.get(heading.status, _COLOURS["failed"])
    figure.add_artist(Rectangle((0, low), 1, 0.85 * _BAND / tall, transform=figure.transFigure, color=colour))
    most = int(figure.get_figwidth() * 14)  # letters of this size in the width of the figure
    text = f"{heading.status.upper()}   {heading.verdict}"
    text = text if len(text) <= most else text[: most - 1] + "…"
    figure.text(0.5, low + 0.42 * _BAND / tall, text, color="white", ha="center", va="center", size=10)


class _Seen:
    """What one plane shows, as (nv, nu) arrays in [0, 1], row 0 at the bottom."""

    def __init__(
        self, plane: Plane, fixed: Image, moving: Image, before: Transform, after: Transform, windows: tuple[Any, Any]
    ) -> None:
        # Seen twice on this plane: by the image and by the lines.
        after = Remembered.of(after)
        self.plane, self.after = plane, after
        self.fixed = _shown(fixed, Linear.identity(fixed.ndim), plane, windows[0])
        self.before = _shown(moving, before, plane, windows[1])
        self.warped = _shown(moving, after, plane, windows[1])
        self.edges = _edges(self.fixed)

    def draw(self, axes: Any, column: int, step: float) -> None:
        moving = self.before if column in (0, 2) else self.warped
        right, up = self._pixels()
        if column < 2:
            cell = max(self.plane.size) / _CELLS
            odd = ((right // cell)[None] + (up // cell)[:, None]) % 2 == 1
            self._image(axes, np.where(odd, moving, self.fixed))
            return
        # Lines need a darker ground, for slides are white.
        self._image(axes, moving * (0.6 if column == 4 else 1))
        if column < 4:
            if np.isfinite(self.edges).any() and np.nanmin(self.edges) < 0 < np.nanmax(self.edges):
                axes.contour(right, up, self.edges, levels=[0], colors=_EDGE, linewidths=0.8)
            return
        from matplotlib.patheffects import withStroke

        mapped = self.after.on_grid(self.plane.space, torch.zeros(0)).detach()
        points = mapped.reshape(*self.plane.space.shape[:2], -1)
        for lines in self.plane.along(points):
            values = lines.numpy().T
            levels = np.arange(np.floor(values.min() / step), np.ceil(values.max() / step) + 1) * step
            drawn = axes.contour(right, up, values, levels=levels, colors=_GRID, linewidths=0.9, linestyles="solid")
            drawn.set_path_effects([withStroke(linewidth=2.2, foreground="#00000090")])

    def _image(self, axes: Any, values: np.ndarray) -> None:
        width, height = self.plane.size
        axes.imshow(values, cmap="gray", vmin=0, vmax=1, origin="lower", extent=(0, width, 0, height))

    def _pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the pixels from the lower left corner, mm."""
        (nu, nv), (width, height) = self.plane.space.shape[:2], self.plane.size
        return (np.arange(nu) + 0.5) * width / nu, (np.arange(nv) + 0.5) * height / nv


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
            color=_EDGE,
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


def _shown(image: Image, transform: Transform, plane: Plane, window: tuple[float, float]) -> np.ndarray:
    seen, inside = warp(Image(image.data[:1, :1], image.space), transform, plane.space)
    low, high = window
    values = ((seen.data - low) / (high - low)).clamp(0, 1) * inside
    return values.detach().reshape(plane.space.shape[:2]).numpy().T


def _edges(values: np.ndarray) -> np.ndarray:
    """Laplacian of a Gaussian, NaN where the slope is weak: zero crossings are edges (Marr and Hildreth 1980)."""
    from scipy import ndimage

    sigma = max(1.0, max(values.shape) / 160)
    slope = ndimage.gaussian_gradient_magnitude(values, sigma)
    laplacian = ndimage.gaussian_laplace(values, sigma)
    steep = slope[slope > 0.01]
    return np.where(slope > (np.quantile(steep, 0.6) if steep.size else np.inf), laplacian, np.nan)


def _round_step(length: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 5, 7, 10, 15 ... mm (and fractions) that is not shorter than the given length."""
    decade = 10 ** np.floor(np.log10(length))
    return float(min(m for m in (1, 1.5, 2, 3, 5, 7, 10) if m * decade >= 0.9999 * length) * decade)
