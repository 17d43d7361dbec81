"""One picture that shows whether a registration worked: checkerboards and edges before and after, and the warp."""

from __future__ import annotations

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
from .saving import save_figure
from .sheet import EDGE, Heading, empty_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GRID = "#40d8ff"
_COLUMNS = ("checkerboard before", "checkerboard after", "fixed edges before", "fixed edges after", "deformation")
_CELLS = 8  # checkerboard fields along the longest side
_LINES = 18  # at most, along the longest side


def write_overview(path: Path, pictures: Figure) -> None:
    """Save a figure of :func:`overview` as PNG."""
    save_figure(pictures, path, 110)


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
    fixed, moving = fixed.to("cpu", torch.float32), moving.to("cpu", torch.float32)
    planes = planes_through(fixed)
    heading = Heading(heading) if isinstance(heading, str) else heading
    sheet = empty_sheet([plane.size for plane in planes], _COLUMNS, heading)
    windows = window_of(fixed), window_of(moving)
    step = _round_step(max(max(plane.size) for plane in planes) / _LINES)
    start = Linear.identity(fixed.ndim) if before is None else before
    for row, plane in enumerate(planes):
        seen = _Seen(plane, (fixed, moving), (start, transform), windows)
        for column in range(len(_COLUMNS)):
            seen.draw(sheet.panel(row, column, plane, letters), column, step)
    return sheet.figure


class _Seen:
    """What one plane shows, as (nv, nu) arrays in [0, 1], row 0 at the bottom.

    Parameters
    ----------
    images
        The fixed and the moving image.
    maps
        Fixed RAS mm -> moving RAS mm, before and after.
    windows
        Intensities shown as black and white, of each image.
    """

    def __init__(
        self, plane: Plane, images: tuple[Image, Image], maps: tuple[Transform, Transform], windows: tuple[Any, Any]
    ) -> None:
        (fixed, moving), (before, after) = images, maps
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
                axes.contour(right, up, self.edges, levels=[0], colors=EDGE, linewidths=0.8)
            return
        from matplotlib.patheffects import withStroke

        mapped = self.after.on_grid(self.plane.space, torch.zeros(0, dtype=torch.float32)).detach()
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
