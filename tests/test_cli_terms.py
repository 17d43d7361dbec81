"""Labels and landmarks that guide a registration from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_files import volume

from registration.cli import main as command


def _files(folder: Path) -> dict[str, str]:
    labels = np.zeros((20, 18, 14), np.uint8)
    labels[6:12, 5:11, 4:9] = 1
    found = {role: str(volume(folder / f"{role}.nii.gz")) for role in ("fixed", "moving")}
    import nibabel as nib

    affine = nib.load(found["fixed"]).affine
    for role, shift in (("fixed-labels", 0), ("moving-labels", 2)):
        path = folder / f"{role}.nii.gz"
        nib.save(nib.Nifti1Image(np.roll(labels, shift, axis=0), affine), path)
        found[role] = str(path)
    return found


def _words(files: dict[str, str], output: Path) -> list[str]:
    named = [word for name, path in files.items() for word in (f"--{name}", path)]
    return ["register", *named, "-o", str(output), "-t", "rigid", "--initial", "header", "-q"]


def test_labels_guide_when_they_have_a_weight(tmp_path: Path) -> None:
    files = _files(tmp_path)
    scores = []
    for weight in (0, 10):
        output = tmp_path / f"out{weight}"
        assert command.run([*_words(files, output), f"terms.labels={weight}.0"]) in (0, 3)
        told = json.loads((output / "metrics.json").read_text())
        scores.append(told["dice"]["after"]["mean"] if isinstance(told["dice"]["after"], dict) else told["dice"])
        assert any("no independent check" in text for text in told["notices"]) == bool(weight)
    assert scores[0] != scores[1]


@pytest.mark.parametrize("term", ["labels=-1.0", "landmarks=2.0"])
def test_weights_that_cannot_be(tmp_path: Path, refused: Callable[..., str], term: str) -> None:
    line = refused(*_words(_files(tmp_path), tmp_path / "out"), f"terms.{term}")
    assert "terms." in line
