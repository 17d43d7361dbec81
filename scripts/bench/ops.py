"""Time the operations that registration spends its life in, against the floor that memory sets.

python scripts/bench/ops.py [--shape 160 192 224] [--threads 2] [--repeats 5] [--only WORD]

Prints, per operation, the best wall time in ms; that time in copies of one image of the shape; the floor, which is the
copies that moving its inputs and outputs once would take; and how many times the floor the operation needs. Operations
with compiled loops are followed by the same in torch, which runs where numba is missing. --only keeps the operations
whose names hold a word.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from unittest import mock

import checkout  # noqa: F401
import torch

from registration import compiled, filters
from registration.compiled import Region
from registration.image import Image
from registration.losses import (
    LocalNormalisedCrossCorrelation,
    MutualInformation,
    NormalisedCrossCorrelation,
    SelfSimilarityContext,
    WideLocalCorrelation,
)
from registration.pairwise import voxelfields
from registration.sampling import sample
from registration.space import Space


@dataclass(frozen=True)
class Operation:
    """Something to time.

    Parameters
    ----------
    volumes
        How many images of the shape it must read and write at least; a displacement field is D of them.
    also_torch
        Whether it has a compiled loop, so that its twin in torch is timed as well.
    """

    name: str
    run: Callable[[], object]
    volumes: float
    also_torch: bool = False


def best(function: Callable[[], object], repeats: int) -> float:
    """Best wall time in ms, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def copy_ms(x: torch.Tensor, repeats: int) -> float:
    """The time that copying ``x`` takes at the rate of the memory: of a large block, which no cache holds."""
    block = torch.zeros(max(x.numel(), 1 << 24))
    target = torch.empty_like(block)
    return best(lambda: target.copy_(block), repeats) * x.numel() / block.numel()


def there_and_back(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Callable[[], object]:
    """Forward and backward to ``x``."""
    x = x.clone().requires_grad_()
    return lambda: torch.autograd.grad(function(x).sum(), x)


def filter_operations(x: torch.Tensor) -> list[Operation]:
    d = x.ndim - 2
    half = [n // 2 for n in x.shape[2:]]
    table = [Operation(f"box_sum, radius {r}", partial(filters.box_sum, x, [r] * d), 2) for r in (2, 4, 8)]
    for sigma in (1.0, 4.0):
        table.append(Operation(f"gaussian, sigma {sigma:g}", partial(filters.gaussian, x, [sigma] * d), 2))
    table.append(Operation("resample to half", lambda: filters.resample(x, half), 1 + 0.5**d))
    table.append(Operation("gradient_magnitude", lambda: filters.gradient_magnitude(x, [1.0] * d), 2))
    return table


def loss_operations(x: torch.Tensor, y: torch.Tensor) -> list[Operation]:
    million = [round((1e6) ** (1 / (x.ndim - 2)))] * (x.ndim - 2)
    small_x, small_y = filters.resample(x, million), filters.resample(y, million)
    share = small_x.numel() / x.numel()
    mask = torch.rand_like(x) > 0.05
    lncc, mi, ncc = LocalNormalisedCrossCorrelation(2), MutualInformation(), NormalisedCrossCorrelation()
    bound, mind = lncc.bind(y), SelfSimilarityContext()
    return [
        Operation("NCC, forward + backward", there_and_back(lambda t: ncc(t, y), x), 3),
        Operation("LNCC 5^D, forward", lambda: lncc(x, y), 2, True),
        Operation("LNCC 5^D, forward + backward", there_and_back(lambda t: lncc(t, y), x), 3, True),
        Operation("LNCC 5^D bound, forward + backward", there_and_back(bound, x), 3, True),
        Operation("LNCC 5^D masked, forward + backward", there_and_back(lambda t: lncc(t, y, mask), x), 3.25, True),
        Operation("MIND-SSC, forward + backward", there_and_back(lambda t: mind(t, y), x), 3, True),
        Operation("MI 32 bins, forward + backward", there_and_back(lambda t: mi(t, y), x), 3),
        Operation(
            "MI 32 bins, 1e6 voxels, forward + backward", there_and_back(lambda t: mi(t, small_y), small_x), 3 * share
        ),
    ]


def sampling_operations(x: torch.Tensor) -> list[Operation]:
    space = Space.regular(x.shape[2:])
    image = Image(x, space)
    points = space.points(x)
    unit = space.to_unit().to(x)
    d = space.ndim
    grid = ((points + torch.randn(d)) @ unit[:d, :d].T + unit[:d, d])[None]
    back = there_and_back(lambda g: sample(image, g)[0], grid)
    return [
        Operation("linear sampling, forward", lambda: sample(image, grid), d + 2, True),
        Operation("linear sampling, forward + backward to grid", back, 2 * d + 3, True),
    ]


def field_operations(x: torch.Tensor, y: torch.Tensor) -> list[Operation]:
    """What the diffeomorphic stage does in every iteration; a 2-D image is a volume of one voxel on its first axis."""
    moving, fixed = (image[0].reshape(1, *[1] * (5 - image.ndim), *image.shape[2:]) for image in (x, y))
    like = moving.expand(3, *moving.shape[1:])
    still = torch.eye(3, 4, dtype=torch.float64)
    field = voxelfields.smooth(10 * torch.randn_like(like), [4.0] * 3)
    step, out, image = 0.3 * field, torch.empty_like(field), torch.empty_like(moving)
    adam = voxelfields.Adam(field)
    work = field.clone()
    whole = Region.whole(tuple(moving.shape[1:]))  # type: ignore[arg-type]
    push = torch.zeros_like(out)
    pushes = [
        Operation(
            f"push of {name}, both images", partial(loss.push, moving[None], fixed[None], whole, [1.0] * 3, push), 8
        )
        for name, loss in (
            ("local correlation 5^D", LocalNormalisedCrossCorrelation(2, 1e-3)),
            ("wide local correlation", WideLocalCorrelation()),
            ("self-similarity context", SelfSimilarityContext()),
        )
    ]
    return [
        *pushes,
        Operation("pull an image through a field", lambda: voxelfields.pull(moving, still, field, image), 5, True),
        Operation("compose two fields", lambda: voxelfields.compose(field, step, out), 9, True),
        Operation("gaussian of a field, sigma 1", lambda: voxelfields.smooth(work, [1.0] * 3), 6, True),
        Operation("Adam of a field", lambda: adam.direction(work, 1e-3), 14, True),
        Operation("lengths of a field", lambda: voxelfields.lengths(field), 3, True),
        Operation("inverse of a field", lambda: voxelfields.invert(field), 6, True),
        Operation("determinants of a field", lambda: voxelfields.determinants(field), 4, True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[160, 192, 224])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="a word in the names of the operations")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = options.shape
    x = filters.gaussian(torch.rand(1, 1, *shape), [1.0] * len(shape))
    y = filters.gaussian(torch.rand(1, 1, *shape), [1.0] * len(shape))
    copy = copy_ms(x, 4 * options.repeats)
    rate = 2e-6 * x.numel() * x.element_size() / copy
    print(f"{' x '.join(map(str, shape))} float32, {options.threads} threads; one copy: {copy:.2f} ms, {rate:.1f} GB/s")
    print(f"{'operation':<44} {'ms':>8} {'copies':>8} {'floor':>8} {'x floor':>8}")
    table = [*filter_operations(x), *loss_operations(x, y), *sampling_operations(x), *field_operations(x, y)]
    for operation in table:
        if options.only in operation.name:
            show(operation.name, best(operation.run, options.repeats), copy, operation.volumes)
            if operation.also_torch and compiled.available():
                with mock.patch.object(compiled, "available", lambda: False):
                    show("  the same in torch", best(operation.run, options.repeats), copy, operation.volumes)


def show(name: str, taken: float, copy: float, volumes: float) -> None:
    """One row; a copy reads and writes, so it moves two volumes."""
    copies, floor = taken / copy, volumes / 2
    print(f"{name:<44} {taken:8.1f} {copies:8.1f} {floor:8.2f} {copies / floor:8.1f}", flush=True)


if __name__ == "__main__":
    main()
