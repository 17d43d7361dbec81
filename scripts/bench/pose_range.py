"""From how far a network of ``experiment=affine`` finds a brain again, beside the search over rotations.

python scripts/bench/pose_range.py CHECKPOINT [DATA] [--angles 30,60,...] [--seeds 3] [--threads 1] [--pair brain|same]
    [--clock wall|cpu]

The moving image is turned about a random axis and shifted by up to 30 mm, and resampled onto an upright grid, so
that nothing in its header tells the turn. Success is a mean error below 10 mm over the bright part of the fixed image,
against the known perturbation after the unperturbed alignment by headers. ``alone`` is what the network says,
``network`` what ``initial=pose`` makes of it, ``moments`` and ``search`` are the starts without a network; ``+`` are
the rigid and affine stages of the default pipeline after them. Seconds are medians, preprocessing included; reading,
and the scaling of intensities that all starts share, are left out. All are taken in turn, so that other work disturbs
all alike; on a busy machine ``--clock cpu``, with one thread, tells more.

``--pair brain`` is the second brain of DATA onto the first one; ``same`` the first onto itself, which may be an image
that the network was trained on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from capture_range import coarse, perturbed
from checkout import ROOT
from reference import distances, foreground

import registration
from registration.pairwise import Initialiser, Moments, Pair, Pipeline, Search
from registration.pairwise.api import default_stages
from registration.space import Space
from registration.training import NetworkPose

_PAIRS = {"brain": ("brain/fixed", "brain/moving"), "same": ("brain/fixed", "brain/fixed")}
_MM, _LIMIT, _SPACING = 30.0, 10.0, 2.0
_ALONE = ("alone", "moments")  # starts that no stages follow here
_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Given(Initialiser):
    """A start that is known already."""

    def __init__(self, transform: registration.Transform) -> None:
        self.transform = transform

    def __call__(self, pair: Pair) -> registration.Transform:
        return self.transform


def upright(image: registration.Image) -> registration.Image:
    """The image on a grid along the world axes that holds it in any turn."""
    edge = int(np.ceil(2 * image.space.radius / _SPACING))
    centre = image.space.centre
    grid = Space.regular((edge,) * image.ndim, _SPACING)
    affine = grid.affine.clone()
    affine[:-1, -1] += centre - grid.centre
    data, _ = registration.warp(image, registration.Linear.identity(image.ndim), Space(grid.shape, affine))
    return replace(data, name=image.name)


def trial(
    starts: dict[str, Initialiser], images: tuple[registration.Image, registration.Image], truth: registration.Linear,
    clock: Callable[[], float],
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Mean error in mm and seconds of every start, alone and with the linear stages after it."""
    fixed, moving = images
    told, inside = {}, foreground(fixed)
    for name, start in starts.items():
        pair = Pair(fixed, moving)  # anew, as it remembers coarser images
        began = clock()
        found = start(pair)
        taken = clock() - began
        told[name] = (float(distances(found, truth, fixed.space, inside).mean()), taken)
        if name in _ALONE:
            continue
        began = clock()
        found = Pipeline(Given(found), default_stages()[:2])(fixed, moving).transform
        more = clock() - began
        told[f"{name} +"] = (float(distances(found, truth, fixed.space, inside).mean()), taken + more)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--angles", default="30,60,90,120,150,180", help="degrees, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=sorted(_CLOCKS), default="wall")
    parser.add_argument("--pair", choices=sorted(_PAIRS), default="brain")
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"no real images at {options.data}: give their folder")
    torch.set_num_threads(options.threads)
    fixed, moving = (coarse(options.data / f"{name}.nii.gz", _SPACING) for name in _PAIRS[options.pair])
    starts: dict[str, Initialiser] = {
        "alone": NetworkPose(options.checkpoint, rounds=0), "network": NetworkPose(options.checkpoint),
        "moments": Moments(), "search": Search(),
    }  # fmt: skip
    for start in starts.values():  # nobody's loading and compiling is timed
        start(Pair(fixed, moving))
    every: dict[str, list[tuple[float, float]]] = {}
    for angle in (float(word) for word in options.angles.split(",")):
        here: dict[str, list[tuple[float, float]]] = {}
        for seed in range(options.seeds):
            shift = _MM * float(np.random.default_rng([7, seed, round(angle)]).random())
            target, pose = perturbed(moving, angle, shift, seed)
            told_here = trial(starts, (fixed, upright(target)), registration.Linear(pose), _CLOCKS[options.clock])
            for name, told in told_here.items():
                here.setdefault(name, []).append(told)
                every.setdefault(name, []).append(told)
        if len(every["alone"]) == options.seeds:
            print(f"{options.pair}, {options.seeds} trials each: share below {_LIMIT:g} mm, median error in mm")
            print("degrees   " + "".join(f"{name:>15}" for name in here))
        print(f"{angle:<10g}" + "".join(f"{_cell(told):>15}" for told in here.values()), flush=True)
    print("all       " + "".join(f"{_cell(told):>15}" for told in every.values()))
    print("seconds   " + "".join(f"{statistics.median(t for _, t in told):>15.3f}" for told in every.values()))


def _cell(told: list[tuple[float, float]]) -> str:
    share = sum(error < _LIMIT for error, _ in told) / len(told)
    return f"{100 * share:.0f} % {statistics.median(error for error, _ in told):.1f}"


if __name__ == "__main__":
    main()
