from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from registration.losses import (
    LocalMutualInformation,
    LocalNormalisedCrossCorrelation,
    MeanSquaredError,
    MutualInformation,
    NormalisedCrossCorrelation,
    NormalisedGradientFields,
    Part,
    SelfSimilarityContext,
    Similarity,
    WeightedSum,
    _windows,
)

WIDE = (-0.2, 1.2)  # contains the test images, so that no voxel sits on the edge of the histogram
SIMILARITIES = [
    MeanSquaredError(),
    NormalisedCrossCorrelation(),
    NormalisedCrossCorrelation(squared=True),
    LocalNormalisedCrossCorrelation(1),
    LocalNormalisedCrossCorrelation(2, variance_floor=1e-2),
    MutualInformation(10, fixed_range=WIDE, moving_range=WIDE),
    MutualInformation(10, normalised=True, fixed_range=WIDE, moving_range=WIDE),
    MutualInformation(12, tail=0),
    LocalMutualInformation(8, 0.6, 1, 20.0),
    SelfSimilarityContext(1, 1),
    SelfSimilarityContext(1, 2, sigma=0.4),
    NormalisedGradientFields(),
    WeightedSum([Part(SelfSimilarityContext(1, 1)), Part(NormalisedCrossCorrelation(), 0.5, [0])]),
]
# A range taken from an image is a constant to the gradient, and is that of the bound mask in a bound loss.
KNOWN_RANGE = [s for s in SIMILARITIES if getattr(s, "fixed_range", WIDE) is not None]
KNOWN_RANGE.append(LocalMutualInformation(8, 0.6, 1, 20.0, WIDE, WIDE))
EVERY = pytest.mark.parametrize("loss", SIMILARITIES, ids=lambda loss: type(loss).__name__)
EXACT = pytest.mark.parametrize("loss", KNOWN_RANGE, ids=lambda loss: type(loss).__name__)
BOTH = pytest.mark.parametrize("shape", [(9, 8), (7, 5, 6), (6, 1, 7)])


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pair(shape: tuple[int, ...], batch: int = 2, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images that share something."""
    fixed, other = noise(batch, channels, *shape), noise(batch, channels, *shape, seed=1)
    return (0.6 * fixed + 0.4 * other).requires_grad_(), fixed


def masks(shape: tuple[int, ...], batch: int = 2) -> list[torch.Tensor | None]:
    weights = noise(batch, 1, *shape, seed=2)
    return [None, weights > 0.3, (weights > 0.3)[:1], weights * (weights > 0.3)]


def derivative(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    (grad,) = torch.autograd.grad(value.sum(), x)
    return grad


@EXACT
@BOTH
def test_gradient_is_exact_with_every_mask(loss: Similarity, shape: tuple[int, ...]) -> None:
    warped, fixed = pair(shape)
    for mask in masks(shape):
        assert torch.autograd.gradcheck(lambda x, m=mask: loss(x, fixed, m), warped, fast_mode=True)


def test_lncc_gradient_reaches_the_fixed_image_too() -> None:
    warped, fixed = pair((4, 5))
    loss = LocalNormalisedCrossCorrelation(1)
    fixed.requires_grad_()
    for mask in masks((4, 5)):
        assert torch.autograd.gradcheck(lambda x, y, m=mask: loss(x, y, m), (warped, fixed), fast_mode=True)


@EVERY
@BOTH
def test_batch_items_are_independent(loss: Similarity, shape: tuple[int, ...]) -> None:
    warped, fixed = pair(shape)
    for mask in masks(shape):
        together = loss(warped, fixed, mask)
        assert together.shape == (2,)
        grad = derivative(together, warped)
        for b in range(2):
            own = None if mask is None else mask[[b % len(mask)]]
            alone = loss(warped[[b]], fixed[[b]], own)
            torch.testing.assert_close(alone, together[[b]])
            torch.testing.assert_close(derivative(alone, warped)[b], grad[b])


@EXACT
@BOTH
def test_bound_loss_is_the_loss(loss: Similarity, shape: tuple[int, ...]) -> None:
    warped, fixed = pair(shape)
    for first, second in itertools.product(masks(shape), masks(shape)):
        both = second if first is None else first if second is None else first.double() * second.double()
        value, expected = loss.bind(fixed, first)(warped, second), loss(warped, fixed, both)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(derivative(value, warped), derivative(expected, warped))


@EVERY
def test_bound_to_one_fixed_image_serves_a_batch(loss: Similarity) -> None:
    warped, fixed = pair((9, 8))
    value = loss.bind(fixed[:1], moving=warped.detach())(warped)
    torch.testing.assert_close(value, loss(warped, fixed[:1].expand(2, -1, -1, -1)))


@EVERY
@BOTH
def test_an_image_fits_itself_best(loss: Similarity, shape: tuple[int, ...]) -> None:
    warped, fixed = pair(shape)
    at_identity, disturbed = loss(fixed, fixed), loss(warped.detach(), fixed)
    rolled = loss(fixed.roll(1, dims=2), fixed)
    assert bool((at_identity < disturbed).all() and (disturbed < rolled).all())


@EVERY
@BOTH
def test_masked_voxels_have_no_influence(loss: Similarity, shape: tuple[int, ...]) -> None:
    warped, fixed = pair(shape)
    mask = noise(2, 1, *shape, seed=2) > 0.3
    expected = loss(warped, fixed, mask)
    grad = derivative(expected, warped)
    assert bool((grad[(~mask).expand_as(grad)] == 0).all())
    other = torch.where(mask, warped, 7.0)
    value = loss(other, torch.where(mask, fixed, -30.0), mask)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(derivative(value, warped), grad)


@EVERY
def test_weights_of_one_are_no_mask(loss: Similarity) -> None:
    warped, fixed = pair((9, 8))
    expected = loss(warped, fixed)
    torch.testing.assert_close(loss(warped, fixed, torch.ones(1, 1, 9, 8)), expected)
    torch.testing.assert_close(loss(warped, fixed, torch.full((1, 1, 9, 8), 0.25)), expected)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_mask_is_no_evidence(loss: Similarity, dtype: torch.dtype) -> None:
    warped, fixed = (t.detach().to(dtype) for t in pair((9, 8)))
    warped.requires_grad_()
    mask = torch.ones(2, 1, 9, 8, dtype=torch.bool)
    mask[1] = False
    value = loss(warped, fixed, mask)
    torch.testing.assert_close(value[1], loss.unrelated(warped, fixed)[1])
    torch.testing.assert_close(value[0], loss(warped, fixed)[0])
    assert bool((derivative(value, warped)[1] == 0).all())
    assert float(loss(fixed, fixed)[1]) < float(value[1].detach()), "no overlap must not look like a fit"
    bound = loss.bind(fixed)(warped, mask)
    torch.testing.assert_close(bound, value)


@EVERY
@pytest.mark.parametrize("level", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_images_give_finite_values_and_no_gradient(loss: Similarity, level: float, dtype: torch.dtype) -> None:
    flat = torch.full((1, 1, 9, 8), level, dtype=dtype, requires_grad=True)
    for fixed in (noise(1, 1, 9, 8).to(dtype), torch.full((1, 1, 9, 8), 0.3, dtype=dtype)):
        for mask in (None, noise(1, 1, 9, 8, seed=3) > 0.5):
            value = loss(flat, fixed, mask)
            grad = derivative(value, flat)
            assert bool(torch.isfinite(value).all() and torch.isfinite(grad).all())
            if not isinstance(loss, MeanSquaredError):
                torch.testing.assert_close(grad, torch.zeros_like(grad), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "loss",
    [NormalisedCrossCorrelation(), LocalNormalisedCrossCorrelation(1, 1e-13), MutualInformation(12, tail=0)],
    ids=lambda loss: type(loss).__name__,
)
@BOTH
def test_invariant_to_gain_and_offset(loss: Similarity, shape: tuple[int, ...]) -> None:
    warped, fixed = pair(shape)
    for mask in masks(shape):
        expected = loss(warped, fixed, mask)
        torch.testing.assert_close(loss(3 * warped + 40, 0.5 * fixed - 2, mask), expected)


def test_invariant_to_inverted_contrast() -> None:
    warped, fixed = pair((7, 5, 6))
    for loss in (
        NormalisedCrossCorrelation(squared=True),
        LocalNormalisedCrossCorrelation(1),
        MutualInformation(tail=0),
    ):
        torch.testing.assert_close(loss(-warped, fixed), loss(warped, fixed))
    torch.testing.assert_close(NormalisedCrossCorrelation()(-fixed, fixed), torch.full((2,), 2.0, dtype=torch.float64))


def test_mi_sees_only_the_bins_of_the_fixed_image() -> None:
    warped, fixed = pair((16, 16))
    loss = MutualInformation(12, fixed_range=(0.0, 1.0))
    coarse = fixed * 8
    curved = (coarse.floor() + coarse.frac() ** 2 * 0.99 + 0.005) / 8
    assert float((curved - fixed).abs().max()) > 0.02
    torch.testing.assert_close(loss(warped, curved), loss(warped, fixed))


# --- against slow or other implementations --------------------------------------------------------------------------
def slow_lncc(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, radius: tuple[int, ...], floor: float) -> torch.Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for index in itertools.product(*map(range, x.shape)):
        window = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(index, radius, strict=True))
        weight = w[window] / w[window].sum().clamp_min(1e-300)
        a, b = (t[window] - (weight * t[window]).sum() for t in (x, y))
        cov, var_a, var_b = ((weight * p).sum() for p in (a * b, a * a, b * b))
        total = total + w[index] * cov**2 / ((var_a + floor) * (var_b + floor))
    return 1 - total / w.sum()


@pytest.mark.parametrize(("shape", "radius"), [((11, 9), (1, 3)), ((9, 4, 6), (2, 1, 2)), ((5, 1, 6), (2, 2, 2))])
@pytest.mark.parametrize("chunk", [1, 1 << 19])
def test_lncc_equals_a_slow_loop(
    shape: tuple[int, ...], radius: tuple[int, ...], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_windows, "_CHUNK", chunk)  # slabs must be invisible
    warped, fixed = pair(shape, batch=1, channels=1)
    loss = LocalNormalisedCrossCorrelation(radius, 1e-3)
    for mask in masks(shape, batch=1):
        weight = torch.ones(shape).double() if mask is None else mask[0, 0].double()
        expected = slow_lncc(warped[0, 0], fixed[0, 0], weight, radius, 1e-3)
        grad = derivative(expected, warped)
        for value in (loss(warped, fixed, mask), loss.bind(fixed, mask)(warped), loss.bind(fixed)(warped, mask)):
            torch.testing.assert_close(value[0], expected)
            torch.testing.assert_close(derivative(value, warped), grad)


@pytest.mark.parametrize("shape", [(24, 21), (14, 13, 15)])
def test_lncc_agrees_with_monai_inside(shape: tuple[int, ...]) -> None:
    from monai.losses.image_dissimilarity import LocalNormalizedCrossCorrelationLoss

    warped, fixed = pair(shape, batch=1, channels=1)
    other = LocalNormalizedCrossCorrelationLoss(len(shape), kernel_size=5, smooth_nr=0.0, smooth_dr=1e-12)
    ours = derivative(LocalNormalisedCrossCorrelation(2, 1e-14)(warped, fixed), warped)
    theirs = derivative(other(warped, fixed), warped)
    inside = (..., *[slice(4, -4)] * len(shape))  # windows of these voxels never meet the border
    torch.testing.assert_close(ours[inside], theirs[inside], rtol=1e-5, atol=1e-9)


def test_lncc_is_accurate_in_float32_far_from_zero() -> None:
    warped, fixed = (t.detach().float() + 1000 for t in pair((24, 22, 20), batch=1, channels=1))
    loss = LocalNormalisedCrossCorrelation(2, 1e-3)
    single, double = warped.requires_grad_(), warped.detach().double().requires_grad_()
    for mask in masks((24, 22, 20), batch=1):
        a, b = loss(single, fixed, mask), loss(double, fixed.double(), mask)
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)
        grad = derivative(b, double)
        assert float((derivative(a, single).double() - grad).norm() / grad.norm()) < 1e-4


def test_lncc_of_flat_regions_is_not_rounding_noise() -> None:
    ct = torch.full((1, 1, 20, 20, 20), -1000.0)
    ct[..., 8:12, 8:12, 8:12] = 2000 + noise(4, 4, 4, dtype=torch.float32)
    air = ct + 1e-4 * noise(1, 1, 20, 20, 20, dtype=torch.float32)
    value = LocalNormalisedCrossCorrelation(1)(ct, air)
    mask = torch.zeros(1, 1, 20, 20, 20)
    mask[:, :, :4] = 1
    assert 0 <= float(value) <= 1
    assert float(LocalNormalisedCrossCorrelation(1)(ct + ct.flip(2), air, mask)) > 0.99


def slow_joint(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, bins: int, span: tuple[float, float]) -> np.ndarray:
    joint = np.zeros((bins, bins))
    place = lambda v: (float(v) - span[0]) / (span[1] - span[0]) * (bins - 4) + 2  # noqa: E731
    for a, b, weight in zip(x.flatten(), y.flatten(), w.flatten(), strict=True):
        for column in range(bins):
            u = abs(column - place(a))
            spline = (4 - 6 * u**2 + 3 * u**3) / 6 if u < 1 else max(0.0, 2 - u) ** 3 / 6
            joint[int(place(b)), column] += float(weight) * spline
    return joint / joint.sum()


@BOTH
@pytest.mark.parametrize("normalised", [False, True])
def test_mi_equals_a_slow_loop(shape: tuple[int, ...], normalised: bool) -> None:
    warped, fixed = (t.detach() for t in pair(shape, batch=1, channels=1))
    for mask in masks(shape, batch=1):
        joint = slow_joint(warped, fixed, torch.ones(shape) if mask is None else mask.double(), 10, WIDE)
        entropy = [-np.sum(p[p > 0] * np.log(p[p > 0])) for p in (joint, joint.sum(0), joint.sum(1))]
        expected = (entropy[1] + entropy[2]) / entropy[0] if normalised else entropy[1] + entropy[2] - entropy[0]
        loss = MutualInformation(10, normalised, fixed_range=WIDE, moving_range=WIDE)
        assert float(loss(warped, fixed, mask)) == pytest.approx(-expected, abs=1e-12)


@pytest.mark.parametrize("bins", [16, 32])
def test_mi_equals_the_mattes_metric_of_simpleitk(bins: int) -> None:
    import SimpleITK as sitk

    fixed = noise(14, 15, 16).numpy().astype(np.float32)
    moving = (fixed**2 + 0.2 * noise(14, 15, 16, seed=5).numpy()).astype(np.float32)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(bins)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInitialTransform(sitk.TranslationTransform(3))
    method.SetInterpolator(sitk.sitkLinear)
    expected = method.MetricEvaluate(sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving))
    value = MutualInformation(bins, tail=0)(torch.tensor(moving)[None, None], torch.tensor(fixed)[None, None])
    assert float(value) == pytest.approx(expected, abs=1e-5)


def test_mi_range_ignores_a_few_outliers() -> None:
    warped, fixed = (t.detach() for t in pair((40, 40), batch=1, channels=1))
    spiked = warped.clone()
    spiked[0, 0, 3, 3] = 1e4
    loss = MutualInformation(16, tail=2e-3)
    torch.testing.assert_close(loss(spiked, fixed), loss(warped, fixed), rtol=0.05, atol=0)
    assert float(MutualInformation(16, tail=0)(spiked, fixed)) > 0.1 * float(loss(warped, fixed))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: MeanSquaredError()(x, x[..., 1:]), "must have one shape"),
        (lambda x: MeanSquaredError()(x, x, torch.ones(4, 4)), "need a mask"),
        (lambda x: MeanSquaredError()(x[0], x[0]), r"\(B, C, \*S\)"),
        (lambda x: LocalNormalisedCrossCorrelation((1, 2, 3))(x, x), "3 radii"),
        (lambda x: LocalNormalisedCrossCorrelation(-1), "radius is a whole number from 0"),
        (lambda x: MutualInformation(4), "bins is a whole number from 8"),
        (lambda x: MutualInformation(fixed_range=(1, 1)), "low < high"),
    ],
)
def test_errors_say_what_was_expected(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 1, 4, 4))


def test_mi_has_no_gradient_beyond_its_range() -> None:
    warped, fixed = pair((9, 8))
    loss = MutualInformation(10, moving_range=(0.3, 0.6))
    assert torch.autograd.gradcheck(lambda x: loss(x, fixed), warped, fast_mode=True)
    grad = derivative(loss(warped, fixed), warped)
    beyond = (warped < 0.3) | (warped > 0.6)
    assert bool((grad[beyond] == 0).all() and (grad[~beyond] != 0).any())
