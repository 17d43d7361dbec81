"""Points of the anatomy from one look at an image in its own frame: registration from any pose, without a search."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import downsample
from ..image import Image
from ..sampling import sample, unit_grid
from ..space import Space
from ..transforms.linear import Linear
from .base import full_precision
from .cnn import ParameterNetwork
from .keypoints import PointFinder

_COARSE = 32  # voxels per axis that are enough for moments
_ROUNDS = 6  # after which the threshold of bright and dark stands still
_FIRM = 0.1  # the answers must become as large as this to turn an axis round


class Posed(PointFinder):
    """The corners of a box that is fixed to the anatomy, wherever and however an image shows it.

    The image is first brought into its own frame by its moments: the centre, the axes and the radius (root mean square)
    of what is bright. So no turn, shift or size is too large, and a mouse looks like a torso. What
    moments cannot say, which way round the axes point and how the anatomy lies along them, a small network answers as a
    turn (two axes made orthogonal, Zhou et al. 2019, arXiv 1812.07035) and a shift. Two images are then aligned by the
    fit to their corners, as keypoints are (Wang et al. 2023, arXiv 2304.09941).

    Parameters
    ----------
    network
        D² numbers from (B, C, *S) of ``size`` voxels per axis. Its zeros leave the anatomy along the axes of the image.
    size
        Voxels of the frame along each axis.
    reach
        Half of what the frame shows along each axis, in radii; a solid ball reaches to 1.3.
    """

    def __init__(self, network: ParameterNetwork, size: int = 32, reach: float = 1.6) -> None:
        super().__init__()
        self.network, self.size, self.reach = network, int(size), float(reach)

    def forward(self, image: Image) -> tuple[Tensor, Tensor]:
        """(B, 2**D, D) corners in the world mm of the image's grid, and (B, 2**D) weights, all 1."""
        d = image.ndim
        with full_precision(image.data), torch.no_grad():
            frame = own_frame(image)
            view = Space.regular((self.size,) * d, 2 * self.reach / self.size)
            values, inside = sample(image, unit_grid(Linear(frame), image.space, view, image.data))
        answer = self.network.answer(values * inside)
        with full_precision(image.data):
            turn, shift = _pose(answer.double(), d)
            # Sides of different lengths: a cube looks the same from all sides to a rigid fit.
            sides = torch.linspace(0.8, 1.2, d, dtype=torch.float64, device=answer.device)
            corners = sides * torch.tensor(list(itertools.product((-1, 1), repeat=d)), device=answer.device)
            points = Linear(frame.to(answer.device))(corners @ turn.mT + shift[:, None])
        return points, points.new_ones(points.shape[:2])


def own_frame(image: Image) -> Tensor:
    """(B, D+1, D+1) float64 matrices: radii along the principal axes of the bright part, from its centre -> RAS mm.

    Bright is what is above :func:`halfway`. The axes are a rotation, the longest last, each towards the positive
    side of the world axis that it is nearest to, but for the first where that would be a reflection.
    """
    d = image.ndim
    coarse = downsample(image, [min(n, _COARSE) for n in image.space.shape])
    values = coarse.data.mean(dim=1).flatten(1).double()
    mass = (values > halfway(values)).double() + 1e-9  # also of an image without anything in it
    share = (mass / mass.sum(dim=1, keepdim=True)).cpu()
    places = coarse.space.points().double().cpu().flatten(0, -2)
    centre = share @ places
    away = places - centre[:, None]
    spread = (away * share[..., None]).mT @ away
    axes = torch.linalg.eigh(spread).eigenvectors
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    axes = axes * largest.sign()
    axes[..., 0] *= torch.linalg.det(axes).sign()[:, None]
    radius = spread.diagonal(dim1=1, dim2=2).sum(dim=1).sqrt()
    frame = torch.eye(d + 1, dtype=torch.float64).repeat(len(axes), 1, 1)
    frame[:, :d, :d] = axes * radius[:, None, None]
    frame[:, :d, d] = centre
    return frame


def halfway(values: Tensor) -> Tensor:
    """(B, 1) thresholds for (B, N) values, midway between the means of both sides (Ridler and Calvard 1978).

    The mean alone would call half of a noisy background bright, and an object that fills little of the field of view
    would not decide its own axes.
    """
    threshold = values.mean(dim=1, keepdim=True)
    for _ in range(_ROUNDS):
        above = values > threshold
        high = (values * above).sum(dim=1, keepdim=True) / above.sum(dim=1, keepdim=True).clamp_min(1)
        low = (values * ~above).sum(dim=1, keepdim=True) / (~above).sum(dim=1, keepdim=True).clamp_min(1)
        threshold = (high + low) / 2
    return threshold


def _pose(answer: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """(B, D, D) rotations and (B, D) shifts in radii from (B, D²) answers; zeros are the identity."""
    given = answer[:, : d * (d - 1)].unflatten(1, (d - 1, d)) + _FIRM * torch.eye(d).to(answer)[: d - 1]
    # In the plane, the axis out of it comes first.
    axes = [F.pad(given.new_zeros(len(given), 2), (0, 1), value=1.0)] if d == 2 else []
    for vector in F.pad(given, (0, 3 - d)).unbind(dim=1):
        for axis in axes:
            vector = vector - (vector * axis).sum(dim=-1, keepdim=True) * axis
        axes.append(F.normalize(vector, dim=-1, eps=1e-6))
    axes.append(torch.linalg.cross(axes[0], axes[1]))
    return torch.stack(axes[3 - d :], dim=-1)[:, :d], _FIRM * answer[:, d * (d - 1) :]
