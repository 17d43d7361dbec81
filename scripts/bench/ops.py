"""Time the operations that registration spends its life in.

    python scripts/bench/ops.py [--shape 160 192 224] [--threads 2] [--repeats 5]

Prints, per operation, the best wall time in ms, and that time in copies of the same volume, the floor that memory sets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from registration import filters
from registration.image import Image
from registration.losses import (
    LocalNormalisedCrossCorrelation,
    MutualInformation,
    NormalisedCrossCorrelation,
    Similarity,
)
from registration.sampling import sample
from registration.space import Space


def best(function: Callable[[], object], repeats: int) -> float:
    """Best wall time in ms, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def there_and_back(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Callable[[], object]:
    """Forward and backward to ``x``."""
    x = x.clone().requires_grad_()
    return lambda: torch.autograd.grad(function(x).sum(), x)


def filter_operations(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    d = x.ndim - 2
    half = [n // 2 for n in x.shape[2:]]
    table: dict[str, Callable[[], object]] = {}
    for r in (2, 4, 8):
        table[f"box_sum, radius {r}"] = partial(filters.box_sum, x, [r] * d)
    for sigma in (1.0, 4.0):
        table[f"gaussian, sigma {sigma:g}"] = partial(filters.gaussian, x, [sigma] * d)
    table["resample to half"] = lambda: filters.resample(x, half)
    table["gradient_magnitude"] = lambda: filters.gradient_magnitude(x, [1.0] * d)
    return table


def loss_operations(x: torch.Tensor, y: torch.Tensor) -> dict[str, Callable[[], object]]:
    million = [round((1e6) ** (1 / (x.ndim - 2)))] * (x.ndim - 2)
    small_x, small_y = filters.resample(x, million), filters.resample(y, million)
    mask = torch.rand_like(x) > 0.05
    lncc, mi = LocalNormalisedCrossCorrelation(2), MutualInformation()
    ncc: Similarity = NormalisedCrossCorrelation()
    bound = lncc.bind(y)
    return {
        "NCC, forward + backward": there_and_back(lambda t: ncc(t, y), x),
        "LNCC 5^D, forward": lambda: lncc(x, y),
        "LNCC 5^D, forward + backward": there_and_back(lambda t: lncc(t, y), x),
        "LNCC 5^D bound, forward + backward": there_and_back(bound, x),
        "LNCC 5^D masked, forward + backward": there_and_back(lambda t: lncc(t, y, mask), x),
        "MI 32 bins, forward + backward": there_and_back(lambda t: mi(t, y), x),
        "MI 32 bins, 1e6 voxels, forward + backward": there_and_back(lambda t: mi(t, small_y), small_x),
    }


def sampling_operations(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    space = Space.regular(x.shape[2:])
    image = Image(x, space)
    points = space.points(x)
    unit = space.to_unit().to(x)
    d = space.ndim
    grid = ((points + torch.randn(d)) @ unit[:d, :d].T + unit[:d, d])[None]
    return {
        "sample, forward": lambda: sample(image, grid),
        "sample, forward + backward to the grid": there_and_back(lambda g: sample(image, g)[0], grid),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[160, 192, 224])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = options.shape
    x = filters.gaussian(torch.rand(1, 1, *shape), [1.0] * len(shape))
    y = filters.gaussian(torch.rand(1, 1, *shape), [1.0] * len(shape))
    target = torch.empty_like(x)
    copy = best(lambda: target.copy_(x), 4 * options.repeats)
    print(f"{' x '.join(map(str, shape))} float32, {options.threads} threads; one copy: {copy:.2f} ms")
    print(f"{'operation':<44} {'ms':>8} {'copies':>8}")
    for name, function in (filter_operations(x) | loss_operations(x, y) | sampling_operations(x)).items():
        taken = best(function, options.repeats)
        print(f"{name:<44} {taken:8.1f} {taken / copy:8.1f}")


if __name__ == "__main__":
    main()
