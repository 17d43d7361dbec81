"""Which intensities count: ``--window``, seen by alignment and verdict, and not in what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import stub_pipeline
import torch
import yaml
from cli_files import AFFINE, volume

import registration
from registration.batch.run import Runner
from registration.cli import main as command
from registration.cli.pair_work import HowToRead
from registration.families import Rigid
from registration.image import Image
from registration.losses import MeanSquaredError
from registration.pairwise import Header, LinearStage, windowed
from registration.space import Space
from registration.transforms.linear import Linear


def scan(shift: float, metal: tuple[int, int]) -> Image:
    """Soft tissue of 0 to 100 that lies ``shift`` mm off, and much brighter metal in a place of its own."""
    space = Space.regular((40, 36), 2.0)
    x, y = (space.points() - torch.tensor([shift, 0])).unbind(-1)
    tissue = 50 * torch.exp(-(x**2 + 2 * y**2) / 300) + 50 * torch.exp(-((x - 8) ** 2 + (y + 6) ** 2) / 60)
    tissue[metal[0] : metal[0] + 4, metal[1] : metal[1] + 4] = 3000
    return Image.of(tissue.float(), space)


def test_metal_leads_astray_and_a_window_does_not() -> None:
    fixed, moving = scan(0, (3, 30)), scan(6, (33, 2))
    stage = LinearStage("rigid", Rigid(), MeanSquaredError(), [2, 1])

    def error(*images: Image) -> float:
        found = registration.register(*images, [stage], Header()).transform
        points = fixed.space.points()[10:30, 10:26].reshape(-1, 2)
        return float((found(points) - points - torch.tensor([6, 0])).norm(dim=-1).mean())

    assert error(windowed(fixed, 0, 100), windowed(moving, 0, 100)) < 1 < 3 < error(fixed, moving)


def test_values_beyond_become_the_ends() -> None:
    data = torch.tensor([[-1000.0, 0], [40, 2000]])
    image = Image.of(data, name="ct").with_mask(torch.tensor([[0, 1], [1, 1]]))
    for ends, told in (
        ((-100, 300), [-100, 0, 40, 300]),
        ((20, None), [20, 20, 40, 2000]),
        ((None, 1), [-1000, 0, 1, 1]),
    ):
        found = windowed(image, *ends)
        assert found.data.flatten().tolist() == told and found.mask is image.mask and found.name == "ct"
    assert windowed(image) is image and torch.equal(image.data[0, 0], data)
    odd = windowed(Image.of(torch.tensor([[torch.nan, torch.inf, 150]])), 100, 200)
    assert odd.data.flatten().tolist() == [100, 200, 150]
    # The air alone lies below -500, and the mask leaves it out.
    with pytest.raises(ValueError, match="ct is constant within this window: its voxels inside its mask go from 0 to"):
        windowed(image, None, -500)
    for wrong in ((1, 1), (2, 1), (float("nan"), None), (None, float("inf")), ("1", 2), (True, 2)):
        with pytest.raises(ValueError, match=r"window goes from|is a finite number"):
            windowed(image, *wrong)
    with pytest.raises(TypeError, match="read_image"):
        registration.windowed("ct.nii.gz", 0, 1)


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (["--window", "20,60"], ((20, 60), (20, 60))),
        (["--window", "20,", "--moving-window", ",60"], ((20, 200), (0, 60))),
        (["--fixed-window", "-5.5, 30"], ((0, 30), (0, 200))),
    ],
)
def test_aligned_and_judged_within_and_written_as_it_was(
    stub: Path, no_overview: None, pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: list[str], ends: tuple[tuple[float, float], tuple[float, float]],
) -> None:  # fmt: skip
    for file in (pair[1], pair[3]):
        nib.save(bright := nib.Nifti1Image(2 * np.asarray(nib.load(file).dataobj), nib.load(file).affine), file)
    seen: list[list[Image]] = [[], []]
    shift, judge = stub_pipeline.Shift.__call__, registration.evaluation.verdict.judge

    def aligning(self: stub_pipeline.Shift, *given: Image) -> stub_pipeline.Result:
        seen[0] += given[:2]
        return shift(self, *given)

    def judging(*given: Image) -> registration.evaluation.verdict.Verdict:
        seen[1] += given[:2]
        return judge(*given)

    monkeypatch.setattr(stub_pipeline.Shift, "__call__", aligning)
    monkeypatch.setattr("registration.cli.run.judge", judging)
    files = [registration.read_image(file) for file in (pair[1], pair[3])]
    assert command.run(["register", *pair, "-q", "--also", pair[3], *words]) == 0
    for images in seen:
        for image, file, (low, high) in zip(images, files, ends, strict=True):
            assert torch.equal(image.data, file.data.clamp(low, high))
    out = tmp_path / "out"
    for name in ("warped.nii.gz", "warped_m.nii.gz"):
        assert np.asarray(nib.load(out / name).dataobj).max() == np.asarray(bright.dataobj).max()
    # The figures count the same, and the records say it.
    told = json.loads((out / "metrics.json").read_text())
    assert told["inputs"] == yaml.safe_load((out / "config.yaml").read_text())["inputs"]
    named = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
    assert {name for name in told["inputs"] if name.endswith("window")} == named
    still = Linear.identity(3)
    before, inside = registration.warp(seen[0][1], still, files[0].space)
    ncc = registration.evaluation.metrics.correlation(seen[0][0], before, inside)
    assert told["similarity"]["before"] == pytest.approx(told["similarity"]["after"]) == pytest.approx(ncc)


def test_refused_in_one_line(stub: Path, pair: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    for wrong in ("5", "a,b", "1,2,3", ",", "", "5,5", "300,-100", "nan,1", "0,inf", "0,1e39"):
        assert f"--moving-window {wrong}: LOW,HIGH was expected" in refused(
            "check", pair[1], pair[3], "--moving-window", wrong
        )
    assert "--fixed-window 5: LOW,HIGH was expected" in refused("register", *pair, "--fixed-window", "5")
    line = refused("register", *pair, "--window", "500,")
    assert f"--window 500,: {pair[1]} is constant within this window: its voxels go from " in line
    mask = np.zeros((12, 10, 8), np.uint8)
    mask[:2] = 1
    nib.save(nib.Nifti1Image(mask, nib.load(pair[3]).affine), tmp_path / "mask.nii")
    words = ["--moving-mask", str(tmp_path / "mask.nii"), "--moving-window", "80,100"]
    line = refused("register", *pair, "--dry-run", *words)
    assert (
        f"--moving-window 80,100: {pair[3]} is constant" in line and "its voxels inside its mask go from 0 to" in line
    )
    assert not (tmp_path / "out").exists()


def test_check_says_what_counts(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["check", pair[1], pair[3], "--moving-window", "-100,50"]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert "of which" not in first and second.endswith("0 to 99, of which 0 to 50 count")


def test_a_batch_takes_it_and_is_outdated_by_another(
    stub: Path, no_overview: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], refused: Callable[..., str],
) -> None:  # fmt: skip
    here: Runner = lambda task, rows: ((row, task(row)) for row in rows)  # noqa: E731
    monkeypatch.setattr("registration.cli.batch._workers", lambda *_: here)  # without starting a process
    for name in ("f.nii.gz", "m.nii.gz"):
        volume(tmp_path / name, affine=AFFINE)
    (tmp_path / "pairs.csv").write_text("id,fixed,moving\na,f.nii.gz,m.nii.gz\n")
    words = ["batch", str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "run"), "--jobs", "1", "-q"]
    assert command.run([*words, "--window", "10,", "--moving-window", ",60"]) == 0
    told = json.loads((tmp_path / "run" / "a" / "metrics.json").read_text())["inputs"]
    assert told["window"] == [10, None] and told["moving_window"] == [None, 60]
    assert command.run([*words, "--window", "10,", "--moving-window", ",60", "--dry-run"]) == 0
    assert "0 of 1 pairs to do" in capsys.readouterr().out
    line = refused(*words, "--window", "10,", "--moving-window", ",70")
    assert "settings moving_window=(None, 60.0), now moving_window=(None, 70.0)" in line
    assert "settings moving_window=(None, 60.0) window=(10.0, None), now the defaults" in refused(*words)
    assert "LOW,HIGH was expected" in refused(*words, "--window", "3")
    # Runs of earlier versions, which had no windows, are taken up.
    assert "window" not in HowToRead().settled()
