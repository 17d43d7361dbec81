"""Several contrasts per image: aligned as channels, read, brought together, warped and told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import stub_pipeline
import torch
from cli_files import AFFINE, volume

import registration
from registration.cli import main as command
from registration.cli.also import written_before
from registration.cli.outputs import check_folder
from registration.cli.run import OUTPUTS
from registration.evaluation.verdict import judge
from registration.image import Image
from registration.io.files import sha256
from registration.losses import WideLocalCorrelation
from registration.pairwise import DiffeomorphicStage, FieldLevel, Header, Pipeline, stack_channels, windowed
from registration.pairwise.ground import object_of
from registration.pairwise.initialise.mass import mass
from registration.pairwise.order import swapped
from registration.space import Space
from registration.transforms.linear import Linear


def test_all_contrasts_align_better_than_each() -> None:
    """Each shows one half of the object, so each alone says nothing of the other half."""
    space = Space.regular((36, 32), 2.0)
    points = space.points()

    def moved(places: torch.Tensor) -> torch.Tensor:
        return places + torch.stack([torch.zeros(36, 32), 4 * torch.tanh(places[..., 0] / 8)], dim=-1)

    def texture(places: torch.Tensor) -> torch.Tensor:
        x, y = places.unbind(-1)
        return torch.sin(x / 5 + torch.cos(y / 9)) * torch.cos(y / 6 + torch.sin(x / 11))

    left = points[..., 0] < 0
    halves = [[Image.of(texture(places) * half, space) for half in (left, ~left)] for places in (moved(points), points)]
    stage = DiffeomorphicStage("dense", WideLocalCorrelation(), [FieldLevel(1, 15)])

    def error(fixed: Image, moving: Image) -> float:
        found = Pipeline(Header(), [stage], symmetric=True)(fixed, moving).transform
        return float((found(points) - moved(points))[4:-4, 4:-4].norm(dim=-1).mean())

    both = [stack_channels(images) for images in halves]
    alone = [error(*images) for images in zip(*halves, strict=True)]
    assert error(both[0], both[1]) < 0.5 * min(alone), alone
    assert swapped(both[0], both[1], None, ()) != swapped(both[1], both[0], None, ())


def test_contrasts_of_other_grids_come_onto_the_first() -> None:
    first = Image.of(torch.zeros(6, 8), Space.regular((6, 8), 2.0), name="t1")
    space = Space.regular((15, 9), 1.0)
    other = Image(space.points()[..., 0][None, None], space, name="t2").with_mask(torch.ones(15, 9))
    found = stack_channels([first, other])
    where = first.space.points()
    seen = (where.abs() < torch.tensor([7.5, 4.5])).all(dim=-1)
    assert found.data.shape == (1, 2, 6, 8) and found.space is first.space and found.name == "t1"
    inner = (where.abs() < torch.tensor([5.0, 4.5])).all(dim=-1)
    assert torch.allclose(found.data[0, 1][inner], where[..., 0][inner], atol=1e-4) and bool(inner.any())
    assert torch.equal(found.mask[0, 0], seen) and not bool(seen.all())
    assert bool((found.data[0, 1][~seen] == -7).all())
    assert stack_channels([first]).mask is None
    for others, told in (
        ([], "there are no images"),
        ([first, Image.of(torch.zeros(4, 4, 4))], "t1 has 2 spatial axes, image has 3"),
        ([first, Image(torch.zeros(2, 1, 6, 8), first.space)], "t1 is a batch of 1 images, image of 2"),
        (
            [first, Image.of(torch.zeros(2, 2), Space.regular((90, 8)).cropped((88, 0), (2, 2)))],
            "does not meet the grid",
        ),
    ):
        with pytest.raises(ValueError, match=told):
            stack_channels(others)
    with pytest.raises(TypeError, match="read_image"):
        registration.stack_channels([first, "t2.nii.gz"])


def test_an_object_counts_that_is_bright_in_one_and_dark_in_another() -> None:
    one = torch.zeros(1, 1, 24, 24)
    one[..., 8:14, 6:12] = 1
    space = Space.regular((24, 24), 1.0)
    alone, both = Image(one, space), Image(torch.cat([one, 1 - one], dim=1), space)
    assert torch.equal(object_of(both).mask, object_of(alone).mask) and not bool(object_of(alone).mask.all())
    assert torch.equal(mass(both), mass(alone)) and float(mass(alone).sum()) == 36


@pytest.fixture()
def contrasts(pair: list[str], tmp_path: Path) -> list[str]:
    """Options for a second contrast: the fixed one on the grid of the first, the moving one on another."""
    blob = np.asarray(nib.load(volume(tmp_path / "f2.nii.gz")).dataobj)
    nib.save(nib.Nifti1Image((200 - blob).astype(np.float32), AFFINE), tmp_path / "f2.nii.gz")
    coarse = np.diag([3.0, 3.0, 4.0, 1.0])
    coarse[:3, 3] = 4.5, 0, 0
    volume(tmp_path / "m2.nii.gz", (8, 10, 8), coarse)
    return ["-f", str(tmp_path / "f2.nii.gz"), "-m", str(tmp_path / "m2.nii.gz")]


def test_files_to_results(
    stub: Path, no_overview: None, pair: list[str], contrasts: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    seen: list[Image] = []
    shift = stub_pipeline.Shift.__call__

    def watched(self: stub_pipeline.Shift, fixed: Image, moving: Image, *rest: object) -> stub_pipeline.Result:
        seen.extend((fixed, moving))
        return shift(self, fixed, moving, *rest)

    monkeypatch.setattr(stub_pipeline.Shift, "__call__", watched)
    words = ["register", *pair, *contrasts, "--window", "10,90", "pipeline.offset=2.0"]
    assert command.run(words) == 0
    fixed, moving = seen
    assert fixed.data.shape == moving.data.shape == (1, 2, 12, 10, 8)
    files = [registration.read_image(tmp_path / name) for name in ("f.nii.gz", "f2.nii.gz", "m.nii.gz", "m2.nii.gz")]
    # A window is for the first contrast.
    assert torch.equal(fixed.data, torch.cat([files[0].data.clamp(10, 90), files[1].data], dim=1))
    assert torch.equal(moving.data, stack_channels([windowed(files[2], 10, 90), files[3]]).data)
    note = "m2.nii.gz has another grid than "
    assert note in (told := capsys.readouterr().err) and "linearly, by the headers; 8.3 % of that grid lie" in told
    # Every contrast is warped as its file has it, onto the fixed grid.
    out = tmp_path / "out"
    warped = nib.load(out / "warped_2.nii.gz")
    through = registration.warp(files[3], Linear.translation(torch.tensor([2.0, 0, 0]).double()), files[0].space)[0]
    assert np.allclose(np.asarray(warped.dataobj), through.data[0, 0].numpy(), atol=1e-4)
    assert np.allclose(warped.affine, AFFINE)
    # All of them are in the records, and in the verdict.
    figures, origin = (json.loads((out / name).read_text()) for name in ("metrics.json", "provenance.json"))
    for told in (figures, origin):
        assert told["inputs"]["moving"].endswith("m.nii.gz") and told["inputs"]["moving_2"] == contrasts[3]
        assert told["sha256"]["fixed_2"] == sha256(tmp_path / "f2.nii.gz") != told["sha256"]["fixed"]
        assert "moving_2" in told["sha256"] and "moving_more" not in told["inputs"]
    assert f"fixed_2: {contrasts[1]}" in (out / "config.yaml").read_text()
    offset = Linear.translation(torch.tensor([2.0, 0, 0]).double())
    verdict = judge(fixed, moving, Linear.identity(3), offset)
    checks = {check.name: check.value for check in verdict.checks}
    assert figures["verdict"]["checks"]["similarity"]["value"]["after"] == pytest.approx(checks["similarity"]["after"])
    # What was written may be replaced by a run with other contrasts.
    assert written_before(out) == ["warped_2.nii.gz"]
    check_folder(out, True, (*OUTPUTS, *written_before(out)))


def test_contrasts_that_do_not_go_together_are_refused(
    stub: Path, pair: list[str], contrasts: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    far = AFFINE.copy()
    far[0, 3] = 500.0
    volume(tmp_path / "far.nii.gz", affine=far)
    volume(tmp_path / "flat.nii.gz", (12, 10))
    nib.save(nib.Nifti1Image(np.ones((12, 10, 8), np.float32), AFFINE), tmp_path / "empty.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 8, 2), np.float32), AFFINE), tmp_path / "four.nii.gz")
    volume(tmp_path / "2.nii.gz")

    def told(fixed: str, *more: str) -> str:
        return refused("register", *pair, "-f", str(tmp_path / fixed), *contrasts[2:], *more)

    line = refused("register", *pair, *contrasts[:2], *contrasts[:2])
    assert "--fixed was given 3 times, --moving once; every contrast is named for both images" in line
    assert (
        "flat.nii.gz: has 2 axes (12, 10), " in (line := told("flat.nii.gz")) and "f.nii.gz has 3 (12, 10, 8)" in line
    )
    assert "far.nii.gz: does not meet " in (line := told("far.nii.gz")) and "register them first" in line
    assert "empty.nii.gz: is constant" in told("empty.nii.gz")
    assert "four.nii.gz: holds 2 volumes or channels" in (line := told("four.nii.gz")) and "--fixed-channel" in line
    assert "f.nii.gz: has no channel 1" in told("four.nii.gz", "--fixed-channel", "1")
    assert "none.nii.gz: there is no such file" in told("none.nii.gz")
    also = ("--also", str(tmp_path / "2.nii.gz"))
    assert "would be written as warped_2.nii.gz, as a contrast of --moving is" in told("f2.nii.gz", *also)
    assert not (tmp_path / "out").exists()
