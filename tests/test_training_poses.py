"""The settings of ``experiment=affine``, shrunk to a plane: a network learns from one image which way up it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from registration.cli.progress import Quiet
from registration.cli.settings import build, compose
from registration.cli.training import task_of
from registration.image import Image
from registration.io.images import write_image
from registration.space import Space
from registration.training import NetworkPose
from registration.training.pose import half_turns

SMALL = [
    "experiment=affine", "preprocessing.spacing=[8,8]", "preprocessing.shape=[30,30]", "data.validation=20",
    "localisation.model.keypoints.size=16", "localisation.model.keypoints.network.widths=[8,16]", "optimiser.lr=3e-3",
    "trainer.max_minutes=null", "trainer.max_steps=80", "trainer.batch_size=6", "trainer.average=0.9",
    "trainer.validate_every=80", "trainer.save_every=1000",
]  # fmt: skip


@pytest.mark.slow
def test_a_pose_is_learnt_from_one_image(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    space = Space.regular((40, 40), 6.0)
    places = space.points()
    brain = 0.6 * ((places / torch.tensor([60.0, 90.0])).square().sum(dim=-1) < 1).float()
    brain[(places - torch.tensor([15.0, 50.0])).norm(dim=-1) < 18] = 1.0  # only these say which way up it is
    brain[(places - torch.tensor([-20.0, -30.0])).norm(dim=-1) < 22] = 0.25
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.nii.gz", Image(brain[None, None], space))
    settings = compose("train", [*SMALL, f"data.root={tmp_path}"])
    task = task_of(settings, Quiet())
    (tmp_path / "run").mkdir()
    outcome = build(settings.trainer).fit(task, tmp_path / "run", build(settings.optimiser), build(settings.scheduler))
    # mm; what moments alone find, with an axis the wrong way round in every other pair, is about 75
    assert outcome.before["tre"] > 70 and outcome.best["tre"] < 40


def test_that_validation_shows_images_of_training_is_said(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.nii.gz", Image(torch.rand(1, 1, 40, 40), Space.regular((40, 40), 6.0)))
    told: list[str] = []

    class Heard(Quiet):
        def note(self, text: str) -> None:
            told.append(text)

    task_of(compose("train", [*SMALL, f"data.root={tmp_path}"]), Heard())
    assert len(told) == 1 and told[0].startswith("training and validation draw from the same images")


@pytest.mark.parametrize("d", [2, 3])
def test_half_turns_lay_an_object_on_itself(d: int) -> None:
    space = Space.regular((20, 24, 22)[:d], 2.0)
    ball = ((space.points() - 3.0) / torch.tensor([8.0, 16.0, 12.0])[:d]).square().sum(dim=-1) < 1
    turns = half_turns(Image(ball[None, None].float(), space))
    assert len(turns) == 2 ** (d - 1) and torch.allclose(turns[0], torch.eye(d + 1).double(), atol=1e-9)
    assert torch.allclose(turns @ turns, torch.eye(d + 1).double(), atol=1e-9)
    assert torch.allclose(torch.linalg.det(turns), torch.ones(len(turns)).double())
    centre = torch.full((d,), 3.0, dtype=torch.float64)
    moved = turns[:, :d, :d] @ centre + turns[:, :d, d]
    assert float((moved - centre).norm(dim=-1).max()) < 0.3  # the ball is cut by voxels
    apart = (turns[:, None, :d, :d] - turns[None, :, :d, :d]).norm(dim=(-2, -1))
    assert bool((apart + 9 * torch.eye(len(turns)) > 2).all())  # all different


def test_rounds_are_counted() -> None:
    with pytest.raises(ValueError, match="rounds is a whole number from 0"):
        NetworkPose("best.pt", rounds=-1)
