"""The figures on real images: the command as a user types it, and ANTs on the same pairs where that is the yardstick.

python scripts/bench/figures.py [DATA] [--only brain,head,head2d,histology] [--threads 2]

DATA is the folder of real images, ../shared/data without. Every row says what was asked for, what came, and what the
reference reaches. Seconds of registration leave out reading and writing; those of the whole command are given too.
The comparisons with ANTs need ``pip install antspyx``; without it their rows say so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from checkout import ROOT
from reference import Reference, ants_linear, distances, foreground

import registration
from registration.evaluation.metrics import correlation
from registration.transforms.base import parts_of
from registration.transforms.tps import ThinPlateSpline

# VmHWM is that of the command itself; what a parent reads of its children may include the parent.
_CHILD = """
import sys
from registration.cli.main import run
status = run(sys.argv[1:])
print("peak", next((line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), "nan"))
sys.exit(status)
"""


@dataclass(frozen=True)
class Row:
    """One figure; ``passed`` is None where no target is set."""

    figure: str
    target: str
    ours: str
    reference: str = ""
    passed: bool | None = None


@dataclass(frozen=True)
class Run:
    """What one command did: metrics.json, the transform (fixed RAS mm -> moving RAS mm), seconds, peak memory in MB."""

    metrics: dict[str, Any]
    transform: registration.Transform
    seconds: float
    command_seconds: float
    megabytes: float


def command(threads: int, *words: str | Path) -> Run:
    """Run ``registration register`` in a process of its own."""
    many = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": many, "MKL_NUM_THREADS": many, "NUMBA_NUM_THREADS": many}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        arguments = [sys.executable, "-c", _CHILD, "register", "-q", "-o", output, *words]
        began = time.perf_counter()
        done = subprocess.run(list(map(str, arguments)), env=environment, capture_output=True, text=True, check=False)
        taken = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"registration register {' '.join(map(str, words))}\n{done.stderr}")
        metrics = json.loads((output / "metrics.json").read_text())
        transform = registration.read_transform(output / "transform.h5")[0]
    peak = float(done.stdout.split("peak")[-1]) / 1024
    return Run(metrics, transform, metrics["seconds"]["register"], taken, peak)


def below(figure: str, limit: float, value: float, unit: str = "", reference: str = "") -> Row:
    """A row that passes where ``value`` is below ``limit``."""
    return Row(figure, f"< {limit:g}{unit}", f"{value:.4g}{unit}", reference, value < limit)


# --- the folders ------------------------------------------------------------------------------------------------------
def brain(data: Path, threads: int) -> list[Row]:
    """Two brains: the affine, and the thin-plate spline judged by 15 structures."""
    words: list[str | Path] = []
    for role in ("fixed", "moving"):
        words += [f"--{role}", data / f"brain/{role}.nii.gz", f"--{role}-labels", data / f"brain/{role}_labels.nii.gz"]
    affine = command(threads, *words, "--transform", "affine")
    spline = command(threads, *words, "--transform", "tps")
    points = sum(len(p.points) for p in parts_of(spline.transform) if isinstance(p, ThinPlateSpline))
    before, after = (spline.metrics["dice"][when] for when in ("before", "after"))
    aligned = affine.metrics["dice"]["after"]["mean"]
    return [
        below("brain affine: registration", 10, affine.seconds, " s"),
        Row("brain affine: whole command", "", f"{affine.command_seconds:.1f} s"),
        Row("brain affine: mean Dice", "", f"{before['mean']:.3f} -> {aligned:.3f}"),
        Row("brain TPS: control points", ">= 1000", str(points), "", points >= 1000),
        Row(
            f"brain TPS: mean Dice over {len(after['per_label'])} labels", ">= 0.700",
            f"{before['mean']:.3f} -> {after['mean']:.3f}", "elastix 0.701", after["mean"] >= 0.7,
        ),
        below("brain TPS: folding", 0.05, spline.metrics["folding_percent"], " %"),
        below("brain TPS: registration", 60, spline.seconds, " s"),
        Row("brain TPS: whole command", "", f"{spline.command_seconds:.1f} s"),
        below("brain TPS: peak memory of the command", 2500, spline.megabytes, " MB"),
    ]  # fmt: skip


def head(data: Path, threads: int) -> list[Row]:
    """Whole head onto a brain inside its mask, and another contrast with thick slices."""
    return [*_head_affine(data / "head", threads), *_head_rigid(data / "head", threads)]


def _head_affine(folder: Path, threads: int) -> list[Row]:
    names = folder / "ch2.nii.gz", folder / "chris_t1.nii.gz"
    fixed, moving = (registration.read_image(name) for name in names)
    inside = fixed.data > 0
    with tempfile.TemporaryDirectory() as scratch:
        mask = Path(scratch) / "mask.nii.gz"
        registration.write_image(mask, fixed.with_data(inside.float()), dtype="uint8")
        run = command(threads, "-f", names[0], "-m", names[1], "--fixed-mask", mask, "-t", "affine")
        theirs = ants_linear("Affine", *names, mask=mask)

    def score(transform: registration.Transform) -> float:
        return correlation(fixed, registration.warp(moving, transform, fixed.space)[0], inside) or 0.0

    ours = score(run.transform)
    reference = None if theirs is None else score(theirs.transform)
    return [
        Row(
            "head T1 onto ch2, affine: NCC inside the mask", ">= ANTs - 0.01", f"{ours:.4f}",
            "ANTs is not installed" if reference is None else f"ANTs {reference:.4f}",
            None if reference is None else ours >= reference - 0.01,
        ),
        Row("head T1 onto ch2, affine: registration", "", f"{run.seconds:.2f} s", _seconds(theirs)),
    ]  # fmt: skip


def _head_rigid(folder: Path, threads: int) -> list[Row]:
    names = folder / "chris_t1.nii.gz", folder / "chris_PD.nii.gz"
    fixed = registration.read_image(names[0])
    run = command(threads, "-f", names[0], "-m", names[1], "-t", "rigid", "--loss", "mi")
    theirs = ants_linear("Rigid", *names)
    told = "head PD onto T1, rigid by MI: "
    rows = [Row(told + "registration", "", f"{run.seconds:.2f} s", _seconds(theirs))]
    if theirs is None:
        return [Row(told + "distance from ANTs", "< 1 mm", "", "ANTs is not installed"), *rows]
    apart = distances(run.transform, theirs.transform, fixed.space, foreground(fixed))
    moved = distances(run.transform, registration.Linear.identity(3), fixed.space, foreground(fixed))
    return [
        below(told + "mean distance from ANTs", 1, float(apart.mean()), " mm"),
        below(told + "largest distance from ANTs", 1, float(apart.max()), " mm"),
        Row(told + "mean distance from the headers", "", f"{float(moved.mean()):.1f} mm"),
        *rows,
    ]


def head2d(data: Path, threads: int) -> list[Row]:
    """Two slices, without and with their masks."""
    words: list[str | Path] = ["-t", "affine"]
    masks: list[str | Path] = []
    for role in ("fixed", "moving"):
        words += [f"--{role}", data / f"head2d/CT_2D_head_{role}.mha"]
        masks += [f"--{role}-mask", data / f"head2d/CT_2D_head_{role}_mask.mha"]
    rows = []
    for name, more in (("", []), (" with masks", masks)):
        run = command(threads, *words, *more)
        ncc = run.metrics["similarity"]
        rows += [
            below(f"head2d affine{name}: registration", 5, run.seconds, " s"),
            Row(f"head2d affine{name}: NCC", "", f"{ncc['before']:.3f} -> {ncc['after']:.3f}"),
        ]
    return rows


def histology(data: Path, threads: int) -> list[Row]:
    """Two stains of one kidney, judged by 69 landmarks; distances as a share of the fixed image's diagonal."""
    words: list[str | Path] = ["-t", "affine", "--points-space", "voxel"]
    for role, stain in (("fixed", "HE"), ("moving", "PanCytokeratin")):
        file = data / f"histology/Rat-Kidney_{stain}"
        words += [f"--{role}", f"{file}.jpg", f"--{role}-points", f"{file}.csv"]
    run = command(threads, *words)
    fixed = registration.read_image(data / "histology/Rat-Kidney_HE.jpg")
    share = 100 / float(fixed.space.extent.norm())
    before, after = (share * run.metrics["tre_mm"][when]["median"] for when in ("before", "after"))
    row = below("histology affine: median TRE, share of the diagonal", 0.6, after, " %", f"at the start {before:.2f} %")
    return [row, Row("histology affine: registration", "", f"{run.seconds:.2f} s")]


def prostate(data: Path, threads: int) -> list[Row]:
    """MR onto ultrasound, eight pairs without any options, judged by the gland."""
    found = []
    for file in sorted((data / "prostate/us_images").glob("*.nii.gz")):
        words: list[str | Path] = ["--label-channel", "0"]
        for role, kind in (("fixed", "us"), ("moving", "mr")):
            words += [f"--{role}", data / f"prostate/{kind}_images" / file.name]
            words += [f"--{role}-labels", data / f"prostate/{kind}_labels" / file.name]
        dice = command(threads, *words).metrics["dice"]
        found.append((dice["before"]["mean"], dice["after"]["mean"]))
    rising = sum(after > before for before, after in found)
    before, after = (sum(values) / len(values) for values in zip(*found, strict=True))
    return [
        Row(
            "prostate, MR onto ultrasound: pairs whose Dice rises", "all",
            f"{rising} of {len(found)}", "", rising == len(found),
        ),
        Row("prostate: mean Dice of the gland", "", f"{before:.3f} -> {after:.3f}"),
    ]  # fmt: skip


FOLDERS: dict[str, Callable[[Path, int], list[Row]]] = {
    "brain": brain, "head": head, "head2d": head2d, "histology": histology,
    "prostate": prostate,
}  # fmt: skip


def _seconds(reference: Reference | None) -> str:
    return "" if reference is None else f"ANTs {reference.seconds:.1f} s"


# --- the table --------------------------------------------------------------------------------------------------------
def show(rows: list[Row]) -> None:
    verdicts = {True: "pass", False: "FAIL", None: ""}
    cells = [("figure", "target", "ours", "reference", "")]
    cells += [(r.figure, r.target, r.ours, r.reference, verdicts[r.passed]) for r in rows]
    widths = [max(len(cell[i]) for cell in cells) for i in range(5)]
    for cell in cells:
        print("  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", default=",".join(FOLDERS), help="folders, separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := sorted(set(chosen) - set(FOLDERS)):
        parser.error(f"--only {unknown[0]}: known are {', '.join(FOLDERS)}")
    if not options.data.is_dir():
        raise SystemExit(f"no real images at {options.data}: nothing to measure; give their folder as the argument")
    # ITK reads this once, when ANTs is first used.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    rows = [row for name in chosen for row in FOLDERS[name](options.data, options.threads)]
    print(f"{options.threads} threads, processor load at the end {os.getloadavg()[0]:.1f}")
    show(rows)
    sys.exit(any(row.passed is False for row in rows))


if __name__ == "__main__":
    main()
