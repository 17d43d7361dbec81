"""Synthetic pairs: what they claim as the truth is the truth, and an index is all it takes to make one again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from registration.errors import InputError
from registration.families import Rigid
from registration.image import Image
from registration.io.images import write_image
from registration.phantom import oblique_space
from registration.preprocessing import CropOrPad, Pipeline, Resample
from registration.sampling import nearest, warp
from registration.space import Space
from registration.training.data import Folder
from registration.training.data.synthetic import (
    Appearance,
    Chain,
    CurveContrast,
    FromFiles,
    RandomFlow,
    RandomLinear,
    RandomMap,
    RandomShapes,
    RandomSpline,
    Recipe,
    Scans,
    Still,
    SyntheticDataset,
    SyntheticPairs,
)
from registration.transforms.field import DisplacementField
from registration.transforms.linear import Linear

MAPS: dict[str, RandomMap] = {
    "rigid": RandomLinear(Rigid(), degrees=30),
    "affine": RandomLinear(),
    "spline": RandomSpline(4, 0.04),
    "flow": RandomFlow(),
    "affine and flow": Chain([RandomLinear(), RandomFlow()]),
}
SHAPES = {"2-D": RandomShapes((48, 40), 1.5, labels=6), "3-D": RandomShapes((24, 28, 20), 2.0, labels=6)}


def item_space(item: dict) -> Space:
    return Space(tuple(item["fixed"].shape[1:]), item["fixed_affine"])


@pytest.mark.parametrize("anatomy", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("deformation", MAPS.values(), ids=MAPS)
def test_the_truth_brings_moving_onto_fixed(anatomy: RandomShapes, deformation: RandomMap) -> None:
    data = SyntheticDataset(Recipe(anatomy, Still(), deformation), 3)
    item, truth = data[1], data.truth(1)
    space = item_space(item)
    assert item["fixed"].dtype == torch.float32 and item["fixed_labels"].dtype == torch.int16
    assert item["fixed"].shape == (1, *anatomy.shape) == item["moving_labels"].shape
    moving = Image(item["moving_labels"][None].float(), space)
    warped, inside = warp(moving, truth, space, nearest)
    same = (warped.data == item["fixed_labels"]) & inside
    assert float(same.sum() / inside.sum()) > 0.999  # rounding may decide between two voxels equally near
    assert float((item["fixed_labels"] == item["moving_labels"]).float().mean()) < 0.98  # it does move
    assert torch.allclose(item["moving_points"], truth(item["fixed_points"]), atol=1e-9)
    field = DisplacementField(item["truth"], space)
    error = (field(item["fixed_points"].float()) - item["moving_points"]).norm(dim=1)
    assert float(error.max()) < 0.3 * float(space.spacing.min())  # the field is sampled at voxels


@pytest.mark.parametrize("deformation", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("d", [2, 3])
def test_maps_are_one_to_one_and_of_their_size(deformation: RandomMap, d: int) -> None:
    space = oblique_space((30, 34, 26)[:d], (1.0, 1.3, 1.6)[:d], 25, flips=(0,))
    points = space.points(torch.zeros(0, dtype=torch.float64)).reshape(-1, d)[::37]
    sizes = []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        moves = deformation(space, generator)
        assert float(torch.linalg.det(moves.jacobian(points.float())).min()) > 0
        again = deformation(space, torch.Generator().manual_seed(seed))
        assert torch.equal(again(points), moves(points))
        sizes.append(float((moves(points) - points).norm(dim=1).mean()) / space.radius)
    assert 0.02 < np.mean(sizes) < 0.3 and len(set(sizes)) == 8


def test_turns_reach_all_the_way() -> None:
    space = Space.regular((20, 20, 20))
    far = RandomLinear(Rigid(), degrees=180, shift=0)
    angles = []
    for seed in range(60):
        matrix = far(space, torch.Generator().manual_seed(seed)).jacobian(torch.zeros(1, 3).double())[0]
        angles.append(float(torch.rad2deg(torch.acos(((matrix.trace() - 1) / 2).clamp(-1, 1)))))
    assert max(angles) > 165 and min(angles) < 15 and 70 < np.mean(angles) < 110


def test_an_index_is_a_pair() -> None:
    recipe = Recipe(SHAPES["2-D"])
    one, two, other = SyntheticDataset(recipe, 5, 3), SyntheticDataset(recipe, 9, 3), SyntheticDataset(recipe, 5, 4)
    for name, value in one[2].items():
        assert torch.equal(value, two[2][name]) if isinstance(value, torch.Tensor) else value == two[2][name]
    assert not torch.equal(one[2]["fixed"], one[3]["fixed"]) and not torch.equal(one[2]["fixed"], other[2]["fixed"])
    kept = SyntheticDataset(recipe, 5, 3, kept=True)
    assert torch.equal(kept[2]["fixed"], one[2]["fixed"]) and kept[2]["fixed"] is kept[2]["fixed"]
    assert one[2]["fixed"] is not one[2]["fixed"] and kept[2] is not kept[2]
    with pytest.raises(IndexError):
        one[5]
    with pytest.raises(InputError, match="size: a number"):
        SyntheticDataset(recipe, 0)


def test_contrasts() -> None:
    def means(item: dict, side: str) -> torch.Tensor:
        values, labels = item[side].flatten(), item[f"{side}_labels"].flatten().long()
        common = set(item["fixed_labels"].unique().tolist()) & set(item["moving_labels"].unique().tolist())
        return torch.stack([values[labels == k].mean() for k in sorted(common)])

    def agreement(alike: bool) -> float:
        plain = Appearance(noise=0.02, blur=0.3, bias=0.0, gamma=0.0)
        data = SyntheticDataset(Recipe(SHAPES["2-D"], appearance=plain, alike=alike), 8)
        pairs = [
            torch.corrcoef(torch.stack([means(i, "fixed"), means(i, "moving")]))[0, 1]
            for i in map(data.__getitem__, range(8))
        ]
        return float(torch.stack(pairs).mean())

    assert agreement(True) > 0.9 and agreement(False) < 0.6
    item = SyntheticDataset(Recipe(SHAPES["3-D"]), 1)[0]
    for side in ("fixed", "moving"):
        assert float(item[side].min()) == 0 and float(item[side].max()) == 1 and torch.isfinite(item[side]).all()
        assert len(item[f"{side}_labels"].unique()) >= 4


def test_label_maps_of_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "labels").mkdir()
    for name, value in (("a", 1), ("b", 7)):
        labels = torch.zeros(12, 14, 10)
        labels[3:9, 4:10, 3:7] = value
        file = tmp_path / "labels" / f"{name}.nii.gz"
        write_image(file, Image.of(labels, oblique_space((12, 14, 10), (1.0, 1.0, 2.0), 15)), dtype=np.uint8)
    files = Folder(tmp_path, "labels/*", "labels/*")
    source = SyntheticPairs(Recipe(FromFiles(files)), train=6, validation=2)
    assert "draw from the same images" in source.notes()[0]
    assert not SyntheticPairs(Recipe(FromFiles(files)), validation=0).notes() and not SyntheticPairs().notes()
    parts = source.datasets(Pipeline([Resample(1.0), CropOrPad(20)]))
    seen = set()
    for index in range(6):
        item = parts.train[index]
        assert item["moving"].shape == (1, 20, 20, 20)
        seen |= set(item["moving_labels"].unique().tolist())
    assert seen == {0, 1, 7} and parts.validation is not None
    train_ids = {parts.train[i]["id"] for i in range(6)}
    assert parts.validation[0]["id"] not in train_ids and len(parts.validation) == 2  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no labels"):
        SyntheticPairs(Recipe(FromFiles(Folder(tmp_path, "labels/*")))).datasets(Pipeline())
    (tmp_path / "labels" / "a.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        SyntheticPairs(Recipe(FromFiles(files)), train=20).datasets(Pipeline([Resample(1.0)]))
    caplog.clear()
    rest = SyntheticPairs(Recipe(FromFiles(files, on_error="skip")), train=4).datasets(Pipeline([Resample(1.0)]))
    assert [record.message.partition(":")[0] for record in caplog.records] == ["left out"]
    assert all(rest.train[index]["moving_labels"].max() == 7 for index in range(4))


def test_curves_keep_the_background_dark_and_neighbours_alike() -> None:
    curves = [CurveContrast(rising=share)(48, torch.Generator().manual_seed(k)) for k in range(20) for share in (0, 1)]
    for curve in curves:
        assert curve.shape == (48,) and float(curve[0]) == 0 and float(curve.max()) <= 1 and float(curve.min()) >= 0
        assert float(curve.diff().abs().max()) < 0.2  # 47 levels on five straight pieces
    assert all(bool((curve.diff() >= 0).all()) for curve in curves[1::2])
    assert not all(bool((curve.diff() >= 0).all()) for curve in curves[::2])


def test_scans_are_seen_from_anywhere_and_lie_where_the_points_say(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    space = oblique_space((20, 24, 18), (2.0, 2.0, 2.0), 15)
    ball = ((space.points() - space.centre).norm(dim=-1) < 9).float() * 100
    ball[12:, :, :] *= 2
    write_image(tmp_path / "images" / "a.nii.gz", Image.of(ball, space))
    recipe = Recipe(
        Scans(Folder(tmp_path, labels=None), levels=16), pose=Still(), deformation=RandomLinear(Rigid(), 180, 0.02),
        appearance=Appearance(noise=0.0, blur=0.3, bias=0.0, gamma=0.0, contrast=CurveContrast(rising=1)), alike=True,
        labelled=False,
    )  # fmt: skip
    train = SyntheticPairs(recipe, train=4, validation=0).datasets(Pipeline([Resample(2.0), CropOrPad(32)])).train
    assert isinstance(train, SyntheticDataset)
    still = []
    for index in range(4):
        item = train[index]
        assert "fixed_labels" not in item and float(item["fixed"][0, 0, 0, 0]) == 0
        fixed, moving = (Image(item[s][None], Space((32, 32, 32), item[f"{s}_affine"])) for s in ("fixed", "moving"))
        there = warp(moving, train.truth(index), fixed.space)[0].data
        assert float(torch.corrcoef(torch.stack([there.flatten(), fixed.data.flatten()]))[0, 1]) > 0.9
        still.append(float(torch.corrcoef(torch.stack([moving.data.flatten(), fixed.data.flatten()]))[0, 1]))
    assert min(still) < 0.8  # they were far apart


def test_images_of_one_contrast_have_noise_of_their_own() -> None:
    appearance = Appearance(noise=0.1, blur=0.0, bias=0.0, gamma=0.0)
    item = SyntheticDataset(Recipe(SHAPES["2-D"], Still(), Still(), appearance, alike=True), 1)[0]
    assert torch.equal(item["fixed_labels"], item["moving_labels"])
    noise = item["fixed"] - item["moving"]
    assert float(noise.std()) > 0.01


def test_images_of_one_contrast_may_show_other_labels() -> None:
    class Ramp(RandomShapes):
        def __call__(self, generator: torch.Generator) -> Image:
            return Image(torch.arange(32.0).expand(1, 1, 8, 32).div(8).floor(), Space.regular((8, 32)))

    class Shift(RandomMap):
        def __call__(self, domain: Space, generator: torch.Generator) -> Linear:
            matrix = torch.eye(3, dtype=torch.float64)
            matrix[1, 2] = 8.0  # what is labelled 0 in the moving image is out of the fixed one
            return Linear(matrix)

    appearance = Appearance(noise=0.0, blur=0.0, bias=0.0, gamma=0.0)
    data = SyntheticDataset(Recipe(Ramp(), Still(), Shift(), appearance, alike=True), 20)
    for item in map(data.__getitem__, range(20)):
        assert set(item["fixed_labels"].unique().tolist()) == {1, 2, 3}
        steps = []
        for side in ("fixed", "moving"):
            values = [float(item[side][item[f"{side}_labels"] == k].mean()) for k in (1, 2, 3)]
            steps.append([(values[1] - values[0]), (values[2] - values[1])])
        ratio = [a / b for a, b in zip(*steps, strict=True)]
        assert ratio[0] == pytest.approx(ratio[1], rel=1e-3) and ratio[0] > 0


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (RandomLinear, {"degrees": -1.0}, "degrees is a number of 0 or more, got -1.0"),
        (RandomLinear, {"shear": float("nan")}, "shear is a number"),
        (RandomFlow, {"smooth": float("inf")}, "smooth is a number"),
        (RandomSpline, {"size": None}, "size is a number of 0 or more, got None"),
        (Chain, {"maps": [1]}, "maps are such as RandomLinear"),
        (Appearance, {"blur": -1}, "blur is a number"),
        (CurveContrast, {"knots": 1}, "knots is a whole number from 2"),
        (RandomShapes, {"labels": 1.5}, "labels is a whole number from 1, got 1.5"),
        (RandomShapes, {"labels": 40000}, "labels is a whole number from 1 and up to 32768"),
        (RandomShapes, {"spacing": 0}, "spacing is a number above 0"),
        (Scans, {"files": Folder(None), "levels": 1}, "levels is a whole number from 2"),
    ],
)
def test_numbers_that_cannot_be(kind: type, given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(**given)
