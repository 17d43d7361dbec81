"""Figures against other people's: MONAI, SciPy, SimpleITK, slow loops, and the formulas of the Learn2Reg evaluation."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from registration.evaluation import learn2reg
from registration.evaluation.jacobian import (
    folded_cells,
    inverse_consistency,
    jacobian_figures,
    sd_log_jacobian,
    simplex_folding_percent,
)
from registration.evaluation.metrics import dice, jaccard, jacobian_determinants, target_registration_error
from registration.evaluation.similarity import similarity_figures
from registration.evaluation.surfaces import surface_distances
from registration.image import Image
from registration.io.images import read_labels
from registration.io.transforms import read_transform
from registration.phantom import Bumps, oblique_space
from registration.space import Space
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance, compute_iou
    from monai.metrics.utils import get_code_to_measure_table, get_mask_edges


def blobs(seed: int, shape: tuple[int, ...], labels: int = 3) -> torch.Tensor:
    """A label map of smooth shapes, some of which touch the border."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) for _ in range(labels + 1)]
    return torch.from_numpy(np.argmax(fields, axis=0)).float()


def one_hot(labels: torch.Tensor, wanted: list[int]) -> torch.Tensor:
    return torch.stack([labels == label for label in wanted])[None].float()


def surfaces_in_float64(a: np.ndarray, b: np.ndarray, spacing: list[float]) -> tuple[float, float]:
    """HD95 and ASSD from MONAI's edges and SciPy's distance transform."""
    edges = get_mask_edges(a, b, crop=False)
    distances = [
        ndimage.distance_transform_edt(~edges[1 - n], sampling=spacing)[edges[n]] for n in range(2)
    ]  # fmt: skip
    return max(np.percentile(part, 95) for part in distances), float(np.concatenate(distances).mean())


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(17, 14), (13, 11, 9), (12, 10, 1)]))
def test_overlaps_and_surfaces_equal_monai(seed: int, shape: tuple[int, ...]) -> None:
    spacing = [0.7, 1.9, 3.1][: len(shape)]
    space = oblique_space(shape, spacing, 25, flips=(0,))
    a, b = blobs(seed, shape), blobs(seed + 1, shape)
    labels = [k for k in (1, 2, 3) if (a == k).any() and (b == k).any()]
    hot_a, hot_b = one_hot(a, labels), one_hot(b, labels)
    ours = dice(a, b, labels)
    assert list(ours.values()) == pytest.approx(compute_dice(hot_b, hot_a)[0].tolist(), abs=1e-6)
    assert list(jaccard(ours).values()) == pytest.approx(compute_iou(hot_b, hot_a)[0].tolist(), abs=1e-6)
    found = surface_distances(a, b, space, labels)
    hd95 = compute_hausdorff_distance(hot_b, hot_a, include_background=True, percentile=95, spacing=spacing)[0]
    assd = compute_average_surface_distance(hot_b, hot_a, include_background=True, symmetric=True, spacing=spacing)[0]
    for n, label in enumerate(labels):
        pair = found[label]
        assert pair is not None
        exact = surfaces_in_float64((a == label).numpy(), (b == label).numpy(), spacing)
        assert (pair.hd95, pair.assd) == pytest.approx(exact, abs=1e-6)
        # MONAI keeps distances, and the weights between two of them, in float32.
        assert (pair.hd95, pair.assd) == pytest.approx((float(hd95[n]), float(assd[n])), abs=1e-5, rel=2e-6)


def test_dice_is_exact() -> None:
    a, b = blobs(0, (21, 20, 19)), blobs(1, (21, 20, 19))
    for label, value in dice(a, b).items():
        both, sizes = int(((a == label) & (b == label)).sum()), int((a == label).sum() + (b == label).sum())
        assert value == 2 * both / sizes
        assert jaccard({label: value})[label] == pytest.approx(both / (sizes - both), rel=1e-15)


def test_surfaces_of_what_is_not_there() -> None:
    space = Space.regular((9, 8))
    a = torch.zeros(9, 8)
    a[2:5, 2:5] = 4
    assert surface_distances(a, torch.zeros(9, 8), space, [4, 7]) == {4: None, 7: None}
    same = surface_distances(a, a, space, [4])[4]
    assert same is not None and (same.hd95, same.assd) == (0.0, 0.0)
    with pytest.raises(ValueError, match="does not fit"):
        surface_distances(a, a[:4], space, [4])


def test_surfaces_on_a_sheared_grid_are_in_the_world() -> None:
    affine = torch.tensor([[2.0, 1.5, 0], [0, 1.0, 0], [0, 0, 1]], dtype=torch.float64)
    space = Space((12, 12), affine)
    a, b = torch.zeros(12, 12), torch.zeros(12, 12)
    a[3, 4] = b[5, 9] = 1
    found = surface_distances(a, b, space, [1])[1]
    expected = float((affine[:2, :2] @ torch.tensor([2.0, 5.0], dtype=torch.float64)).norm())
    assert found is not None and found.hd95 == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_landmark_distances_equal_simpleitk(d: int, tmp_path: Path) -> None:
    space = oblique_space((14, 11, 9)[:d], (1.1, 2.3, 3.7)[:d], 35, flips=(1,))
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(*space.shape[::-1], d, generator=generator).numpy()
    image = sitk.GetImageFromArray(vectors, isVector=True)
    lps = np.array([-1.0, -1.0, 1.0])[:d]
    axes = lps[:, None] * space.affine[:d, :d].numpy()
    image.SetOrigin((lps * space.affine[:d, d].numpy()).tolist())
    image.SetSpacing(space.spacing.tolist())
    image.SetDirection((axes / space.spacing.numpy()).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "field.mha"))
    theirs = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))
    ours, _ = read_transform(tmp_path / "field.mha")
    inner = torch.rand(50, d, generator=generator, dtype=torch.float64) * (torch.tensor(space.shape) - 1)
    fixed = Linear(space.affine)(inner)
    moving = fixed + torch.randn(50, d, generator=generator, dtype=torch.float64)
    mapped = np.array([theirs.TransformPoint((p * lps).tolist()) for p in fixed.numpy()]) * lps
    expected = np.linalg.norm(mapped - moving.numpy(), axis=1)
    assert target_registration_error(ours, fixed, moving).numpy() == pytest.approx(expected, abs=1e-6)


def test_landmark_distances_through_a_field_equal_scipy() -> None:
    space = oblique_space((14, 11, 9), (1.1, 2.3, 3.7), 35, flips=(1,))
    generator = torch.Generator().manual_seed(3)
    moves = torch.randn(3, *space.shape, generator=generator)
    index = torch.rand(60, 3, generator=generator, dtype=torch.float64) * (torch.tensor(space.shape) - 1)
    fixed = Linear(space.affine)(index)
    moving = fixed + 1
    shifts = [ndimage.map_coordinates(part.double().numpy(), index.numpy().T, order=1) for part in moves]
    expected = np.linalg.norm(fixed.numpy() + np.stack(shifts, axis=1) - moving.numpy(), axis=1)
    found = target_registration_error(DisplacementField(moves, space), fixed, moving)
    assert found.numpy() == pytest.approx(expected, abs=1e-6)


def slow_simplices(mapped: np.ndarray, sign: float) -> np.ndarray:
    """Cells with a simplex of wrong orientation, corner by corner."""
    d = mapped.shape[-1]
    units = np.eye(d, dtype=int)
    bad = np.zeros([n - 1 for n in mapped.shape[:-1]], dtype=bool)
    for cell in np.ndindex(*bad.shape):
        for corner in itertools.product((0, 1), repeat=d):
            at = np.array(cell) + corner
            # Away from the corner into the cell: a step of the other sign for every 1 of the corner.
            edges = [
                (mapped[tuple(at + (1 - 2 * c) * e)] - mapped[tuple(at)]) for c, e in zip(corner, units, strict=True)
            ]
            bad[cell] |= np.linalg.det(edges) * (-1) ** sum(corner) * sign <= 0
        if d == 3:
            for parity in (0, 1):
                nodes = [c for c in itertools.product((0, 1), repeat=3) if sum(c) % 2 == parity]
                here = [mapped[tuple(np.array(cell) + n)] for n in nodes]
                flat = np.linalg.det(np.diff(np.array(nodes), axis=0))
                bad[cell] |= np.linalg.det(np.diff(here, axis=0)) * flat * sign <= 0
    return bad


@pytest.mark.parametrize("shape", [(9, 8), (6, 5, 4)])
@pytest.mark.parametrize("flips", [(), (0,)])
def test_simplices_equal_a_slow_loop(shape: tuple[int, ...], flips: tuple[int, ...]) -> None:
    space = oblique_space(shape, [1.0, 1.7, 2.4][: len(shape)], 20, flips=flips)
    for amount in (0.3, 0.45):
        moves = amount * torch.randn(len(shape), *shape, generator=torch.Generator().manual_seed(1))
        mapped = DisplacementField(moves, space).on_grid(space)
        keeps = float(torch.linalg.det(space.affine)) > 0
        expected = slow_simplices(mapped.double().numpy(), 1.0 if keeps else -1.0)
        assert np.array_equal(folded_cells(mapped, keeps).numpy(), expected)
        assert 0 < expected.mean() < 1
        percent = simplex_folding_percent(DisplacementField(moves, space), space)
        assert percent == pytest.approx(100 * expected.mean())


def test_simplices_see_the_fold_that_central_differences_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space.regular((20, 18, 16))
    moves = torch.zeros(3, *space.shape)
    moves[0, 7, 7, 7] = 1.5  # one voxel beyond its neighbour, which the difference about it leaves out
    field = DisplacementField(moves, space)
    figures = jacobian_figures(field, space)
    assert figures["folding"] == 0
    # Its own cells towards the neighbour, and nothing else.
    assert figures["folding_simplex"] == pytest.approx(100 * 4 / (19 * 17 * 15))
    monkeypatch.setattr("registration.evaluation.jacobian._SLAB", 3 * 18 * 16)
    assert simplex_folding_percent(field, space) == figures["folding_simplex"]
    assert simplex_folding_percent(field, Space.regular((20, 18, 1))) is None


@pytest.mark.parametrize("shape", [(15, 13), (12, 11, 10)])
def test_jacobian_figures(shape: tuple[int, ...]) -> None:
    d = len(shape)
    space = oblique_space(shape, [1.0, 2.0, 1.5][:d], 15)
    bumps = Bumps(space.centre[None], torch.tensor([[1.0, 2.0, -1.5][:d]]), 5.0)
    figures = jacobian_figures(bumps, space)
    values = jacobian_determinants(bumps, space).double().numpy()
    assert figures["sdlogj"] == pytest.approx(np.log(np.clip(values, 1e-9, None)).std(), rel=1e-6)
    for n in (1, 5, 50, 95, 99):
        assert figures[f"jacobian_p{n:02d}"] == pytest.approx(np.percentile(values, n), rel=1e-6)
    assert (figures["jacobian_min"], figures["jacobian_max"]) == pytest.approx((values.min(), values.max()))
    assert sd_log_jacobian(torch.tensor([1.0, -3.0])) == pytest.approx(-np.log(1e-9) / 2)
    double = Linear(torch.diag(torch.tensor([2.0] * d + [1.0], dtype=torch.float64)))
    figures = jacobian_figures(double, space)
    assert figures["jacobian_p50"] == 2**d and figures["sdlogj"] == 0 and figures["folding_simplex"] == 0


def test_inverse_consistency_is_the_way_back() -> None:
    shift = Linear.translation(torch.tensor([3.0, 0.0], dtype=torch.float64))
    almost = Linear.translation(torch.tensor([-3.0, 0.5], dtype=torch.float64))
    points = torch.rand(10, 2, dtype=torch.float64)
    assert inverse_consistency(shift, almost, points).tolist() == pytest.approx([0.5] * 10)


def test_similarities_equal_slow_ones() -> None:
    rng = np.random.default_rng(0)
    x = ndimage.gaussian_filter(rng.standard_normal((14, 13)), 1)
    y = 300 + 70 * x + 20 * ndimage.gaussian_filter(rng.standard_normal((14, 13)), 1)
    where = np.ones((14, 13), dtype=bool)
    where[:3] = False
    a, b = Image.of(torch.tensor(x)), Image.of(torch.tensor(y))
    found = similarity_figures(a, b, torch.tensor(where)[None, None])
    assert found["ncc"] == pytest.approx(np.corrcoef(x[where], y[where])[0, 1], abs=1e-9)
    assert found["mse"] == pytest.approx(((x - y)[where] ** 2).mean(), rel=1e-9)
    u, v = ((z - z[where].min()) / (z[where].max() - z[where].min()) for z in (x, y))
    total = []
    for i, j in np.argwhere(where):
        window = (slice(max(0, i - 4), i + 5), slice(max(0, j - 4), j + 5))
        inside = where[window]
        p, q = u[window][inside], v[window][inside]
        covariance = ((p - p.mean()) * (q - q.mean())).mean()
        total.append(covariance**2 / ((p.var() + 1e-5) * (q.var() + 1e-5)))
    assert found["lncc"] == pytest.approx(np.mean(total), abs=1e-4)
    assert found["mi"] is not None and found["mi"] > 0.3
    flat = similarity_figures(a, b.with_data(torch.ones_like(b.data)), torch.tensor(where)[None, None])
    assert flat["ncc"] is flat["lncc"] is flat["mi"] is None and flat["mse"] is not None
    assert set(similarity_figures(a, b, torch.zeros(1, 1, 14, 13, dtype=torch.bool)).values()) == {None}


# --- Learn2Reg: the formulas of its evaluation, written down once more ----------------------------------------------


def challenge_hd95(fixed: np.ndarray, warped: np.ndarray) -> float:
    table, kernel = (part.numpy() for part in get_code_to_measure_table((1, 1, 1), device="cpu"))
    borders, areas = [], []
    for mask in (fixed, warped):
        code = ndimage.correlate(np.pad(mask, 1).astype(np.uint8), kernel[0, 0], mode="constant")
        borders.append((code != 0) & (code != 255))
        areas.append(table.astype(float)[code])
    percentiles = []
    for this, other in ((0, 1), (1, 0)):
        distances = ndimage.distance_transform_edt(~borders[other])[borders[this]]
        pairs = np.array(sorted(zip(distances, areas[this][borders[this]], strict=True)))
        share = np.cumsum(pairs[:, 1]) / pairs[:, 1].sum()
        percentiles.append(pairs[min(np.searchsorted(share, 0.95), len(pairs) - 1), 0])
    return max(percentiles)


def challenge_sdlogj(displacement: np.ndarray, mask: np.ndarray | None) -> float:
    steps = []
    for axis in range(3):
        weights = np.array([-0.5, 0, 0.5]).reshape([3 if k == axis else 1 for k in range(3)])
        steps.append([ndimage.correlate(part, weights, mode="constant", cval=0.0) for part in displacement])
    matrix = (np.array(steps) + np.eye(3).reshape(3, 3, 1, 1, 1))[:, :, 2:-2, 2:-2, 2:-2]
    determinants = np.linalg.det(np.moveaxis(matrix, (0, 1), (-2, -1)))
    logs = np.log((determinants + 3).clip(1e-9, 1e9))
    return float(logs.std() if mask is None else np.ma.MaskedArray(logs, 1 - mask[2:-2, 2:-2, 2:-2]).std())


@pytest.fixture(scope="module")
def challenge() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two label maps and a smooth displacement, (3, *S) voxels."""
    rng = np.random.default_rng(5)
    moves = np.stack([8 * ndimage.gaussian_filter(rng.standard_normal((22, 19, 17)), 2) for _ in range(3)])
    return blobs(5, (22, 19, 17)).numpy(), blobs(6, (22, 19, 17)).numpy(), moves


def test_challenge_areas_are_those_of_the_published_table() -> None:
    assert learn2reg.surface_areas() == pytest.approx(
        get_code_to_measure_table((1, 1, 1), device="cpu")[0].numpy(), abs=1e-6
    )


def test_challenge_labels(challenge: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    fixed, moving, moves = challenge
    grid = np.meshgrid(*[np.arange(n) for n in fixed.shape], indexing="ij")
    expected = ndimage.map_coordinates(moving, grid + moves, order=0)
    warped = learn2reg.warp_labels(moving, moves)
    assert np.array_equal(warped, expected)
    scores = [2 * ((fixed == k) & (warped == k)).sum() / ((fixed == k).sum() + (warped == k).sum()) for k in (1, 2, 3)]
    assert learn2reg.mean_overlap(fixed, moving, warped, [1, 2, 3, 9]) == pytest.approx(np.mean(scores), abs=1e-15)
    distances = [challenge_hd95(fixed == k, warped == k) for k in (1, 2, 3)]
    assert learn2reg.mean_hd95(fixed, moving, warped, [1, 2, 3, 9]) == pytest.approx(np.mean(distances), abs=1e-9)


def test_challenge_counts_a_lost_label(challenge: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    fixed, moving, _ = challenge
    gone = np.where(moving == 2, 0, moving)
    both = learn2reg.mean_overlap(fixed, moving, gone, [1, 2])
    one = learn2reg.mean_overlap(fixed, moving, gone, [1])
    assert one is not None and both == pytest.approx(one / 2)
    assert learn2reg.mean_hd95(fixed, moving, gone, [2]) == np.inf
    assert learn2reg.mean_overlap(fixed, gone, gone, [2]) is None


def test_challenge_jacobian(challenge: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, _, moves = challenge
    mask = fixed > 0
    monkeypatch.setattr(learn2reg, "_SLAB", 4 * 19 * 17)
    for where in (None, mask):
        assert learn2reg.sd_log_jacobian(moves, where) == pytest.approx(challenge_sdlogj(moves, where), abs=1e-12)
    assert learn2reg.sd_log_jacobian(moves[:, :4]) is None


def test_challenge_landmarks(challenge: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, _, moves = challenge
    fixed = np.random.default_rng(1).uniform(2, 14, (30, 3))
    moving, spacing = fixed + 1.3, np.array([1.0, 1.5, 2.0])
    shift = np.array([ndimage.map_coordinates(part, fixed.transpose()) for part in moves]).transpose()
    expected = np.linalg.norm((fixed + shift - moving) * spacing, axis=1).mean()
    assert learn2reg.mean_landmark_error(moves, fixed, moving, spacing) == pytest.approx(expected, abs=1e-12)


def test_challenge_displacements_lead_to_moving_voxels() -> None:
    fixed = oblique_space((9, 8, 7), (1.0, 2.0, 3.0), 20)
    moving = oblique_space((10, 6, 7), (1.5, 1.0, 2.0), 40, flips=(1,))
    shift = Linear.translation(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    moves = learn2reg.voxel_displacement(shift, fixed, moving)
    index = np.array([3, 5, 2])
    there = (
        torch.linalg.inv(moving.affine) @ shift.matrix @ fixed.affine @ torch.tensor([*index, 1.0], dtype=torch.float64)
    )
    assert index + moves[:, 3, 5, 2] == pytest.approx(there[:3].numpy(), abs=1e-4)


@pytest.mark.real
def test_references_on_real_labels(shared_data: Path) -> None:
    """Two hippocampi, and the 15 structures of two brains with a few millimetres of false spacing."""
    hippocampi = sorted((shared_data / "hippocampus" / "labels").iterdir())[:2]
    maps = [read_labels(path).data[0, 0] for path in hippocampi]
    shape = tuple(max(sizes) for sizes in zip(*[values.shape for values in maps], strict=True))
    padded = [
        torch.nn.functional.pad(m, [p for n, k in zip(shape[::-1], m.shape[::-1], strict=True) for p in (0, n - k)])
        for m in maps
    ]
    space = Space.regular(shape, (1.0, 0.8, 2.5))
    check_real(*padded, space)
    brains = [
        read_labels(shared_data / "brain" / f"{name}_labels.nii.gz").data[0, 0, ::2, ::2, ::2]
        for name in ("fixed", "moving")
    ]
    check_real(*brains, Space.regular(brains[0].shape, (2.0, 2.0, 2.0)))


def check_real(a: torch.Tensor, b: torch.Tensor, space: Space) -> None:
    labels = [int(k) for k in a.unique() if k != 0 and bool((b == k).any())]
    found, overlaps = surface_distances(a, b, space, labels), dice(a, b, labels)
    for label in labels[:4]:
        x, y = (a == label).numpy(), (b == label).numpy()
        assert overlaps[label] == 2 * int((x & y).sum()) / int(x.sum() + y.sum())
        pair = found[label]
        assert pair is not None
        assert (pair.hd95, pair.assd) == pytest.approx(surfaces_in_float64(x, y, space.spacing.tolist()), abs=1e-6)
        assert learn2reg.hausdorff95(x, y) == pytest.approx(challenge_hd95(x, y), abs=1e-9)
