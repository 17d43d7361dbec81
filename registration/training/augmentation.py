"""Training images moved and changed at random, so that few of them are many."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from ..image import Image
from ..interpolate import linear, nearest
from ..limits import check_sizes
from ..randomness import own_generator
from ..sampling import unit_grid
from ..transforms.base import Composite, Transform, parts_of
from ..transforms.velocity import VelocityField
from .batch import PairBatch
from .data.synthetic import RandomMap, Still


class Augmentation:
    """Moves each image of a pair for itself, with its labels, mask and landmarks, and changes its intensities.

    Random numbers come from torch's own generator, whose state checkpoints hold. What lies outside the image is its
    border for intensities, background for labels, and outside the mask.

    Parameters
    ----------
    deformation
        Draws maps; None moves nothing.
    gamma
        Standard deviation of the logarithm of a power, applied between the least and the largest intensity.
    brightness
        Largest share by which intensities are multiplied up or down.
    noise
        Largest standard deviation of noise, as a share of the range of intensities.
    """

    def __init__(
        self, deformation: RandomMap | None = None, gamma: float = 0.0, brightness: float = 0.0, noise: float = 0.0
    ) -> None:
        check_sizes(10, gamma=gamma, brightness=brightness, noise=noise)
        if deformation is not None and not isinstance(deformation, RandomMap):
            raise ValueError(f"deformation draws maps, such as Chain and RandomFlow, got {deformation!r}")
        self.idle = deformation is None and not (gamma or brightness or noise)
        self.deformation = deformation or Still()
        self.gamma, self.brightness, self.noise = float(gamma), float(brightness), float(noise)

    def __call__(self, batch: PairBatch) -> PairBatch:
        """A batch of the same pairs, moved and changed; the one that is given stays as it is."""
        if self.idle:
            return batch
        generator = own_generator()
        fixed, fixed_labels, before = self._moved(batch.fixed, batch.fixed_labels, generator)
        moving, moving_labels, after = self._moved(batch.moving, batch.moving_labels, generator)
        points = None
        if batch.points is not None:  # what was at T(x) is at x now
            points = tuple(
                (f.inverse()(a), m.inverse()(b)) for f, m, (a, b) in zip(before, after, batch.points, strict=True)
            )
        return replace(
            batch, fixed=fixed, moving=moving, fixed_labels=fixed_labels, moving_labels=moving_labels, points=points
        )

    def _moved(
        self, image: Image, labels: Tensor | None, generator: Generator
    ) -> tuple[Image, Tensor | None, list[Transform]]:
        """(B, C, *S) images with masks and (B, 1, *S) labels, and the map of each: new mm -> old mm."""
        device = image.data.device
        maps = [on_device(self.deformation(image.space, generator), device) for _ in range(len(image.data))]
        grid = torch.cat([unit_grid(T, image.space, image.space, image.data) for T in maps])
        inside = (grid.abs().amax(dim=-1) <= 1)[:, None]
        data = self._changed(linear(image.data, grid), generator)
        mask = None if image.mask is None else (nearest(image.mask.to(grid), grid) > 0.5) & inside
        if labels is not None:
            labels = (nearest(labels.to(grid), grid) * inside).to(labels.dtype)
        return replace(image, data=data, mask=mask), labels, maps

    def _changed(self, data: Tensor, generator: Generator) -> Tensor:
        one = (len(data), 1, *[1] * (data.ndim - 2))
        low, high = (
            extreme(data, dim=tuple(range(2, data.ndim)), keepdim=True) for extreme in (torch.amin, torch.amax)
        )
        power = torch.exp(self.gamma * torch.randn(one, generator=generator, dtype=torch.float32))
        factor = 1 + self.brightness * (2 * torch.rand(one, generator=generator, dtype=torch.float32) - 1)
        unit = (data - low) / (high - low).clamp_min(1e-6)
        unit = unit.pow(power.to(data)) * factor.to(data)
        if self.noise:
            spread = self.noise * torch.rand(one, generator=generator, dtype=torch.float32)
            unit = unit + spread.to(data) * normal(data, generator)
        return low + (high - low) * unit


def normal(like: Tensor, generator: Generator) -> Tensor:
    """Normal random numbers drawn where a tensor is, of its shape and dtype, seeded by a generator on the CPU."""
    seed = int(torch.randint(2**62, (), generator=generator))
    there = Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=there, device=like.device, dtype=like.dtype)


def on_device(transform: Transform, device: torch.device) -> Transform:
    """The same map with its velocities on a device, where they are integrated; the rest follows the points anyway."""
    parts = [
        VelocityField(part.velocity.to(device), part.space, part.steps) if isinstance(part, VelocityField) else part
        for part in parts_of(transform)
    ]
    return parts[0] if len(parts) == 1 else Composite(tuple(parts))
