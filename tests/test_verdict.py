"""The verdict: good results pass, each kind of bad one is noticed, and what is worse than the start is not kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import registration
from registration.cli import main as command
from registration.evaluation.verdict import Verdict, judge
from registration.image import Image
from registration.losses import MeanSquaredError
from registration.pairwise import FieldLevel, Header, Pipeline, Preset, Silent, register
from registration.phantom import PhantomPair, phantom_pair
from registration.space import Space
from registration.transforms.base import Transform
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear


@pytest.fixture(scope="module", params=[(48, 52, 40), (90, 96)], ids=["3d", "2d"])
def phantom(request: pytest.FixtureRequest) -> PhantomPair:
    shape: tuple[int, ...] = request.param
    space = Space.regular(shape, 200 / max(shape))
    return phantom_pair(space, space, 1)


def status(verdict: Verdict, name: str) -> str:
    return next(check.status for check in verdict.checks if check.name == name)


def start(pair: PhantomPair) -> Transform:
    return Linear.identity(pair.fixed.ndim)


def test_the_truth_passes(phantom: PhantomPair) -> None:
    verdict = judge(phantom.fixed, phantom.moving, start(phantom), phantom.truth)
    assert verdict.status == "passed" and not verdict.worse, verdict.text
    told = json.loads(json.dumps(verdict.described(), allow_nan=False))
    assert (
        told["checks"]["similarity"]["value"]["after"]["lncc"] > told["checks"]["similarity"]["value"]["before"]["lncc"]
    )


def test_what_a_moving_mask_leaves_out_is_not_held_against_the_result(phantom: PhantomPair) -> None:
    inner = phantom.moving_labels.data > 1.5  # without the cortex around it
    moving = phantom.moving.with_mask(inner)
    verdict = judge(phantom.fixed, moving, start(phantom), phantom.truth)
    assert status(verdict, "common_view") == status(verdict, "sampled_outside") == "passed", verdict.text
    away = phantom.truth @ Linear.translation(torch.full((phantom.fixed.ndim,), 60.0, dtype=torch.float64))
    assert status(judge(phantom.fixed, moving, start(phantom), away), "sampled_outside") != "passed"


def test_what_a_smaller_field_of_view_misses_is_held_against_the_result(phantom: PhantomPair) -> None:
    shape = list(phantom.moving.space.shape)
    start_at = [shape[0] // 3, *[0] * (len(shape) - 1)]
    kept = [shape[0] // 4, *shape[1:]]
    window = (slice(None), slice(None), slice(start_at[0], start_at[0] + kept[0]))
    part = Image(phantom.moving.data[window], phantom.moving.space.cropped(start_at, kept))
    assert status(judge(phantom.fixed, part, start(phantom), phantom.truth), "sampled_outside") != "passed"


def test_identical_images_are_not_worse(phantom: PhantomPair) -> None:
    d = phantom.fixed.ndim
    still = judge(phantom.fixed, phantom.fixed, start(phantom), start(phantom))
    assert still.status == "passed", still.text
    nearly = Linear.translation(torch.full((d,), 0.1 * float(phantom.fixed.space.spacing[0]), dtype=torch.float64))
    assert judge(phantom.fixed, phantom.fixed, start(phantom), nearly).status == "passed"


def test_leaving_a_good_start_is_worse(phantom: PhantomPair) -> None:
    d = phantom.fixed.ndim
    away = phantom.truth @ Linear.translation(torch.tensor([12.0, -9.0, 7.0][:d], dtype=torch.float64))
    verdict = judge(phantom.fixed, phantom.moving, phantom.truth, away)
    assert "similarity fell" in verdict.worse and verdict.status == "failed"
    assert not judge(phantom.fixed, phantom.moving, away, phantom.truth).worse


def test_noise_is_noticed(phantom: PhantomPair) -> None:
    noise = phantom.moving.with_data(torch.rand_like(phantom.moving.data))
    verdict = judge(phantom.fixed, noise, start(phantom), start(phantom))
    assert status(verdict, "match") == "doubtful" and "hardly anything in common" in verdict.text


def scaled(d: int, *factors: float) -> Linear:
    return Linear(torch.diag(torch.tensor([*factors[:d], 1.0], dtype=torch.float64)))


@pytest.mark.parametrize(
    ("factors", "name", "expected"),
    [
        ((1.8, 1.8, 1.8), "scale", "doubtful"),
        ((0.2, 0.2, 0.2), "scale", "failed"),
        ((1.3, 0.75, 1.0), "shear", "doubtful"),
        ((1.0, -1.0, 1.0), "folding", "failed"),
        ((1.1, 1.1, 1.1), "scale", "passed"),
        ((1.1, 1.0, 1.0), "shear", "passed"),
    ],
)
def test_implausible_maps(phantom: PhantomPair, factors: tuple[float, ...], name: str, expected: str) -> None:
    d = phantom.fixed.ndim
    verdict = judge(phantom.fixed, phantom.moving, start(phantom), scaled(d, *factors))
    assert status(verdict, name) == expected, verdict.described()["checks"][name]
    assert bool(verdict.worse) or factors[1] > 0


def test_out_of_view(phantom: PhantomPair) -> None:
    d = phantom.fixed.ndim
    far = Linear.translation(torch.tensor([130.0, 0, 0][:d], dtype=torch.float64))
    verdict = judge(phantom.fixed, phantom.moving, start(phantom), far)
    assert status(verdict, "sampled_outside") != "passed" and status(verdict, "common_view") != "passed"
    assert verdict.worse


def bumps(space: Space, size: float, seed: int = 3) -> DisplacementField:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, space.ndim, *(6,) * space.ndim, generator=generator) * size
    mode = "bicubic" if space.ndim == 2 else "trilinear"
    return DisplacementField(torch.nn.functional.interpolate(coarse, size=list(space.shape), mode=mode)[0], space)


def test_folds_and_their_inverse(phantom: PhantomPair) -> None:
    verdict = judge(phantom.fixed, phantom.moving, start(phantom), bumps(phantom.fixed.space, 40.0))
    assert status(verdict, "folding") == "failed" and status(verdict, "inverse") == "doubtful"
    gentle = judge(phantom.fixed, phantom.moving, start(phantom), bumps(phantom.fixed.space, 2.0))
    assert status(gentle, "folding") == "passed" and status(gentle, "inverse") == "passed"


def test_a_result_without_places(phantom: PhantomPair) -> None:
    field = bumps(phantom.fixed.space, 1.0)
    field.displacement[:] = float("nan")
    verdict = judge(phantom.fixed, phantom.moving, start(phantom), field, folding=0.0)
    assert verdict.worse == "the result is not finite" and verdict.status == "failed"
    json.dumps(verdict.described())


@pytest.mark.parametrize("shape", [(20, 20, 1), (1, 20, 20), (3, 3, 3), (2, 2), (5, 64)])
def test_thin_and_tiny_images(shape: tuple[int, ...]) -> None:
    image = Image.of(torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    assert not judge(image, image, Linear.identity(len(shape)), Linear.identity(len(shape))).worse


def test_other_contrast_is_fine(phantom: PhantomPair) -> None:
    inverted = phantom.moving.with_data(1 - phantom.moving.data)
    assert judge(phantom.fixed, inverted, start(phantom), phantom.truth).status == "passed"


def test_a_wrong_loss_on_aligned_images_ends_at_the_start() -> None:
    space = Space.regular((64, 72), 2.5)
    pair = phantom_pair(space, space, 1)
    inverted = pair.fixed.with_data(1 - pair.fixed.data)
    preset = Preset((FieldLevel(2, 40, 0.3), FieldLevel(1, 40, 0.3)), before=(), fields=MeanSquaredError())
    result = Pipeline(Header(), preset.diffeomorphic()[-1:])(pair.fixed, inverted)
    assert judge(pair.fixed, inverted, result.initial, result.transform).worse
    right = register(pair.fixed, inverted, preset.affine(), Header())
    assert not judge(pair.fixed, inverted, right.initial, right.transform).worse


def test_one_call_from_python_judges_as_the_command_does(stub: Path, pair: list[str]) -> None:
    from stub_pipeline import Shift

    fixed, moving = (registration.read_image(pair[k]) for k in (1, 3))
    for offset, status in ((2.0, 0), (-9.0, 3)):
        assert command.run(["register", *pair, "--overwrite", "-q", f"pipeline.offset={offset}"]) == status
        told = json.loads((Path(pair[-1]) / "metrics.json").read_text())["verdict"]
        found = registration.judge_result(fixed, moving, Shift(offset)(fixed, moving, None, Silent()))
        # What to try is about options of the command, and told by it alone.
        for each in (told, *told["checks"].values()):
            each.pop("advice", None)
        assert found.described() == {name: value for name, value in told.items() if name != "kept"}
        assert bool(found.worse) == (status == 3)


def test_the_command_keeps_the_start(stub: Path, pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["register", *pair, "pipeline.offset=2"]) == 0
    good = capsys.readouterr()
    assert "verdict    " in good.out and good.err.count("kept") == 0
    assert command.run(["register", *pair, "--overwrite", "-q", "pipeline.offset=-9"]) == 3
    seen = capsys.readouterr()
    assert seen.out == "" and seen.err.count("\n") == 1 and "the initial alignment is kept" in seen.err
    folder = Path(pair[-1])
    told = json.loads((folder / "metrics.json").read_text())
    assert told["verdict"]["kept"] == "initial" and told["verdict"]["status"] == "failed"
    assert told["verdict"]["advice"] and told["verdict"]["checks"]["similarity"]["advice"]
    transform = registration.read_transform(folder / "transform.h5")[0]
    assert isinstance(transform, Linear) and transform.is_identity()
    moving, fixed = (registration.read_image(pair[k]) for k in (3, 1))
    expected = registration.warp(moving, transform, fixed.space)[0].data.round()
    assert (registration.read_image(folder / "warped.nii.gz").data - expected).abs().max() <= 1
