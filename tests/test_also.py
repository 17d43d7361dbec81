"""Further images of the moving side, warped in the same run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_files import AFFINE, volume

from registration.cli import main as command
from registration.cli.also import result_of, written_before
from registration.cli.outputs import check_folder
from registration.cli.run import OUTPUTS


def test_other_images_go_through_the_same_transform(
    stub: Path, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 2.0
    flair = volume(tmp_path / "flair.nii.gz", affine=moved)
    parts = np.zeros((12, 10, 8), np.int32)
    parts[4:8, 3:7, 2:6] = 2**24 + 1
    nib.save(nib.MGHImage(parts, moved), tmp_path / "seg.mgz")
    far = moved.copy()
    far[0, 3] = 500.0
    volume(tmp_path / "far.nii.gz", affine=far)
    words = ["register", *pair, "-q", "pipeline.offset=2.0"]
    words += [word for name in (flair, tmp_path / "seg.mgz", tmp_path / "far.nii.gz") for word in ("--also", str(name))]
    assert command.run(words) == 0
    out = tmp_path / "out"
    warped = nib.load(out / "warped_flair.nii.gz")
    assert np.allclose(np.asarray(warped.dataobj), np.asarray(nib.load(flair).dataobj), atol=1e-4)
    assert np.allclose(warped.affine, AFFINE)
    found = np.asarray(nib.load(out / "warped_seg.nii.gz").dataobj)
    assert found.dtype == np.int32 and np.array_equal(found, parts)
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["inputs"]["also"] == [str(tmp_path / name) for name in ("flair.nii.gz", "seg.mgz", "far.nii.gz")]
    assert {"also.0", "also.1", "also.2"} < set(figures["sha256"])
    assert any("warped_far.nii.gz is empty" in text for text in figures["notices"])
    assert any("seg.mgz is taken for a label map" in text for text in figures["notices"])
    # What the run has written may be replaced, and nothing else.
    assert written_before(out) == ["warped_flair.nii.gz", "warped_seg.nii.gz", "warped_far.nii.gz"]
    check_folder(out, True, (*OUTPUTS, *written_before(out)))
    volume(out / "warped_mine.nii.gz")
    assert command.run(["register", *pair, "--overwrite", "--dry-run"]) == 2
    assert "holds warped_mine.nii.gz, which no run wrote" in capsys.readouterr().err
    assert written_before(tmp_path) == []


def test_what_cannot_go_along_is_refused_before_anything_is_done(
    stub: Path, pair: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        volume(tmp_path / folder / "t2.nii.gz")
    volume(tmp_path / "one" / "labels.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 2), np.float32), AFFINE), tmp_path / "four.nii")
    volume(tmp_path / "flat.nii.gz", (12, 10))

    def told(*files: str) -> str:
        return refused("register", *pair, *(word for file in files for word in ("--also", str(tmp_path / file))))

    assert "two/t2.nii.gz: would be written as warped_t2.nii.gz, as" in told("one/t2.nii.gz", "two/t2.nii.gz")
    assert "as --moving-labels is; give label maps by --moving-labels" in told("one/labels.nii.gz")
    assert "holds 2 volumes or channels, --also takes one; registration apply" in told("four.nii")
    assert "has 2 axes, the images that are registered have 3" in told("flat.nii.gz")
    assert "there is no such file" in told("none.nii.gz")
    assert not (tmp_path / "out").exists()
    assert [result_of(Path(name)) for name in ("a.b.nii.gz", "a.mgz", "c.NII")] == [
        "warped_a.b.nii.gz", "warped_a.nii.gz", "warped_c.nii.gz",
    ]  # fmt: skip
