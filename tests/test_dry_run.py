"""The dry run: says what would be done, refuses what a run refuses, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_files import volume

from registration.cli import main as command
from registration.image import Image
from registration.pairwise import presets
from registration.pairwise.ground import common_ground, region_on, voxels_on
from registration.pairwise.pair import Pair, crop_to_mask
from registration.pairwise.plan import plan
from registration.phantom import phantom_pair
from registration.space import Space
from registration.transforms.linear import Linear


@pytest.fixture()
def pair(tmp_path: Path) -> list[str]:
    files = [str(volume(tmp_path / name, (24, 20, 16))) for name in ("f.nii.gz", "m.nii.gz")]
    return ["-f", files[0], "-m", files[1]]


def test_it_tells_levels_and_estimates(pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    assert command.run(["register", *pair, "--dry-run", "--preset", "fast", "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "rigid" in told and "diffeomorphic" in told and "24 x 20 x 16" in told
    assert "s to register" in told and "GB" in told and "nothing was written" in told
    assert sorted(tmp_path.iterdir()) == before


def test_it_refuses_what_a_run_refuses(pair: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    there = tmp_path / "out"
    there.mkdir()
    assert "is there already" in refused("register", *pair, "--dry-run", "-o", str(there))
    assert "no such file" in refused("register", *pair, "--dry-run", "--fixed-mask", str(tmp_path / "no.nii.gz"))
    assert "did you mean tps" in refused("register", *pair, "--dry-run", "-t", "tsp")
    assert "--output" in refused("register", *pair)


@pytest.mark.parametrize("shape", [(40, 44), (32, 30, 28), (40, 44, 1)])
def test_levels_are_those_of_the_run(shape: tuple[int, ...]) -> None:
    space = Space.regular(shape, 3.0)
    images = phantom_pair(space, space, 0)
    pair = Pair(images.fixed, images.moving)
    stages = presets.default().diffeomorphic()
    levels = plan(pair, stages)
    assert {level.stage for level in levels} == {"rigid", "affine", "tps", "diffeomorphic"}
    assert all(level.seconds > 0 and level.memory > 0 and level.steps > 0 for level in levels)
    assert all((level.points > 0) == (level.stage == "tps") for level in levels)
    assert [level.grid.ndim for level in levels] == [len(shape)] * len(levels)
    dense = [level for level in levels if level.stage == "diffeomorphic"]
    assert [level.steps for level in dense] == [level.iterations for level in stages[-1].fitting(pair)]
    assert dense[-1].grid.spacing.max() == pytest.approx(3.0 if 1 in shape else 2.0)  # finer than the few voxels


def test_more_steps_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    from registration.pairwise import plan as module

    monkeypatch.setattr(module, "_seconds", lambda work: 0.01)  # no clock: other work on the machine would decide
    space = Space.regular((40, 40, 40))
    image: Image = phantom_pair(space, space, 0).fixed
    pair = Pair(image, image)
    some, many = (
        sum(level.seconds for level in plan(pair, preset.diffeomorphic()[-1:]))
        for preset in (presets.fast(), presets.accurate())
    )
    assert many > 1.5 * some


@pytest.mark.parametrize("masked", [False, True])
def test_no_level_is_made_for_its_grid(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from registration.pairwise import plan as module

    space = Space.regular((60, 50, 40), 2.0)
    image: Image = phantom_pair(space, space, 0).fixed
    image = image.with_mask(image.data > 0.5) if masked else image
    pair = Pair(image, image)
    levels = [pair.level(shrink)[0] for shrink in (4, 2, 1)]
    assert all(pair.grid(shrink).same_as(level.space) for shrink, level in zip((4, 2, 1), levels, strict=True))
    cuts = [crop_to_mask(level, 8.0).space for level in levels]
    found = [module._about_mask(pair, level.space, 8.0) for level in levels]
    for one, other in zip(cuts, found, strict=True):
        assert max(abs(a - b) for a, b in zip(one.shape, other.shape, strict=True)) <= 2

    def refuse(pair: Pair, shrink: float) -> tuple[Image, Image]:
        raise AssertionError("a level was made")

    monkeypatch.setattr(module, "_seconds", lambda work: 0.01)
    monkeypatch.setattr(module, "_PROBE", {3: (20, 20, 20)})
    monkeypatch.setattr(Pair, "level", refuse)
    assert plan(pair, presets.default().diffeomorphic())


@pytest.mark.parametrize("shape", [(60, 50, 44), (90, 100)], ids=str)
def test_what_is_worked_on_is_counted_on_few_voxels(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from registration.pairwise import ground as module

    monkeypatch.setattr(module, "_COUNTED", 25)
    space = Space.regular(shape, 200 / max(shape))
    images = phantom_pair(space, space, 1)
    ground = common_ground(Pair(images.fixed, images.moving), Linear.identity(len(shape)))
    rows = region_on(ground, space, None).rows
    assert voxels_on(ground, space) == pytest.approx(float((rows[1] - rows[0]).sum()), rel=0.05)
