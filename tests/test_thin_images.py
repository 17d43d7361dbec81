"""Every transform and every start that ships, through the command, on images with axes of one voxel and far apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_files import AFFINE, volume

from registration.cli import main as command
from registration.cli.settings import choices

# A network needs a checkpoint, and has tests of its own.
TRANSFORMS, STARTS = (
    [name for name in choices(group) if name not in ("network", "pose")] for group in ("transform", "initial")
)
SHAPES = {"volume": (20, 18, 14), "slice": (20, 18, 1), "line": (20, 1, 1), "flat": (20, 18)}


@pytest.fixture()
def register(tmp_path: Path) -> Callable[..., Path]:
    def run(fixed: str, moving: str, *words: str) -> Path:
        files = [str(volume(tmp_path / f"{role}.nii.gz", SHAPES[s])) for role, s in (("f", fixed), ("m", moving))]
        output = tmp_path / "out"
        assert command.run(["register", "-f", files[0], "-m", files[1], "-o", str(output), "-q", *words]) == 0
        return output

    return run


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    ("fixed", "moving"), [("slice", "volume"), ("volume", "slice"), ("line", "volume"), ("flat", "flat")]
)
def test_every_transform(
    register: Callable[..., Path], request: pytest.FixtureRequest, transform: str, fixed: str, moving: str
) -> None:
    if transform != "affine":  # pictures are the same for all of them
        request.getfixturevalue("no_overview")
    output = register(fixed, moving, "-t", transform, "--initial", "header")
    warped = nib.load(output / "warped.nii.gz")
    assert warped.shape == SHAPES[fixed] and np.isfinite(warped.get_fdata()).all()
    found = json.loads((output / "metrics.json").read_text())
    assert found["folding_percent"] in (0, None)
    checks = found["verdict"]["checks"]["similarity"]["value"]
    assert checks["after"]["in_view"] > 0.9 * checks["before"]["in_view"]  # no slice slides out of what it is in


@pytest.mark.parametrize("initial", STARTS)
@pytest.mark.parametrize(("fixed", "moving"), [("slice", "volume"), ("flat", "flat")])
def test_every_start(register: Callable[..., Path], no_overview: None, initial: str, fixed: str, moving: str) -> None:
    assert (register(fixed, moving, "-t", "rigid", "--initial", initial) / "warped.nii.gz").is_file()


@pytest.mark.parametrize("initial", STARTS)
def test_disjoint_fields_of_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str], no_overview: None, initial: str
) -> None:
    away = AFFINE.copy()
    away[0, 3] = 4000
    pair = [str(volume(tmp_path / "f.nii")), str(volume(tmp_path / "m.nii", affine=away))]
    words = ["register", "-f", pair[0], "-m", pair[1], "-o", str(tmp_path / "out"), "-t", "rigid", "--initial", initial]
    if initial == "header":
        assert "do not overlap" in refused(*words)
        return
    assert command.run(words) == 0
    assert "do not overlap" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["overlap"]["after"] > 0.5
