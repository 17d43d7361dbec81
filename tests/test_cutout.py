"""One head with its skull and one without: said before the brain is stretched to fill the head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from registration.cli.main import run
from registration.image import Image
from registration.io.images import write_image
from registration.pairwise.cutout import cut_out
from registration.phantom import phantom_pair
from registration.space import Space

SHAPES = [(40, 44, 36), (80, 88)]


def heads(shape: tuple[int, ...]) -> tuple[Image, Image]:
    """A brain with 0 around it, and a head around it that goes on beyond the lower border; with some noise."""
    space = Space.regular(shape, 200 / max(shape))
    pair = phantom_pair(space, space, 0)
    brain = torch.where(pair.fixed_labels.data > 0.5, pair.fixed.data, 0.0)
    points = (space.points() - space.centre) / 90
    neck = (points[..., :-1].norm(dim=-1) < 0.5) & (points[..., -1] < 0)
    inside = (points.square().sum(dim=-1) < 1) | neck
    head = torch.where(inside, 0.4, 0.0)[None, None] + 0.01 * torch.rand(1, 1, *shape)
    return Image(brain, space, name="brain"), Image(torch.where(brain > 0, brain, head).float(), space, name="head")


@pytest.mark.parametrize("shape", SHAPES, ids=["3d", "2d"])
def test_a_brain_beside_a_head_is_said(shape: tuple[int, ...]) -> None:
    brain, head = heads(shape)
    for fixed, moving, role in ((brain, head, "fixed"), (head, brain, "moving")):
        (told,) = cut_out(fixed, moving)
        assert told.startswith("brain is 0 all around") and f"--{role}-mask" in told


@pytest.mark.parametrize("shape", SHAPES, ids=["3d", "2d"])
def test_nothing_is_said_of_two_of_a_kind_or_of_masks(shape: tuple[int, ...]) -> None:
    brain, head = heads(shape)
    mask = brain.data > 0
    assert cut_out(brain, brain) == cut_out(head, head) == []
    assert cut_out(brain.with_mask(mask), head) == cut_out(head, brain.with_mask(mask)) == []
    noise = head.with_data(torch.rand_like(head.data))
    assert cut_out(brain, noise) == cut_out(noise, noise) == []


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"{image.name}.nii.gz" for image in heads(SHAPES[0])]
    for file, image in zip(files, heads(SHAPES[0]), strict=True):
        write_image(file, image)
    assert run(["check", *map(str, files)]) == 0
    assert "if the skull was removed from one head alone" in capsys.readouterr().out


@pytest.mark.real
def test_real_heads_and_brains(shared_data: Path) -> None:
    from registration.io.images import read_image

    names = ("brain/fixed", "brain/moving", "head/ch2", "head/chris_t1", "head/chris_PD")
    images = {name: read_image(shared_data / f"{name}.nii.gz") for name in names}
    brains, whole = names[:3], names[3:]
    assert all(cut_out(images[b], images[w]) for b in brains for w in whole)
    assert not any(cut_out(images[a], images[b]) for kind in (brains, whole) for a in kind for b in kind)
