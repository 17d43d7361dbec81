"""A checkpoint at work: on grids of any place and size, as a stage, and through the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from registration.cli.method import settings_of
from registration.errors import InputError
from registration.image import Image
from registration.io.chain import decode, encode
from registration.pairwise import DiffeomorphicStage, Header, LabelOverlap, Pair, Pipeline, Silent
from registration.pairwise.terms import Proposal
from registration.preprocessing import CropOrPad, Reorient, RobustScale
from registration.preprocessing import Pipeline as Preprocessing
from registration.sampling import unit_grid, warp
from registration.space import Space
from registration.training import NetworkPose, NetworkStage, NetworkStart, refinement
from registration.training.blueprint import build, completed
from registration.training.checkpoints import write_checkpoint
from registration.transforms.base import Transform
from registration.transforms.linear import Linear

UNET = {
    "_target_": "registration.registrar.Registrar",
    "localiser": {
        "_target_": "registration.localisation.DenseVelocity",
        "network": {
            "_target_": "registration.localisation.UNet", "ndim": None, "inputs": None, "outputs": None,
            "widths": [8, 8], "final": [8], "start": 30.0,
        },
    },
    "family": {"_target_": "registration.families.Velocity", "shrink": 2, "steps": 4},
}  # fmt: skip
CNN = {
    "_target_": "registration.registrar.Registrar",
    "localiser": {
        "_target_": "registration.localisation.ParameterNetwork", "ndim": None, "inputs": None, "size": None,
        "widths": [4, 4], "cells": 2, "hidden": 8,
    },
    "family": {"_target_": "registration.families.Affine"},
}  # fmt: skip
ANATOMY = {
    "_target_": "registration.registrar.Registrar",
    "localiser": {
        "_target_": "registration.localisation.AnatomyVelocity", "ndim": None, "inputs": None, "labels": [3, 7],
        "full": 4, "widths": [4, 8],
        "demons": {"_target_": "registration.localisation.Demons", "iterations": [2, 2], "shrink": 2},
    },
    "family": {"_target_": "registration.families.Velocity", "shrink": 2, "steps": 4},
}  # fmt: skip
POSED = {
    "_target_": "registration.registrar.KeypointRegistrar",
    "keypoints": {
        "_target_": "registration.localisation.Posed", "size": 16,
        "network": {
            "_target_": "registration.localisation.ParameterNetwork", "ndim": None, "inputs": None, "size": None,
            "widths": [4, 4], "cells": 2, "hidden": 8,
        },
    },
    "fit": {"_target_": "registration.families.RigidFit"},
}  # fmt: skip
D = pytest.mark.parametrize("d", [2, 3])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def checkpoint(folder: Path, d: int, model: dict[str, Any], shape: int = 24, start: str = "Grids") -> Path:
    """A network of random weights, saved."""
    torch.manual_seed(1)
    steps = Preprocessing([Reorient("RAS"), CropOrPad(shape), RobustScale()])
    plan = {
        "model": completed(model, Space.regular((shape,) * d), 1), "preprocessing": steps.config(), "ndim": d,
        "start": {"_target_": f"registration.training.{start}"}, "channels": 1,
    }  # fmt: skip
    aligner = build(plan["model"])
    for parameter in aligner.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, 0, 0.05)
    content = {"config": {}, "plan": plan, "model": aligner.state_dict(), "metrics": {}, "step": 0}
    write_checkpoint(folder / "model.pt", content)
    return folder / "model.pt"


def blob(shape: tuple[int, ...], seed: int) -> Tensor:
    from registration.filters import gaussian

    torch.manual_seed(seed)
    return gaussian(torch.rand(1, 1, *shape), [2.0] * len(shape))


def turned(space: Space, d: int) -> Space:
    """The same grid elsewhere: turned by half a radian and moved."""
    turn = torch.eye(d + 1, dtype=torch.float64)
    turn[:d, :d] = torch.linalg.matrix_exp(0.3 * (torch.ones(d, d).triu(1) - torch.ones(d, d).tril(-1)).double())
    turn[:d, d] = torch.tensor([30.0, -8.0, 12.0])[:d]
    return Space(space.shape, turn @ space.affine)


def found(file: Path, fixed: Image, moving: Image) -> Image:
    """The moving image as the network brings it onto the fixed grid."""
    result = Pipeline(NetworkStart(file), [NetworkStage(file)])(fixed, moving)
    return warp(moving, decode(encode(result.transform)), fixed.space)[0]


def alike(a: Tensor, b: Tensor) -> bool:
    """Equal but for single voxels on the very edge of the moving field of view, which rounding puts in or out."""
    return float(((a - b).abs() > 2e-3).double().mean()) < 0.01


@D
@pytest.mark.parametrize("model", [UNET, CNN], ids=["unet", "cnn"])
def test_the_place_of_images_in_the_world_does_not_matter(tmp_path: Path, d: int, model: dict[str, Any]) -> None:
    file = checkpoint(tmp_path, d, model)
    space = Space.regular((20, 22, 18)[:d])
    a, b = blob(space.shape, 2), blob(space.shape, 3)
    plain = found(file, Image(a, space), Image(b, space))
    assert float((plain.data - b).abs().mean()) > 1e-3
    elsewhere = found(file, Image(a, turned(space, d)), Image(b, space))
    assert alike(elsewhere.data, plain.data)
    # Axes stored the other way round and exchanged: the same picture.
    order = list(range(d))[::-1]
    flip = torch.eye(d + 1, dtype=torch.float64)[[*order, d]].T.clone()
    flip[0] *= -1
    flip[0, d] = space.shape[0] - 1
    stored = Space(tuple(space.shape[o] for o in order), space.affine @ flip)

    def other(x: Tensor) -> Tensor:
        return x.flip(2).permute(0, 1, *[o + 2 for o in order]).contiguous()

    swapped = found(file, Image(other(a), stored), Image(b, space))
    assert alike(swapped.data, other(plain.data))


@D
def test_larger_images_are_not_cropped(tmp_path: Path, d: int) -> None:
    file = checkpoint(tmp_path, d, UNET, shape=16)
    space = Space.regular((30, 26, 20)[:d])
    stage = NetworkStage(file)
    image = Image(blob(space.shape, 2), space)
    assert stage.trained.prepared(image).space.shape == (32, 32, 32)[:d]
    assert NetworkStage(checkpoint(tmp_path, d, CNN, 16)).trained.prepared(image).space.shape == (16,) * d


def test_it_starts_where_it_is_told(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, 2, UNET)
    space = Space.regular((20, 22))
    pair = Pair(Image(blob(space.shape, 2), space), Image(blob(space.shape, 3), turned(space, 2)))
    assert not torch.allclose(NetworkStart(file)(pair).matrix, Header()(pair).matrix)
    start = Linear.translation(torch.tensor([30.0, -8.0], dtype=torch.float64))
    transform, report = NetworkStage(file)(pair, start, Silent())
    away = (transform(space.points().flatten(0, 1)) - start(space.points().flatten(0, 1))).norm(dim=-1)
    assert 0.1 < float(away.mean()) < 10 and report.name == "network"


@D
def test_a_pose_is_where_stages_begin(tmp_path: Path, d: int) -> None:
    from registration.cli.settings import build as made
    from registration.cli.settings import compose

    file = checkpoint(tmp_path, d, POSED, start="Headers")
    bar = torch.zeros(1, 1, *(24,) * d)
    bar[(..., *(slice(6 + k, 18 - 3 * k) for k in range(d)))] = 1.0
    fixed = Image(bar, Space.regular((24,) * d, 2.0))
    moving = Image(bar, turned(fixed.space, d))
    settings = compose("register", ["initial=pose", f"checkpoint={file}"])
    start = made(settings.initial.start)
    assert isinstance(start, NetworkPose)
    way = Linear(moving.space.affine @ torch.linalg.inv(fixed.space.affine))
    places = fixed.space.points().flatten(0, -2)
    # The axes are reoriented, then found again; what a pose says on both grids is the same anatomy.
    assert float((start(Pair(fixed, moving))(places) - way(places)).norm(dim=-1).max()) < 1e-2


@D
def test_what_was_named_guides_later_stages(tmp_path: Path, d: int) -> None:
    file = checkpoint(tmp_path, d, ANATOMY)
    space = Space.regular((24, 20, 18)[:d])
    data = blob(space.shape, 2)
    # The same picture, elsewhere in the world: what is named in both lies where the images do.
    fixed, moving = Image(data, turned(space, d)), Image(data, space)
    pair = Pair(fixed, moving)
    right = NetworkStart(file)(pair)
    NetworkStage(file)(pair, right, Silent())
    (term,) = pair.terms
    assert isinstance(term, LabelOverlap) and term.labels and set(term.labels) <= {3.0, 7.0}

    def missed(transform: Transform) -> float:
        grid = unit_grid(transform, moving.space, fixed.space, data)
        return float(term.bind(fixed, moving, fixed.space)(Proposal(grid, transform)))

    shifted = right @ Linear.translation(torch.full((d,), 3.0, dtype=torch.float64))
    assert missed(right) < 0.02 < 0.1 < missed(shifted)

    without = Pair(fixed, moving)
    NetworkStage(file, naming=0.0)(without, right, Silent())
    assert without.terms == ()
    with pytest.raises(ValueError, match="0 or more"):
        NetworkStage(file, naming=-1.0)


@pytest.mark.parametrize("word", ["checkpoint=best.pt", "refine=20"])
def test_settings_about_a_network_want_one(word: str) -> None:
    with pytest.raises(InputError, match="none is used"):
        settings_of([word])
    assert settings_of([word, "transform=network", "checkpoint=best.pt"]).checkpoint == "best.pt"
    assert settings_of(["initial=pose", "checkpoint=best.pt"]).checkpoint == "best.pt"


def test_refinement() -> None:
    assert refinement(0) is None
    stage = refinement(3)
    assert isinstance(stage, DiffeomorphicStage)
    assert [(level.shrink, level.iterations, level.sigma) for level in stage.levels] == [(2, 3, 2.0), (1, 3, 2.0)]
    with pytest.raises(ValueError, match="iterations is a whole number from 0"):
        refinement(-1)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    flat = Space.regular((16, 16))
    image = Image(blob(flat.shape, 2), flat)
    with pytest.raises(InputError, match="trained on 3-D images, image has 2 axes"):
        NetworkStage(checkpoint(tmp_path, 3, UNET))(Pair(image, image), Linear.identity(2), Silent())
    two = Image(image.data.expand(1, 2, 16, 16), flat)
    with pytest.raises(InputError, match="1 channel"):
        NetworkStage(checkpoint(tmp_path, 2, UNET))(Pair(two, two), Linear.identity(2), Silent())
    with pytest.raises(InputError, match="is not given"):
        NetworkStage(None)(Pair(image, image), Linear.identity(2), Silent())


@pytest.mark.parametrize("ending", [".pt2", ".ts", ".onnx"])
@pytest.mark.parametrize("model", [UNET, CNN, ANATOMY], ids=["unet", "cnn", "anatomy"])
def test_exported_networks_answer_the_same(tmp_path: Path, ending: str, model: dict[str, Any]) -> None:
    from registration.training.exported import write_exported

    if ending == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    file = checkpoint(tmp_path, 2, model)
    assert "largest difference" in write_exported(file, tmp_path / f"net{ending}")
    assert (tmp_path / f"net{ending}").stat().st_size > 1000
    with pytest.raises(InputError, match=r"one of \.pt2"):
        write_exported(file, tmp_path / "net.bin")


def test_torch_export_says_what_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from registration.training.exported import write_exported

    file = checkpoint(tmp_path, 2, CNN)
    # A size that depends on a value.
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda _, x: x[:, : int(x.sum().abs()) + 1])
    with pytest.raises(InputError, match=r"\.pt2: cannot say what this network does .*write \.ts"):
        write_exported(file, tmp_path / "net.pt2")
    assert not (tmp_path / "net.pt2").exists()


def test_onnx_says_what_it_needs_and_what_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from registration.training.exported import write_exported

    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = checkpoint(tmp_path, 2, CNN)
    with monkeypatch.context() as patch:
        # Eigenvalues are no operator of ONNX.
        patch.setattr(torch.nn.Linear, "forward", lambda _, x: torch.linalg.eigvals(x.T @ x).real[None])
        with pytest.raises(InputError, match=r"cannot say what this network does .*eig.*write \.pt2 or \.ts"):
            write_exported(file, tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs a package .*pip install '\.\[onnx\]' in the checkout"):
        write_exported(file, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
