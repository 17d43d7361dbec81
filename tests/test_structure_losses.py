"""Losses that compare structure, and sums of losses: slow loops, gradients to both images, anisotropy, refusals."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from registration.losses import (
    LocalNormalisedCrossCorrelation,
    MeanSquaredError,
    MutualInformation,
    NormalisedGradientFields,
    Part,
    SelfSimilarityContext,
    Similarity,
    WeightedSum,
)

BOTH_SIDES = [
    SelfSimilarityContext(1, 1),
    SelfSimilarityContext(1, 2, sigma=0.5),
    SelfSimilarityContext(2, 2, absolute=True),
    NormalisedGradientFields(),
    NormalisedGradientFields(0.3, (1.0, 3.0)),
    WeightedSum([Part(SelfSimilarityContext(), 2.0), Part(MeanSquaredError(), 0.5, [1])]),
]


def images(*shape: int, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    first, second = torch.rand(2, 2, channels, *shape, generator=generator, dtype=torch.float64)
    return (0.5 * first + 0.5 * second).requires_grad_(), second.requires_grad_()


def some(*shape: int) -> torch.Tensor:
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(4)) > 0.3


def grads(value: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(value.sum(), inputs)


@pytest.mark.parametrize("loss", BOTH_SIDES, ids=lambda loss: type(loss).__name__)
def test_the_gradient_reaches_both_images(loss: Similarity) -> None:
    warped, fixed = images(9, 8)
    for mask in (None, some(9, 8)):
        assert torch.autograd.gradcheck(lambda x, y, m=mask: loss(x, y, m), (warped, fixed), fast_mode=True)


# --- self-similarity context -----------------------------------------------------------------------------------------
def slow_descriptor(image: torch.Tensor, inside: torch.Tensor, radius: int, dilation: int, floor: float) -> dict:
    """Voxel -> pair of offsets -> entry, for a (*S) image."""
    d = image.ndim
    units = [tuple(sign * dilation * int(a == axis) for a in range(d)) for axis in range(d) for sign in (1, -1)]
    pairs = [(a, b) for a, b in itertools.combinations(range(2 * d), 2) if a // 2 != b // 2]
    patch = list(itertools.product(range(-radius, radius + 1), repeat=d))
    known = {
        place: float(image[place])
        for place in itertools.product(*(range(n) for n in image.shape))
        if bool(inside[place])
    }

    def value(*steps: tuple[int, ...]) -> float | None:
        return known.get(tuple(map(sum, zip(*steps, strict=True))))

    result = {}
    for voxel in itertools.product(*(range(n) for n in image.shape)):
        distances = {}
        for a, b in pairs:
            squares = []
            for offset in patch:
                one, other = (value(voxel, offset, units[k]) for k in (a, b))
                if one is not None and other is not None:
                    squares.append((one - other) ** 2)
            if squares:
                distances[a, b] = sum(squares) / len(squares)
        if distances:
            least, mean = min(distances.values()), sum(distances.values()) / len(distances)
            entries = {pair: math.exp((least - s) / (mean + floor)) for pair, s in distances.items()}
            result[voxel] = entries
    return result


@pytest.mark.parametrize("shape", [(8, 7), (4, 5, 3), (5, 1, 6)])
@pytest.mark.parametrize("absolute", [False, True])
def test_mind_equals_a_slow_loop(shape: tuple[int, ...], absolute: bool) -> None:
    first, second = (x.detach() for x in images(*shape, channels=1))
    weights = torch.rand(2, 1, *shape, dtype=torch.float64) * some(*shape)
    loss = SelfSimilarityContext(1, 2 if len(shape) == 2 else 1, absolute=absolute, variance_floor=1e-3)
    for mask in (None, weights):
        found = loss(first, second, mask)
        for b in range(2):
            weight = torch.ones(shape) if mask is None else mask[b, 0]
            sides = [slow_descriptor(x[b, 0], weight > 0, 1, loss.description.dilation, 1e-3) for x in (first, second)]
            total = count = 0.0
            for voxel, entries in sides[0].items():
                for pair, entry in entries.items():
                    difference = entry - sides[1][voxel][pair]
                    total += float(weight[voxel]) * (abs(difference) if absolute else difference**2)
                    count += float(weight[voxel])
            assert float(found[b]) == pytest.approx(total / count, rel=1e-9)


def test_mind_is_the_same_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    warped, fixed = images(30, 9, 8)
    loss, mask = SelfSimilarityContext(2, 2), some(30, 9, 8)
    whole = [loss(warped, fixed, m) for m in (None, mask)]
    expected = [grads(v, warped, fixed) for v in whole]
    monkeypatch.setattr("registration.losses._contexts._CHUNK", 100)
    for m, value, slopes in zip((None, mask), whole, expected, strict=True):
        again = loss(warped, fixed, m)
        torch.testing.assert_close(again, value)
        torch.testing.assert_close(grads(again, warped, fixed), slopes)
        torch.testing.assert_close(loss.bind(fixed, m)(warped), value)


def test_mind_does_not_mind_another_contrast() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(1, 1, 6, 6, 6, generator=generator).repeat_interleave(5, 2).repeat_interleave(5, 3)
    blocks = blocks.repeat_interleave(5, 4)
    other = (blocks - 0.5).abs() + 0.3 * (7 * blocks).sin()
    losses = SelfSimilarityContext()
    matched, shifted = float(losses(other, blocks)), float(losses(other.roll(2, dims=3), blocks))
    assert matched < 0.6 * shifted and shifted < 1.3 * float(losses.unrelated(other, blocks))
    torch.testing.assert_close(losses(1 - blocks, blocks), torch.zeros(1))


def test_a_descriptor_has_12_entries_in_space_and_4_in_the_plane() -> None:
    loss = SelfSimilarityContext(1, 1)
    assert loss.describe(torch.rand(1, 2, 5, 6, 7)).shape == (1, 24, 5, 6, 7)
    assert loss.describe(torch.rand(2, 1, 5, 6)).shape == (2, 4, 5, 6)
    assert loss.describe(torch.rand(1, 1, 5, 1, 7)).shape == (1, 4, 5, 1, 7)


def test_an_image_too_small_for_its_neighbours_is_no_evidence() -> None:
    x, y = torch.rand(2, 1, 1, 3, 3, dtype=torch.float64)
    loss = SelfSimilarityContext(1, 4)
    value = loss(x.requires_grad_(), y)
    assert float(value.detach()) == float(loss.unrelated(x, y)) == 1.0
    assert bool((grads(value, x)[0] == 0).all())


# --- normalised gradient fields --------------------------------------------------------------------------------------
def slow_ngf(x: torch.Tensor, y: torch.Tensor, noise: float, spacing: tuple[float, ...]) -> float:
    sides = []
    for image in (x, y):
        slopes = []
        for axis, step in enumerate(spacing):
            (slope,) = torch.gradient(image, spacing=step, dim=axis)
            slopes.append(slope)
        gradient = torch.stack(slopes)
        edge = noise * gradient.norm(dim=0).mean()
        sides.append(gradient / (gradient.square().sum(0) + edge**2).sqrt())
    return 1 - float((sides[0] * sides[1]).sum(0).square().mean())


@pytest.mark.parametrize(("shape", "spacing"), [((9, 8), (1.0, 2.5)), ((6, 7, 8), (0.4, 1.0, 2.0))])
def test_ngf_equals_the_formula(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    warped, fixed = (x.detach() for x in images(*shape, channels=1))
    loss = NormalisedGradientFields(0.7).spaced(spacing)
    for b in range(2):
        expected = slow_ngf(warped[b, 0], fixed[b, 0], 0.7, spacing)
        assert float(loss(warped, fixed)[b]) == pytest.approx(expected, abs=1e-12)
    assert float(loss(warped, fixed)[0]) != pytest.approx(
        float(NormalisedGradientFields(0.7)(warped, fixed)[0]), abs=1e-4
    )


def test_ngf_accepts_inverted_contrast_and_any_gain() -> None:
    warped, fixed = (x.detach() for x in images(8, 9, 7))
    loss = NormalisedGradientFields()
    torch.testing.assert_close(loss(-3 * warped + 40, fixed / 100), loss(warped, fixed))


# --- sums and mutual information -------------------------------------------------------------------------------------
def test_a_weighted_sum_is_the_sum_of_its_parts_on_their_channels() -> None:
    warped, fixed = (x.detach() for x in images(9, 8, channels=3))
    mask = some(9, 8)
    first, second = NormalisedGradientFields(), LocalNormalisedCrossCorrelation(1)
    loss = WeightedSum([Part(first, 2.0, [0, 2]), Part(second, 0.5, [1])])
    expected = 2 * first(warped[:, [0, 2]], fixed[:, [0, 2]], mask) + 0.5 * second(warped[:, [1]], fixed[:, [1]], mask)
    torch.testing.assert_close(loss(warped, fixed, mask), expected)
    torch.testing.assert_close(loss.bind(fixed, mask, warped)(warped), expected)
    spaced = loss.spaced((1.0, 3.0)).parts[0].similarity
    assert isinstance(spaced, NormalisedGradientFields) and spaced.spacing == (1.0, 3.0)


@pytest.mark.parametrize("loss", [*BOTH_SIDES[:4], MutualInformation(10)], ids=lambda loss: type(loss).__name__)
def test_channels_are_averaged(loss: Similarity) -> None:
    warped, fixed = (x.detach() for x in images(9, 8, channels=3))
    for mask in (None, some(9, 8)):
        each = torch.stack([loss(warped[:, [c]], fixed[:, [c]], mask) for c in range(3)])
        torch.testing.assert_close(loss(warped, fixed, mask), each.mean(dim=0))


def test_mutual_information_moves_the_fixed_image_as_the_moving_one() -> None:
    warped, fixed = images(9, 8)
    loss, swapped = (
        MutualInformation(10, fixed_range=a, moving_range=b) for a, b in (((0, 1), (0, 2)), ((0, 2), (0, 1)))
    )
    value = loss(warped, fixed)
    torch.testing.assert_close(value, loss(warped, fixed.detach()))
    to_warped, to_fixed = grads(value, warped, fixed)
    torch.testing.assert_close(to_warped, grads(loss(warped, fixed.detach()), warped)[0])
    torch.testing.assert_close(to_fixed, grads(swapped(fixed, warped.detach()), fixed)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SelfSimilarityContext(-1), "radius is a whole number from 0"),
        (lambda: SelfSimilarityContext(dilation=0), "dilation is a whole number from 1"),
        (lambda: SelfSimilarityContext(sigma=0.0), "sigma is a number above 0"),
        (lambda: NormalisedGradientFields(0), "noise is a number above 0"),
        (lambda: NormalisedGradientFields(1, (1, 0)), "spacing is a number above 0"),
        (lambda: NormalisedGradientFields(1, (1, 2, 3))(*images(5, 4)), "3 spacings"),
        (lambda: WeightedSum([]), "at least one"),
        (lambda: Part(MeanSquaredError(), -1), "weight is a number above 0"),
        (lambda: Part(MeanSquaredError(), 1, [-1]), "channels is a whole number from 0"),
        (lambda: WeightedSum([Part(MeanSquaredError(), 1, [2])])(*images(5, 4)), "do not exist in an image with 2"),
    ],
)
def test_errors_say_what_was_expected(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
