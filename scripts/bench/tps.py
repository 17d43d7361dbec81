"""A thin-plate spline at every voxel: seconds, memory above the output, and the error against the float64 formula.

python scripts/bench/tps.py [--points 512] [--shape 160 192 224] [--move 3.0] [--threads 2] [--repeats 5]
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import checkout  # noqa: F401
import torch
from torch import Tensor

from registration.space import Space
from registration.transforms.dense import dense
from registration.transforms.polyharmonic import LatticeBasis
from registration.transforms.tps import ThinPlateSpline
from registration.transforms.upsample import Upsampler


class PeakMemory:
    """Largest resident memory above that at the start, MB, sampled every 2 ms."""

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = _resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, _resident())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def megabytes(self) -> float:
        return self.peak - self.start


def _resident() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def errors(spline: ThinPlateSpline, space: Space, points: Tensor) -> Tensor:
    """(N,) errors in voxels at 100 000 voxels: half at random, half within 8 voxels of a control point."""
    d, limit = space.ndim, torch.tensor(space.shape)
    anywhere = (torch.rand(50_000, d) * limit).long()
    inverse = torch.linalg.inv(space.affine)
    place = spline.points @ inverse[:d, :d].T + inverse[:d, d]
    near = place[torch.randint(len(place), (50_000,))].round().long() + torch.randint(-8, 9, (50_000, d))
    index = torch.cat([anywhere, torch.minimum(near.clamp(min=0), limit - 1)])
    exact = spline(index.double() @ space.affine[:d, :d].T + space.affine[:d, d])
    off = (points[tuple(index.T)].double() - exact) @ inverse[:d, :d].T
    return off.norm(dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[160, 192, 224])
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--move", type=float, default=3.0, help="standard deviation of the displacements, mm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    space = Space.regular(options.shape)
    points = (torch.rand(options.points, space.ndim, dtype=torch.float64) - 0.5) * space.extent
    spline = ThinPlateSpline(points, points + options.move * torch.randn_like(points))
    dense(spline, space)  # imports and first-use costs
    seconds, processor, memory = [], [], []
    result, stated = points, 0.0
    for _ in range(options.repeats):
        del result
        with PeakMemory() as watch:
            began, used = time.perf_counter(), time.process_time()
            result, stated = dense(spline, space)
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - used)
        memory.append(watch.megabytes - result.numel() * result.element_size() / 2**20)
    found = errors(spline, space, result)
    print(f"{space.describe()}, {options.points} random control points, moves of {options.move} mm (sd)")
    print(f"  seconds            best {min(seconds):.2f}, median {sorted(seconds)[len(seconds) // 2]:.2f}")
    print(f"  processor seconds  best {min(processor):.2f} over {options.threads} threads")
    print(f"  memory above output {max(memory):.0f} MB")
    print(f"  error in voxels    largest {float(found.max()):.5f}, mean {float(found.mean()):.6f}")
    print(f"  error stated       {stated:.5f} mm")
    _steps(space)


def _steps(space: Space) -> None:
    """What one step of an optimiser pays, with a control point every 6 voxels."""
    affine = space.affine.clone()
    affine[:-1, :-1] *= 6
    lattice = Space(tuple(-(-n // 6) + 1 for n in space.shape), affine)
    began = time.perf_counter()
    basis = LatticeBasis(lattice)
    upsampler = Upsampler(basis.space, space)
    print(f"  lattice {lattice.shape}, nodes {basis.space.shape}: set up in {time.perf_counter() - began:.2f} s")
    moves = torch.randn(space.ndim, *lattice.shape)
    coarse_moves = basis(moves).movedim(0, -1)[None]
    for name, call in (
        ("lattice -> nodes", lambda: basis(moves)),
        ("nodes -> voxels", lambda: upsampler.points(coarse_moves)),
    ):
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - began)
        print(f"    {name:22} {1000 * best:.0f} ms")


if __name__ == "__main__":
    main()
