"""Intensities laid out by how many voxels have them, so that bins of one width tell more tissues apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS = 4096  # of the histogram, which must resolve soft tissue beside bone
_NEAR = 16  # cells to either side over which it is smoothed
_LEAST = 0.01  # of the mean density is everywhere, so that the order of intensities is kept
_SAMPLES = 1 << 20
_CHUNK = 1 << 18  # voxels at once, for the caches of a CPU


def spread_out(data: Tensor, mask: Tensor | None, power: float) -> Tensor:
    """A monotone change of intensities, by which a range takes the more room the more voxels lie in it.

    As the companding of quantisers (Panter and Dite 1951, doi:10.1109/JRPROC.1951.230601).

    Parameters
    ----------
    data
        (B, C, *S) intensities; every image and channel is spread by itself, between its own extremes.
    mask
        (B or 1, 1, *S) boolean: whose intensities are counted; None for all.
    power
        Of the density: 0 changes nothing, 1 makes all intensities equally frequent.

    Returns
    -------
    (B, C, *S) intensities; those beyond the extremes inside the mask have the extreme values.
    """
    out = torch.empty_like(data)
    for b in range(data.shape[0]):
        inside = None if mask is None else mask[b % len(mask), 0].flatten()
        for c in range(data.shape[1]):
            _spread(data[b, c].flatten(), inside, power, out[b, c].view(-1))
    return out


def _spread(values: Tensor, inside: Tensor | None, power: float, out: Tensor) -> None:
    """:func:`spread_out` of (N,) values, written to ``out``."""
    counted = values if inside is None else values[inside]
    counted = counted[:: max(1, len(counted) // _SAMPLES)]
    low, high = (float(end) for end in counted.aminmax()) if len(counted) else (0.0, 0.0)
    if not high > low:
        out.copy_(values)
        return
    counts = torch.histc(counted, _CELLS, low, high)
    density = F.avg_pool1d(counts[None], 2 * _NEAR + 1, 1, _NEAR)[0].double() ** power
    rises = F.pad((density + _LEAST * density.mean()).cumsum(0), (1, 0))
    ends = (low + (high - low) * rises / rises[-1]).to(values.dtype)
    for part, target in zip(values.split(_CHUNK), out.split(_CHUNK), strict=True):
        place = ((part - low) * (_CELLS / (high - low))).clamp_(0, _CELLS)
        cell = place.long().clamp_(max=_CELLS - 1)
        torch.lerp(ends[cell], ends[cell + 1], place - cell, out=target)
