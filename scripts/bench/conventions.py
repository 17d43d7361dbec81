"""What ITK makes of our files, and what starting costs.

python scripts/bench/conventions.py

White noise is warped by us and by SimpleITK.Resample with the transform.h5 that we wrote, an affine map after a
thin-plate spline, on anisotropic grids of several orientations; then the seconds of `registration --help` and the heavy
packages that `import registration` and its core bring in.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import checkout  # noqa: F401
import SimpleITK as sitk
import torch

from registration import Image, Linear, Space, Transform, warp, write_image, write_transform
from registration.transforms.tps import ThinPlateSpline

SHAPES = {2: (41, 36), 3: (31, 36, 25)}
SPACING = (1.1, 1.7, 2.9)
AXES = {
    "RAS": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "LAS": ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "LIA": ((-1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "oblique": ((0.8, -0.6, 0), (0.48, 0.64, -0.6), (0.36, 0.48, 0.8)),
}
FLAT = {
    "RAS": ((1, 0), (0, 1)),
    "LAS": ((-1, 0), (0, 1)),
    "LIA": ((0, 1), (-1, 0)),
    "oblique": ((0.8, -0.6), (0.6, 0.8)),
}


def grid(axes: tuple[tuple[float, ...], ...]) -> Space:
    """A centred anisotropic grid with these axes."""
    d = len(axes)
    regular = Space.regular(SHAPES[d], SPACING[:d])
    turn = torch.eye(d + 1, dtype=torch.float64)
    turn[:d, :d] = torch.tensor(axes, dtype=torch.float64)
    return Space(regular.shape, turn @ regular.affine)


def bend(space: Space) -> Transform:
    """An affine map after a spline of a dozen points that move by about 2 mm."""
    d = space.ndim
    points = torch.cat([space.corners(), 0.4 * space.corners()])
    spline = ThinPlateSpline(points, points + 2 * torch.randn_like(points))
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d] += 0.05 * torch.randn(d, d + 1, dtype=torch.float64)
    return Linear(matrix) @ spline


def difference(fixed: Space, moving: Space, folder: Path) -> float:
    """The largest difference of the two warped images where both are inside, as a share of the intensity range."""
    noise = Image.of(torch.rand(moving.shape), moving)
    transform = bend(fixed)
    write_image(folder / "moving.mha", noise)
    write_image(folder / "fixed.mha", Image.of(torch.zeros(fixed.shape), fixed))
    write_transform(folder / "transform.h5", transform, fixed, moving)
    onto, image = (sitk.ReadImage(str(folder / name), sitk.sitkFloat64) for name in ("fixed.mha", "moving.mha"))
    there = sitk.ReadTransform(str(folder / "transform.h5"))
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, onto, there, sitk.sitkLinear, -1.0))
    ours, inside = warp(noise, transform, fixed)
    gap = (torch.from_numpy(theirs).permute(*reversed(range(fixed.ndim))) - ours.data[0, 0]).abs()
    return float(gap[inside[0, 0] & (torch.from_numpy(theirs).permute(*reversed(range(fixed.ndim))) >= 0)].max())


def main() -> int:
    torch.manual_seed(0)
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        for axes in (FLAT, AXES):
            for fixed, moving in zip(axes, [*list(axes)[1:], "RAS"], strict=True):
                gap = difference(grid(axes[fixed]), grid(axes[moving]), Path(name))
                worst = max(worst, gap)
                print(f"{len(axes[fixed])}-D, {moving:>7} onto {fixed:<7}  largest difference {gap:.1e} of the range")
    print(f"worst {worst:.1e}, asked for below 1e-3: {'pass' if worst < 1e-3 else 'FAIL'}")
    command = [sys.executable, "-c", "from registration.cli.main import main; main(['--help'])"]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    print(f"registration --help: {min(seconds):.2f} s, asked for below 0.5: {'pass' if min(seconds) < 0.5 else 'FAIL'}")
    code = (
        "import sys, registration, registration.space, registration.sampling, registration.transforms.tps\n"
        "print(*[m for m in ('monai', 'matplotlib', 'pandas') if m in sys.modules] or ['none'])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    print(f"of monai, matplotlib, pandas the library imports: {found}")
    return int(worst >= 1e-3 or min(seconds) >= 0.5 or found != "none")


if __name__ == "__main__":
    sys.exit(main())
