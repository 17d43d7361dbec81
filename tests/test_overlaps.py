"""Which labels are judged: one definition for the figures of a run and for those of an evaluation."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from registration.cli.case import Case
from registration.cli.scores import scores
from registration.evaluation.figure import AFTER
from registration.evaluation.figures import figures_of
from registration.evaluation.metrics import mean_dice
from registration.evaluation.overlaps import labels_of, labels_of_pair, overlaps
from registration.evaluation.subject import Subject
from registration.image import Image
from registration.io.images import Loaded
from registration.io.raw import Source
from registration.sampling import warp
from registration.space import Space
from registration.transforms.linear import Linear

maps = st.lists(st.integers(0, 3), min_size=12, max_size=12).map(lambda v: torch.tensor(v).reshape(3, 4))


def test_missing_and_lost_are_two_things() -> None:
    fixed, moving = torch.tensor([[1, 1, 2, 0, 4]]), torch.tensor([[1, 3, 2, 0]])
    labels = labels_of_pair(fixed, moving)
    assert labels.wanted == (1, 2, 3, 4) and labels.missing == {3: "fixed", 4: "moving"}
    # Warping has moved 2 out of sight, and thrown 3 onto 4, which is still nothing to compare.
    found, lost = overlaps(fixed, torch.tensor([[1, 1, 0, 0, 3]]), labels)
    assert found == {1: 1.0, 2: 0.0, 3: None, 4: None} and lost == [2]
    assert mean_dice(found) == 0.5


@given(fixed=maps, moving=maps, warped=maps)
def test_every_label_has_one_fate(fixed: Tensor, moving: Tensor, warped: Tensor) -> None:
    labels = labels_of_pair(fixed, moving)
    found, lost = overlaps(fixed, warped, labels)
    both = set(labels_of(fixed)) & set(labels_of(moving))
    assert set(found) == set(labels.wanted) == both | set(labels.missing) and not both & set(labels.missing)
    for label in both:
        a, b = fixed == label, warped == label
        assert found[label] == 2 * int((a & b).sum()) / (int(a.sum()) + int(b.sum()))
        assert (label in lost) == (not bool(b.any()))


def test_a_run_and_an_evaluation_agree() -> None:
    """The same pair and transform, of which one label is missing and one lost, by ``register`` and by ``evaluate``."""
    space = Space((8, 6), torch.eye(3, dtype=torch.float64))
    values = torch.rand(1, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(1, 1, 8, 6)
    label[..., 0, :3], label[..., 5, 2:4] = 1, 2
    other = label.clone()
    other[..., 7, :] = 5
    images = [Image(data, space) for data in (values, values, label, other)]
    away = Linear.translation(torch.tensor([3.0, 0.0], dtype=torch.float64))  # label 1 leaves the grid
    told = figures_of(Subject(images[0], images[1], away, fixed_labels=images[2], moving_labels=images[3]))
    loaded = [Loaded(image, Source(__file__, "nifti", torch.zeros(0).numpy().dtype)) for image in images]
    case = Case(*loaded, points=None, notices=())
    own = scores(case, away, *warp(images[1], away, space))["dice"]["after"]
    theirs = {f.label: f.value for f in told.figures if f.metric == "dice" and f.when == AFTER}
    assert own["per_label"] == {"1": 0.0, "2": theirs["2"]} and theirs["1"] == 0 and theirs["5"] is None
    assert own["mean"] == theirs[""] and own["lost"] == told.lost == [1]
    assert own["missing_in_one"] == list(told.missing) == [5]
