"""Convolutional networks on (B, C, *S) tensors, one code for 2-D and 3-D.

They are small on purpose: registration needs few channels, and the speed of a step decides how far a training comes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..limits import check_sizes, is_whole

SLOPE = 0.2


def convolution(ndim: int, inputs: int, outputs: int, width: int = 3, stride: int = 1) -> nn.Module:
    """A padded convolution in ``ndim`` dimensions: stride 1 with an odd width keeps the size, 2 with width 4 halves it.

    A stride of 2 with an even width puts its outputs midway between inputs, so that both grids share their edges.
    """
    if ndim not in (2, 3):
        raise ValueError(f"networks are for 2 or 3 spatial axes, got {ndim}")
    kind = (nn.Conv2d, nn.Conv3d)[ndim - 2]
    return kind(inputs, outputs, width, stride=stride, padding=(width - stride + 1) // 2)


def channels_last(x: Tensor) -> Tensor:
    """The same values in the memory order that convolutions on the CPU are fastest in."""
    return x.contiguous(memory_format=(torch.channels_last, torch.channels_last_3d)[x.ndim - 4])


def check_both(inputs: int) -> None:
    """Refuse a number of channels that two images of as many each cannot have, with a :class:`ValueError`."""
    if inputs % 2:
        raise ValueError(f"two images of as many channels each have an even number together, got {inputs}")


def check_counts(least: int, **counts: int | Sequence[int]) -> None:
    """Refuse what is no whole number from ``least``, or no list of such, with a :class:`ValueError` that names it.

    torch makes layers without any channel, and says of half a channel that it cannot be divided by groups.
    """
    for name, given in counts.items():
        values = given if isinstance(given, Sequence) else [given]
        if not all(is_whole(value) and value >= least for value in values):
            raise ValueError(f"{name} takes whole numbers from {least}, got {given!r}")


def padded(x: Tensor, multiple: int) -> Tensor:
    """(B, C, *S) with the border repeated at the far end of every axis, to a multiple of so many voxels."""
    missing = [-n % multiple for n in reversed(x.shape[2:])]
    return F.pad(x, [w for m in missing for w in (0, m)], mode="replicate") if any(missing) else x


class Block(nn.Sequential):
    """A convolution, instance normalisation if wanted, and a leaky ReLU."""

    def __init__(
        self, ndim: int, inputs: int, outputs: int, width: int = 3, stride: int = 1, normalise: bool = False
    ) -> None:
        inner = convolution(ndim, inputs, outputs, width, stride)
        norm = (nn.InstanceNorm2d, nn.InstanceNorm3d)[ndim - 2](outputs, affine=True) if normalise else nn.Identity()
        # He et al. 2015 (arXiv 1502.01852): torch's own start halves the signal at every layer, and a deep network
        # without normalisation then answers with its biases, whatever the images are.
        for parameter in inner.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, a=SLOPE)
            else:
                nn.init.zeros_(parameter)
        super().__init__(inner, norm, nn.LeakyReLU(SLOPE))


class Encoder(nn.Module):
    """Halves the resolution once per width.

    Parameters
    ----------
    ndim
        Spatial dimension D.
    inputs
        Channels that come in.
    widths
        Channels at 1/2, 1/4, ... of the resolution.
    normalise
        Whether every convolution is followed by instance normalisation.
    """

    def __init__(self, ndim: int, inputs: int, widths: Sequence[int], normalise: bool = False) -> None:
        super().__init__()
        if not widths:
            raise ValueError("a network needs the width of at least one level, got widths []")
        check_counts(1, inputs=inputs, widths=widths)
        before = [inputs, *widths[:-1]]
        levels = []
        for number, (a, b) in enumerate(zip(before, widths, strict=True)):
            # The first level, where most voxels are, has one convolution.
            more = [Block(ndim, b, b, normalise=normalise)] if number else []
            levels.append(nn.Sequential(Block(ndim, a, b, 4, 2, normalise=normalise), *more))
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, *S) -> one (B, widths[k], *S / 2**(k+1)) per level, for S divisible by the last power of 2."""
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class UNet(nn.Module):
    """Looks at the whole image (Ronneberger et al. 2015, arXiv 1505.04597); answers at half its resolution, or at full.

    Any input size: borders are repeated to a multiple of 2**levels, and the answer is cut to ``ceil(S / 2)`` or S.

    Parameters
    ----------
    ndim
        Spatial dimension D.
    inputs, outputs
        Channels that come in and go out.
    widths
        Channels at 1/2, 1/4, ... of the resolution.
    final
        Channels of the last convolutions at half resolution.
    start
        Standard deviation of the last weights before training; 0, so that the answer is 0, which is the identity.
    full
        Channels at full resolution, at which it then answers; 0 for none.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        widths: Sequence[int] = (16, 32, 48, 64),
        final: Sequence[int] = (16, 16),
        start: float = 0.0,
        full: int = 0,
    ) -> None:
        super().__init__()
        check_counts(1, inputs=inputs, outputs=outputs, final=final)
        check_counts(0, full=full)
        check_sizes(100, start=start)
        self.stem = nn.Sequential(Block(ndim, inputs, full), Block(ndim, full, full)) if full else None
        self.encoder = Encoder(ndim, full or inputs, widths)
        if full:
            widths = [full, *widths]
        # Channels are reduced before a level is enlarged: at high resolution they are what costs time.
        ups = list(itertools.pairwise(reversed(widths)))
        self.reduce = nn.ModuleList(Block(ndim, below, width) for below, width in ups)
        self.join = nn.ModuleList(Block(ndim, 2 * width, width) for _, width in ups)
        ends = [widths[0], *final]
        self.final = nn.Sequential(*(Block(ndim, a, b) for a, b in itertools.pairwise(ends)))
        self.last = convolution(ndim, ends[-1], outputs)
        for weight in self.last.parameters():
            nn.init.normal_(weight, 0.0, start if weight.ndim > 1 else 0.0)
        self.multiple, self.shrink = 2 ** len(self.encoder.levels), 1 if full else 2
        self.to(memory_format=(torch.channels_last, torch.channels_last_3d)[ndim - 2])  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *S) -> (B, outputs, *ceil(S / 2)), or (B, outputs, *S) with channels at full resolution."""
        shape = [-(-n // 2) if self.stem is None else n for n in x.shape[2:]]
        x = channels_last(padded(x, self.multiple))
        first = [] if self.stem is None else [self.stem(x)]
        features = [*first, *self.encoder(first[0] if first else x)]
        x = features[-1]
        for reduce, join, skip in zip(self.reduce, self.join, reversed(features[:-1]), strict=True):
            x = join(torch.cat([F.interpolate(reduce(x), scale_factor=2.0, mode="nearest"), skip], dim=1))
        x = self.last(self.final(x))
        return x[(slice(None), slice(None), *(slice(n) for n in shape))].contiguous()
