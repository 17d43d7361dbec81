"""Seconds of one training step, beside VoxelMorph's own package on the same images, one after the other.

python scripts/bench/voxelmorph_step.py [--shape 48 64 48] [--widths 16 32 48 64] [--steps 10] [--threads 2] [--profile]

A step is everything that training does with one pair: network, integration of the velocity in five squarings, warp,
correlation in windows of seven voxels, smoothness, the way back and Adam. Ours is that of ``experiment=hippocampus``
with ``localisation=unet``, asked both ways (with edges as a second channel) and one way only, and with the pyramid
that the experiment trains. VoxelMorph's is ``VxmPairwise`` of the package from PyPI, in torch, with the correlation
and the smoothness that it brings. The U-Nets have the same widths at their levels; VoxelMorph's first level and its
answer are at full resolution, ours at half.

Steps of all are taken in turn, so that other work on the machine disturbs all alike; a ratio is the median of the
ratios within such turns. --profile prints where the time of our step goes.

``pip install voxelmorph`` (with neurite, einops, six, scikit-image, pystrum) brings the rival.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import checkout  # noqa: F401
import torch
from torch import Tensor

from registration.cli.settings import build, compose
from registration.filters import gaussian
from registration.image import Image
from registration.space import Space
from registration.training import Objective
from registration.training.batch import PairBatch
from registration.training.blueprint import build as from_blueprint
from registration.training.blueprint import completed
from registration.training.objective import Box, Learner
from registration.transforms.linear import Linear

Step = Callable[[], None]


def pair(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Two smooth images, (1, 1, *S)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 1, *shape, generator=generator)
    smooth = gaussian(noise, [2.0] * len(shape))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return smooth[:1], smooth[1:]


def unet(widths: list[int], both: bool) -> list[str]:
    """The settings of a U-Net, asked both ways or one way."""
    model = "localisation.model.localiser"
    return ["localisation=unet", f"{model}.network.widths={widths}", f"{model}.antisymmetric={both}"]


def ours(images: tuple[Tensor, Tensor], words: list[str]) -> tuple[Step, int]:
    """A step of ``registration train``, and the weights of its network."""
    from omegaconf import OmegaConf

    settings = compose("train", ["experiment=hippocampus", *words])
    space = Space.regular(tuple(images[0].shape[2:]), 1.0)
    plain = OmegaConf.to_container(settings.localisation.model, resolve=True)
    aligner = from_blueprint(completed(plain, space, 1))
    objective: Objective = build(settings.objective)
    learner = Learner(aligner, objective)
    optimiser = build(settings.optimiser)(learner.parameters())
    fixed, moving = (Image(data, space) for data in images)
    batch = PairBatch(fixed, moving, Linear.identity(space.ndim), ("pair",))

    def step() -> None:
        loss = learner(Box(batch))["loss"].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step, sum(p.numel() for p in aligner.parameters())


def voxelmorph(images: tuple[Tensor, Tensor], widths: list[int]) -> tuple[Step, int]:
    """A step of the package ``voxelmorph``, and the weights of its network."""
    import neurite
    import voxelmorph as vxm

    fixed, moving = images
    network = vxm.nn.models.VxmPairwise(fixed.ndim - 2, 1, 1, nb_features=widths, integration_steps=5)
    correlation, smoothness = neurite.nn.modules.NCC(window_size=7), neurite.nn.modules.SpatialGradient("l2")
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step() -> None:
        field, warped = network(moving, fixed, return_warped_source=True)
        loss = 1 - correlation(fixed, warped).mean() + 0.2 * smoothness(field)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step, sum(p.numel() for p in network.parameters())


def measured(steps: dict[str, Step], turns: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of every step of every turn; two turns before them warm up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(turns + 2):
        for name, step in steps.items():
            began = time.perf_counter(), time.process_time()
            step()
            if turn >= 2:
                seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return seconds


def table(seconds: dict[str, list[tuple[float, float]]], weights: dict[str, int]) -> None:
    """Medians, and the medians of the ratios to VoxelMorph within the turns."""
    print(f"{'':<16}{'weights':>10}{'s per step':>12}{'ratio':>8}{'processor s':>13}{'ratio':>8}")
    yardstick = seconds.get("voxelmorph", seconds["ours"])
    for name, times in seconds.items():
        cells = [f"{name:<16}{weights[name]:>10,}"]
        for kind, width in ((0, 12), (1, 13)):
            ratio = statistics.median(a[kind] / b[kind] for a, b in zip(times, yardstick, strict=True))
            cells.append(f"{statistics.median(t[kind] for t in times):>{width}.3f}{ratio:>8.2f}")
        print("".join(cells))


def profile(step: Step, rows: int = 14) -> None:
    """Where the processor time of a step goes, by operation."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        step()
        step()
    kinds = found.key_averages()
    total = sum(kind.self_cpu_time_total for kind in kinds)
    print("\nshare of our step by operation")
    for kind in sorted(kinds, key=lambda k: -k.self_cpu_time_total)[:rows]:
        print(f"{100 * kind.self_cpu_time_total / total:5.1f} %  {kind.key} ({kind.count // 2} times)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[48, 64, 48], help="voxels of the images")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 48, 64], help="channels of the levels")
    parser.add_argument("--steps", type=int, default=10, help="steps of each that are timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="where the time of our step goes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    images = pair(tuple(options.shape))
    made = {
        "ours": ours(images, unet(options.widths, both=True)),
        "ours, one way": ours(images, unet(options.widths, both=False)),
        "ours, pyramid": ours(images, []),
    }
    try:
        made["voxelmorph"] = voxelmorph(images, options.widths)
    except ImportError as error:
        print(f"voxelmorph is not installed ({error}): ours alone")
    seconds = measured({name: step for name, (step, _) in made.items()}, options.steps)
    print(f"images {options.shape}, widths {options.widths}, {options.threads} threads, {options.steps} turns")
    table(seconds, {name: weights for name, (_, weights) in made.items()})
    if options.profile:
        profile(made["ours"][0])


if __name__ == "__main__":
    main()
