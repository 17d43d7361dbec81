"""A network that proposes a few numbers for the whole image: the localisation network of spatial transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Localiser
from .networks import Encoder, channels_last, check_counts, padded


class ParameterNetwork(Localiser):
    """Convolutions, an average over a few cells per axis, two linear layers: (B, P) parameters of any small family.

    For rigid, affine and coarse spline families (Jaderberg et al. 2015, arXiv 1506.02025; de Vos et al. 2019,
    doi:10.1016/j.media.2018.11.010). Any input size. The last layer starts at zero: the identity.

    Parameters
    ----------
    ndim
        Spatial dimension D.
    inputs
        Channels of the fixed and the moving image together, or of one image that is looked at alone.
    size
        Number of parameters P.
    widths
        Channels at 1/2, 1/4, ... of the resolution.
    cells
        Averages per axis, which tell the linear layers where something is.
    hidden
        Numbers between the two linear layers.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        size: int,
        widths: Sequence[int] = (16, 32, 32, 64),
        cells: int = 4,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        check_counts(1, size=size, cells=cells, hidden=hidden)
        self.encoder = Encoder(ndim, inputs, widths, normalise=True)
        self.first = nn.Linear(widths[-1] * cells**ndim, hidden)
        self.last = nn.Linear(hidden, size)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)
        self.cells, self.multiple = cells, 2 ** len(widths)
        self.to(memory_format=(torch.channels_last, torch.channels_last_3d)[ndim - 2])  # type: ignore[call-overload]

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """(B, P) dimensionless parameters."""
        return self.answer(torch.cat([fixed, warped], dim=1))

    def answer(self, x: Tensor) -> Tensor:
        """(B, P) numbers for the (B, inputs, *S) channels of one image or of two."""
        x = padded(x, 2 * self.multiple)
        x = self.encoder(channels_last(x))[-1]
        pool = (F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[x.ndim - 4]
        hidden = F.leaky_relu(self.first(pool(x, self.cells).flatten(1)), 0.2)
        return self.last(hidden)  # type: ignore[no-any-return]
