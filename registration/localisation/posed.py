"""Points of the anatomy from one look at an image in its own frame: registration from any pose, without a search."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import downsample
from ..image import Image
from ..limits import check_above, check_sizes
from ..randomness import own_generator
from ..sampling import pull
from ..space import Space
from ..transforms.linear import Linear
from .base import full_precision
from .cnn import ParameterNetwork
from .keypoints import PointFinder
from .networks import check_counts

_COARSE = 32  # voxels per axis that are enough for moments
_ROUNDS = 6  # after which the threshold of bright and dark stands still
_FIRM = 0.1  # the answers must become as large as this to turn an axis round
_WRONG = 0.2  # radians, and half as many radii, by which the frames of lessons are wrong, about


class Posed(PointFinder):
    """The corners of a box that is fixed to the anatomy, wherever and however an image shows it.

    The image is first brought into its own frame by its moments: the centre, the axes and the radius (root mean square)
    of what is bright. So no turn, shift or size is too large, and a mouse looks like a torso. What
    moments cannot say, which way round the axes point and how the anatomy lies along them, a small network answers as a
    turn (two axes made orthogonal, Zhou et al. 2019, arXiv 1812.07035) and a shift. Two images are then aligned by the
    fit to their corners, as keypoints are (Wang et al. 2023, arXiv 2304.09941).

    The same network may look again, at the image in the frame that its last answer gave: what is left then is small,
    and no longer hangs on the moments, which differ by several degrees between two brains. In lessons frames are turned
    round at random, and half of them are looked at a second time, so that few images have much to teach.

    Parameters
    ----------
    network
        D² numbers from (B, C, *S) of ``size`` voxels per axis. Its zeros leave the anatomy along the axes of the image.
    size
        Voxels of the frame along each axis.
    reach
        Half of what the frame shows along each axis, in radii; a solid ball reaches to 1.3.
    looks
        How often the network looks at each image, 1 or more.
    """

    any_size = True

    def __init__(self, network: ParameterNetwork, size: int = 32, reach: float = 1.6, looks: int = 1) -> None:
        super().__init__()
        check_counts(2, size=size)
        check_counts(1, looks=looks)
        check_above(100, reach=reach)
        check_sizes(512, size=size, looks=looks)
        self.network, self.size, self.reach, self.looks = network, int(size), float(reach), int(looks)

    def forward(self, image: Image) -> tuple[Tensor, Tensor]:
        """(B, 2**D, D) corners in the world mm of the image's grid, and (B, 2**D) weights, all 1."""
        points = self.find([image])[0]
        return points, points.new_ones(points.shape[:2])

    def find(self, images: Sequence[Image]) -> list[Tensor]:
        """For every image of some (B, C, *S) ones its (B, 2**D, D) corners; in one go, which takes less time."""
        d, sizes = images[0].ndim, [len(image.data) for image in images]
        with full_precision(images[0].data), torch.no_grad():
            frames = torch.cat([own_frame(image) for image in images])
            for _ in range(self.looks - 1):
                frames = frames @ _pose(self._look(images, frames), d).cpu()
        answer = self._look(images, frames)
        with full_precision(images[0].data):
            return list(_corners(frames, _pose(answer, d)).split(sizes))

    def lesson(self, image: Image) -> Tensor:
        """(B, 2**D, D) corners to learn from: of frames turned at random, and of axes as the network gave them."""
        d, count = image.ndim, len(image.data)
        with full_precision(image.data), torch.no_grad():
            generator = own_generator()
            frame = own_frame(image) @ _turned_round(count, d, generator)
            again = torch.rand(count, generator=generator, dtype=torch.float32) < (0.5 if self.looks > 1 else 0.0)
            if again.any():
                chosen = replace(image, data=image.data[again.to(image.data.device)], mask=None)
                frame[again] = frame[again] @ _pose(self._look([chosen], frame[again]), d).cpu()
        answer = self._look([image], frame)
        with full_precision(image.data):
            return _corners(frame, _pose(answer, d, exact=False))

    def as_it_lies(self, image: Image) -> Tensor:
        """(B, 2**D, D) corners if the anatomy lies along the axes of the world: what lessons lead to."""
        frame, d = own_frame(image), image.ndim
        frame[:, :d, :d] = frame[:, :, 0].norm(dim=1)[:, None, None] * torch.eye(d, dtype=torch.float64)
        return _corners(frame.to(image.data.device), torch.eye(d + 1, dtype=torch.float64, device=image.data.device))

    def _look(self, images: Sequence[Image], frames: Tensor) -> Tensor:
        """(sum of B, D²) float64 answers about images as they are in (sum of B, D+1, D+1) frames."""
        view = Space.regular((self.size,) * images[0].ndim, 2 * self.reach / self.size)
        with full_precision(images[0].data), torch.no_grad():
            parts = frames.split([len(image.data) for image in images])
            seen = [pull(image, Linear(part), view) for image, part in zip(images, parts, strict=True)]
            values = torch.cat([data * inside for data, inside in seen])
        return self.network.answer(values).double()


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
        before, threshold = threshold, (high + low) / 2
        if torch.equal(before, threshold):
            break
    return threshold


def _pose(answer: Tensor, d: int, exact: bool = True) -> Tensor:
    """(B, D+1, D+1) turns and shifts, in radii, from (B, D²) answers; zeros are the identity.

    Axes are made orthogonal and of length 1 if this shall be ``exact``, else they are as given.
    """
    given = answer[:, : d * (d - 1)].unflatten(1, (d - 1, d)) / _FIRM + torch.eye(d).to(answer)[: d - 1]
    # In the plane, the axis out of it comes first.
    axes = [F.pad(given.new_zeros(len(given), 2), (0, 1), value=1.0)] if d == 2 else []
    for vector in F.pad(given, (0, 3 - d)).unbind(dim=1):
        if exact:
            for axis in axes:
                vector = vector - (vector * axis).sum(dim=-1, keepdim=True) * axis
            vector = F.normalize(vector, dim=-1, eps=1e-6)
        axes.append(vector)
    axes.append(torch.linalg.cross(axes[0], axes[1]))
    turn, shift = torch.stack(axes[3 - d :], dim=-1)[:, :d], _FIRM * answer[:, d * (d - 1) :]
    last = torch.eye(d + 1).to(answer)[d:].expand(len(answer), 1, d + 1)
    return torch.cat([torch.cat([turn, shift[:, :, None]], dim=2), last], dim=1)


def _corners(frame: Tensor, pose: Tensor) -> Tensor:
    """(B, 2**D, D) corners, RAS mm, of a box with (B or none, D+1, D+1) poses in (B, D+1, D+1) frames."""
    d = frame.shape[-1] - 1
    # Sides of different lengths: a cube looks the same from all sides to a rigid fit.
    sides = torch.linspace(0.8, 1.2, d, dtype=torch.float64, device=pose.device)
    corners = sides * torch.tensor(list(itertools.product((-1, 1), repeat=d)), device=pose.device)
    return Linear(frame.to(pose.device) @ pose)(corners.expand(len(frame), *corners.shape))


def _turned_round(count: int, d: int, generator: torch.Generator) -> Tensor:
    """(count, D+1, D+1) float64 maps of a frame that point its axes either way, and are a little wrong."""
    signs = 2.0 * torch.randint(2, (count, d), generator=generator).double() - 1
    signs[:, 0] *= signs.prod(dim=1)
    skew = _WRONG * torch.randn(count, d, d, dtype=torch.float64, generator=generator)
    moves = torch.eye(d + 1, dtype=torch.float64).repeat(count, 1, 1)
    moves[:, :d, :d] = torch.linalg.matrix_exp((skew - skew.mT) / 2**0.5) @ torch.diag_embed(signs)
    moves[:, :d, d] = _WRONG / 2 * torch.randn(count, d, dtype=torch.float64, generator=generator)
    return moves
