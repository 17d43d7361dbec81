"""Labels by a vote of their linear shares: what it is, that others do the same, and that runs say which was used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from registration.cli.main import run
from registration.evaluation.metrics import mean_dice
from registration.evaluation.overlaps import labels_of_pair, overlaps
from registration.evaluation.report.folder import read_evaluation
from registration.evaluation.report.scene import Scene, read_scene
from registration.image import Image
from registration.interpolate import vote
from registration.io.images import load_image, write_image
from registration.io.transforms import write_transform
from registration.sampling import nearest, warp
from registration.space import Space
from registration.transforms.linear import Linear

SHAPES = [(22, 19), (18, 16, 14)]


def blobs(shape: tuple[int, ...], count: int = 5, seed: int = 0) -> Tensor:
    """(1, 1, *S) labels 0 ... count - 1 of smooth shape."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, count, *(5,) * len(shape), generator=generator)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return F.interpolate(coarse, size=shape, mode=mode).argmax(dim=1, keepdim=True).float()


def turned(d: int, degrees: float = 25.0) -> Tensor:
    matrix = torch.eye(d + 1, dtype=torch.float64)
    c, s = torch.tensor(degrees).deg2rad().cos(), torch.tensor(degrees).deg2rad().sin()
    matrix[:2, :2] = torch.tensor([[c, -s], [s, c]])
    return matrix


def pair(shape: tuple[int, ...]) -> tuple[Image, Space, Linear]:
    """Labels, an oblique grid that looks at their middle, and a map of its points to theirs."""
    d = len(shape)
    moving = Image(blobs(shape), Space.regular(shape, 2.0))
    small = [n - 6 for n in shape]
    onto = Space(tuple(small), turned(d) @ Space.regular(small, 1.5).affine)
    push = torch.eye(d + 1, dtype=torch.float64)
    push[:d, :d] += 0.05
    push[:d, d] = 0.3
    return moving, onto, Linear(push)


@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 99), channels=st.integers(1, 2))
@settings(max_examples=15, deadline=None)
def test_it_is_the_largest_interpolated_indicator(shape: tuple[int, ...], seed: int, channels: int) -> None:
    data = torch.cat([blobs(shape, seed=seed + k) for k in range(channels)], dim=1).double()
    grid = 2.4 * torch.rand(1, 500, *(1,) * (len(shape) - 1), len(shape), dtype=torch.float64) - 1.2
    for c in range(channels):
        sides = torch.stack([(data[:, c] == label).double() for label in range(5)], dim=1)
        shares = F.grid_sample(sides, grid, padding_mode="border", align_corners=False)
        assert torch.equal(vote(data, grid)[:, c], shares.argmax(dim=1).double())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_smaller_label_wins_a_tie_and_voxels_keep_theirs(shape: tuple[int, ...]) -> None:
    data = torch.zeros(1, 1, *shape) + 9.0
    data[:, :, 1::2] = 4.0
    halfway = Linear.translation(torch.tensor([0.5, 0.0, 0.0][: len(shape)], dtype=torch.float64))
    space = Space.regular(shape, 1.0)
    inner = warp(Image(data, space), halfway, space, vote)[0].data[:, :, 1:-1]
    assert bool((inner == 4).all())
    assert torch.equal(warp(Image(data, space), Linear.identity(len(shape)), space, vote)[0].data, data)


def test_large_labels_are_exact() -> None:
    data = torch.tensor([[[[0.0, 2.0**40 + 1], [2.0**40 + 1, 2.0**40 + 3]]]], dtype=torch.float64)
    centre = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    assert vote(data, centre).item() == 2.0**40 + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_ants_agrees_on_an_oblique_grid(shape: tuple[int, ...], tmp_path: Path) -> None:
    ants = pytest.importorskip("ants")
    moving, onto, transform = pair(shape)
    write_image(tmp_path / "moving.nii.gz", moving)
    write_image(tmp_path / "onto.nii.gz", Image(torch.zeros(1, 1, *onto.shape), onto))
    write_transform(tmp_path / "t.h5", transform, onto, moving.space)
    theirs = ants.apply_transforms(
        ants.image_read(str(tmp_path / "onto.nii.gz")), ants.image_read(str(tmp_path / "moving.nii.gz")),
        [str(tmp_path / "t.h5")], interpolator="genericLabel", defaultvalue=-1,
    )  # fmt: skip
    array = torch.from_numpy(theirs.numpy()).float()
    ours, valid = warp(moving, transform, onto, vote)
    plain = warp(moving, transform, onto, nearest)[0]
    common = valid[0, 0] & (array >= 0)
    assert common.float().mean() > 0.8
    assert (ours.data[0, 0] != array)[common].float().mean() < 0.002
    assert (plain.data[0, 0] != array)[common].float().mean() > 0.01


def test_apply(tmp_path: Path, refused: Callable[..., str]) -> None:
    moving, onto, transform = pair(SHAPES[1])
    write_image(tmp_path / "labels.nii.gz", moving)
    write_image(tmp_path / "onto.nii.gz", Image(torch.rand(1, 1, *onto.shape), onto))
    write_transform(tmp_path / "t.h5", transform, onto, moving.space)
    words = ["apply", "-t", str(tmp_path / "t.h5"), "-r", str(tmp_path / "onto.nii.gz"), "-n", "label", "-q", "-i"]
    assert run([*words, str(tmp_path / "labels.nii.gz"), "-o", str(tmp_path / "found.nii.gz")]) == 0
    found = load_image(tmp_path / "found.nii.gz").image.data
    assert torch.equal(found, warp(moving, transform, onto, vote)[0].data)
    line = refused(*words, str(tmp_path / "onto.nii.gz"), "-o", str(tmp_path / "other.nii.gz"))
    assert "whole numbers" in line


def test_a_run_says_which_was_used(tmp_path: Path, refused: Callable[..., str]) -> None:
    moving, onto, _ = pair(SHAPES[0])
    fixed = Image(blobs(onto.shape, seed=3), onto)
    for name, labels in (("fixed", fixed), ("moving", moving)):
        write_image(tmp_path / f"{name}.nii.gz", labels)
    words = [f"--{role}{kind}={tmp_path / role}.nii.gz" for role in ("fixed", "moving") for kind in ("", "-labels")]
    words = ["register", *words, "--transform", "rigid", "--preset", "fast", "--quiet"]
    maps = {}
    for name in ("nearest", "label"):
        run([*words, "-o", str(tmp_path / name), *(["--label-interpolation", name] if name == "label" else [])])
        told = json.loads((tmp_path / name / "metrics.json").read_text())
        origin = json.loads((tmp_path / name / "provenance.json").read_text())
        assert told["label_interpolation"] == origin["settings"]["label_interpolation"] == name
        maps[name] = load_image(tmp_path / name / "warped_labels.nii.gz").image.data
    assert not torch.equal(maps["nearest"], maps["label"])
    assert "nearest" in refused(*words, "-o", str(tmp_path / "x"), "--label-interpolation", "linear")


def test_an_evaluation_votes_where_the_run_did(tmp_path: Path) -> None:
    moving, onto, _ = pair(SHAPES[0])
    fixed = Image(blobs(onto.shape, seed=3), onto)
    for name, labels in (("f", fixed), ("m", moving)):
        write_image(tmp_path / f"{name}.nii.gz", labels)
    table = tmp_path / "pairs.csv"
    table.write_text("id,fixed,moving,fixed_labels,moving_labels\na,f.nii.gz,m.nii.gz,f.nii.gz,m.nii.gz\n")
    (tmp_path / "run" / "a").mkdir(parents=True)
    write_transform(tmp_path / "run" / "a" / "transform.h5", Linear.identity(2), onto, moving.space)
    header = Linear.identity(2)
    labels = labels_of_pair(fixed.data, moving.data)
    expected, outlines = {}, {}
    for how, sampler in (("nearest", nearest), ("label", vote)):
        warped = warp(moving, header, onto, sampler)[0]
        outlines[how] = warped.data.unique(return_counts=True)[1].tolist()
        expected[how] = mean_dice(overlaps(fixed.data[0, 0], warped.data[0, 0], labels)[0])
    assert expected["nearest"] != expected["label"]
    for how in ("label", "nearest"):
        (tmp_path / "run" / "a" / "metrics.json").write_text(json.dumps({"label_interpolation": how}))
        words = ["evaluate", str(table), "-r", str(tmp_path / "run"), "-o", str(tmp_path / how), "-q", "--no-report"]
        assert run(words) == 0
        found = json.loads((tmp_path / how / "summary.json").read_text())["metrics"]["dice"]
        # The transform is that of the headers: the same before and after.
        assert found["before"]["mean"] == found["after"]["mean"] == pytest.approx(expected[how], abs=1e-12)
        scene = read_scene(read_evaluation(tmp_path / how).cases[0])
        assert isinstance(scene, Scene)
        assert scene.labels["after"].data.unique(return_counts=True)[1].tolist() == outlines[how]
    assert outlines["nearest"] != outlines["label"]
