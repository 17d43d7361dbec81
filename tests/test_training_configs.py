"""Every setting of a training composes and builds, and what is written wrongly is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from registration.cli.progress import Quiet
from registration.cli.settings import build, choices, compose
from registration.cli.training import network_of, parts_of, task_of
from registration.errors import InputError
from registration.image import Image
from registration.registrar import Aligner
from registration.space import Space
from registration.training.blueprint import build as from_blueprint
from registration.training.blueprint import completed
from registration.training.checkpoints import write_checkpoint
from registration.training.objective import Objective
from registration.training.schedules import Schedule
from registration.transforms.linear import Linear

FITS = {"keypoints": "fit_affine", "posed": "fit_affine", "cnn": "affine"}


@pytest.mark.parametrize("name", choices("localisation"))
@pytest.mark.parametrize("d", [2, 3])
def test_networks_build_and_align(name: str, d: int) -> None:
    settings = compose("train", [f"localisation={name}", f"family={FITS.get(name, 'velocity')}"])
    plain = OmegaConf.to_container(settings.localisation.model, resolve=True)
    space = Space.regular((16, 20, 16)[:d], 2.0)
    aligner = from_blueprint(completed(plain, space, 1, [1, 2]))
    assert isinstance(aligner, Aligner)
    images = [Image(torch.rand(1, 1, *space.shape), space) for _ in range(2)]
    with torch.no_grad():
        assert torch.isfinite(aligner(*images, Linear.identity(d)).on_grid(space)).all()


@pytest.mark.parametrize("family", choices("family"))
def test_families_build(family: str) -> None:
    name = "keypoints" if family.startswith("fit") else "unet" if family == "velocity" else "cnn"
    settings = compose("train", [f"localisation={name}", f"family={family}"])
    plain = OmegaConf.to_container(settings.localisation.model, resolve=True)
    assert isinstance(from_blueprint(completed(plain, Space.regular((16, 16)), 1)), Aligner)


@pytest.mark.parametrize(
    ("name", "family", "told"),
    [
        (
            "pyramid",
            "affine",
            "MatchingPyramid proposes velocities, for family=velocity family.shrink=2, not Affine",
        ),
        ("unet", "tps", "family=velocity family.shrink=2, not "),
        ("cascade", "affine", "family=velocity family.shrink=2, not "),
        ("unet", "velocity family.shrink=1", "family.shrink=2, not one of shrink 1"),
        ("keypoints", "velocity", "finds points, for family=fit_rigid, fit_affine or fit_tps, not Velocity"),
        ("posed", "affine", "finds points, for family=fit_rigid"),
    ],
)
def test_networks_and_families_that_do_not_fit_are_refused(name: str, family: str, told: str) -> None:
    settings = compose("train", [f"localisation={name}", *f"family={family}".split()])
    plain = OmegaConf.to_container(settings.localisation.model, resolve=True)
    with pytest.raises(InputError) as caught:
        from_blueprint(completed(plain, Space.regular((16, 16)), 1))
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("similarity", choices("similarity"))
@pytest.mark.parametrize("penalty", choices("penalty"))
def test_objectives_build(similarity: str, penalty: str) -> None:
    assert isinstance(build(compose("train", [f"similarity={similarity}", f"penalty={penalty}"]).objective), Objective)


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_experiments_compose(experiment: str) -> None:
    settings = compose("train", [f"experiment={experiment}", *(["data.root=x"] if experiment == "hippocampus" else [])])
    assert isinstance(build(settings.objective), Objective)
    plain = OmegaConf.to_container(settings.localisation.model, resolve=True)
    from_blueprint(completed(plain, Space.regular((16, 16)), 1, [1, 2]))


def test_the_rest_builds() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    for name in choices("optimiser"):
        assert isinstance(build(compose("train", [f"optimiser={name}"]).optimiser)(weights), torch.optim.Optimizer)
    for name in choices("scheduler"):
        schedule = build(compose("train", [f"scheduler={name}"]).scheduler)
        assert isinstance(schedule, Schedule)
        values = [schedule(k / 100) for k in range(101)]
        assert max(values) == pytest.approx(1.0, abs=0.02) and min(values) > 0
    for name in choices("augmentation"):
        assert callable(build(compose("train", [f"augmentation={name}"]).augmentation))
    for name in choices("trainer"):
        assert build(compose("train", [f"trainer={name}"]).trainer).max_minutes == 60
    for name in choices("start"):
        build(compose("train", [f"start={name}"]).start)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("experiment=hipocampus", "did you mean hippocampus"),
        ("trainer.max_minuts=3", "did you mean trainer.max_minutes"),
        ("max_minutes=3", "did you mean trainer.max_minutes"),
        ("optimiser.lr=fast", "a number was expected"),
        ("localisation=unett", "did you mean unet"),
    ],
)
def test_misspelt_settings(word: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("train", [word])
    assert expected in str(caught.value)


def test_settings_are_refused_before_an_image_is_read(tmp_path: Path, refused: Callable[..., str]) -> None:
    line = refused("train", f"data.root={tmp_path / 'nowhere'}", "optimiser.lr=inf", "-o", str(tmp_path / "run"))
    assert "optimiser.lr=inf: a finite number was expected" in line and not (tmp_path / "run").exists()
    usual, network = compose("train"), "localisation.model.localiser.network"
    for key, value, expected in (
        ("seed", 0.5, "seed=0.5: a whole number"),
        ("data.per_epoch", 10**12, "data.per_epoch: an epoch has"),
        ("train.weights", 3, "3: there is no such file"),
        ("family.steps", 10**12, "family.steps: steps is a whole number from 0 and up to 32"),
        (f"{network}.widths", [8, 0], f"{network}.widths: widths takes whole numbers from 1, got [8, 0]"),
    ):
        settings = copy.deepcopy(usual)
        OmegaConf.update(settings, key, value)
        with pytest.raises(InputError) as caught:
            parts_of(settings)
        assert str(caught.value).startswith(expected)


def test_networks_for_other_images_are_refused() -> None:
    settings = compose("train", ["localisation=cnn", "family=affine", "localisation.model.localiser.inputs=4"])
    with pytest.raises(
        InputError, match=r"^localisation\.model\.localiser\.inputs: inputs is 2 for these images, got 4"
    ):
        network_of(settings, Space.regular((16, 16)), 1, [])
    network_of(settings, Space.regular((16, 16)), 2, [])
    with pytest.raises(InputError, match=r"^family: counts \(5, 5, 5\) do not fit a 2-D domain"):
        words = ["localisation=cnn", "family=tps", "family.layout.counts=[5,5,5]"]
        network_of(compose("train", words), Space.regular((16, 16)), 1, [])


def test_parts_of_a_cascade_can_be_left_out() -> None:
    settings = compose("train", ["localisation=cascade", "localisation.affine=null", "localisation.spline=null"])
    plain = OmegaConf.to_container(settings.localisation.model, resolve=True)
    assert len(from_blueprint(completed(plain, Space.regular((16, 16)), 1)).parts) == 1
    assert compose("register", ["preset.diffeomorphic.spline=null"]).pipeline.stages[2] is None
    for word in ("localisation.model=null", "localisation.spline=3"):
        with pytest.raises(InputError, match="a group of settings was expected"):
            compose("train", ["localisation=cascade", word])


def test_blueprints_build_nothing_else() -> None:
    for target in (
        "os.system",
        "torch.load",
        "registration.training.blueprint.importlib",
        "registration.cli.main.main",
        "monai.networks.nets.EfficientNetBN",  # would fetch weights
        "monai.networks.nets.CellSamWrapper",
    ):
        with pytest.raises(InputError, match="may not be built"):
            from_blueprint({"_target_": target, "command": "true"})
    with pytest.raises(InputError, match="cannot be made"):
        from_blueprint({"_target_": "registration.families.Velocity", "shrink": 0.1})
    with pytest.raises(InputError, match="is for keypoints"):
        plan = compose("train", ["localisation=cnn", "family=fit_rigid"]).localisation.model
        completed(OmegaConf.to_container(plan, resolve=True), Space.regular((16, 16)), 1)


def test_what_is_named_is_what_the_first_pair_holds() -> None:
    settings = compose("train", ["experiment=synthetic", "localisation=anatomy"])
    task = task_of(settings, Quiet())
    first = task.train[0]
    held = set(torch.cat([first["fixed_labels"], first["moving_labels"]]).unique().tolist()) - {0}
    assert len(held) > 1 and task.plan["model"]["localiser"]["labels"] == sorted(held)
    plain = OmegaConf.to_container(settings.localisation.model, resolve=True)
    with pytest.raises(InputError, match="no labels are given to be named, and the data have none"):
        from_blueprint(completed(plain, Space.regular((16, 16)), 1))


def test_a_training_may_begin_with_the_network_of_another(tmp_path: Path) -> None:
    words = ["experiment=synthetic", "localisation=pyramid", "localisation.model.localiser.widths=[4,6]"]
    hidden = "localisation.model.localiser.hidden"
    first = task_of(compose("train", [*words, f"{hidden}=[4,6]", "seed=1"]), Quiet())
    content = {"config": {}, "plan": first.plan, "model": first.aligner.state_dict(), "metrics": {}, "step": 1}
    write_checkpoint(tmp_path / "first.pt", content)
    given = f"train.weights={tmp_path / 'first.pt'}"
    fresh, taken = (task_of(compose("train", [*words, f"{hidden}=[4,6]", *more]), Quiet()) for more in ([], [given]))
    same = [
        all(torch.equal(a, b) for a, b in zip(first.aligner.parameters(), task.aligner.parameters(), strict=True))
        for task in (fresh, taken)
    ]
    assert same == [False, True]
    with pytest.raises(InputError, match=r"first\.pt.*another shape") as caught:
        task_of(compose("train", [*words, f"{hidden}=[4,8]", given]), Quiet())
    assert "\n" not in str(caught.value)
