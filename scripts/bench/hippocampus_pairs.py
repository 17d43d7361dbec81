"""Pairs of hippocampus crops as the Learn2Reg 2020 protocol prepares them, and their table for ``registration batch``.

python scripts/bench/hippocampus_pairs.py FOLDER OUTPUT [--count 60]

FOLDER is Task04 of the Medical Segmentation Decathlon, or any other with images/ and labels/ whose files have the same
names. Every crop is centred in 64 x 64 x 64 voxels of 1 mm, images with their border repeated, labels with zeros; the
headers then put all crops onto each other, as the protocol starts. Pair k brings crop k + 1 onto crop k, in the order
of their names. OUTPUT receives images/, labels/ and pairs.csv, whose paths are relative to it:

registration batch OUTPUT/pairs.csv --output RUN --preset fast
registration evaluate OUTPUT/pairs.csv --results RUN --output EVAL
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import checkout  # noqa: F401  this tree, not an installed package
import torch

from registration.batch.table import PairRow, read_pairs
from registration.image import Image
from registration.io.images import read_image, read_labels, write_image
from registration.preprocessing import CropOrPad, Reorient, carry_labels
from registration.space import Space

SIDE = 64


def crops(folder: Path) -> list[str]:
    """Names of the files that have both an image and a label map, in order.

    Raises
    ------
    SystemExit
        If there are none.
    """
    files = sorted((folder / "images").glob("[!.]*.nii*"))  # without the hidden twins that macOS packs into archives
    names = [file.name for file in files if (folder / "labels" / file.name).is_file()]
    if not names:
        raise SystemExit(f"{folder}: holds no images/*.nii.gz with a file of that name in labels/")
    return names


def centred(folder: Path, name: str, output: Path) -> None:
    """Write a crop and its labels in the middle of the common grid, whose world begins at its first voxel."""
    image = CropOrPad(SIDE)(Reorient()(read_image(folder / "images" / name)))
    labels = carry_labels(read_labels(folder / "labels" / name), image.space)
    spacing = image.space.spacing
    home = Space(image.space.shape, torch.diag(torch.cat([spacing, spacing.new_ones(1)])))
    for kind, found, dtype in (("images", image, "float32"), ("labels", labels, "uint8")):
        write_image(output / kind / name, Image(found.data, home, name=name), dtype=dtype)


def write_table(names: Sequence[str], output: Path) -> list[PairRow]:
    """Write ``pairs.csv`` of each crop with the next one; what it says."""
    lines = ["id,fixed,moving,fixed_labels,moving_labels"]
    for number, (fixed, moving) in enumerate(pairwise(names)):
        paths = (f"{kind}/{name}" for kind in ("images", "labels") for name in (fixed, moving))
        lines.append(f"pair{number:03d},{','.join(paths)}")
    (output / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_pairs(output / "pairs.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare as many pairs as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=60)
    options = parser.parse_args(arguments)
    names = crops(options.folder)
    if not 1 <= options.count < len(names):
        raise SystemExit(f"--count {options.count}: {len(names)} crops make 1 to {len(names) - 1} pairs")
    for kind in ("images", "labels"):
        (options.output / kind).mkdir(parents=True, exist_ok=True)
    chosen = names[: options.count + 1]
    for name in chosen:
        centred(options.folder, name, options.output)
    rows = write_table(chosen, options.output)
    print(f"{len(rows)} pairs of {len(chosen)} crops in {options.output / 'pairs.csv'}")


if __name__ == "__main__":
    main()
