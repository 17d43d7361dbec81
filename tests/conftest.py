"""What all tests share: the real images, a fixed seed, two threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registration.cli import main as command

# As the command does, before torch is loaded: else the threads of torch and those of the kernels wait for each other.
command._share_cores()

import torch  # noqa: E402
from cli_files import AFFINE, volume  # noqa: E402

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the repository; tests that need it carry the marker ``real``."""
    if not SHARED.is_dir():
        pytest.skip(f"real images are not at {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    """The same random numbers and number of threads in every test, whatever ran before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture()
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configurations whose pipeline is tests/stub_pipeline.py."""
    configs = tmp_path / "configs"
    for group, options in {
        "transform": ("rigid", "affine", "tps"),
        "loss": ("mi", "ncc"),
        "initial": ("header", "mass"),
    }.items():
        (configs / group).mkdir(parents=True)
        for option in options:
            (configs / group / f"{option}.yaml").write_text(f"name: {option}\n")
    (configs / "register.yaml").write_text(
        "defaults: [{transform: rigid}, {loss: mi}, {initial: mass}, _self_]\nseed: 0\ndevice: cpu\n"
        "start: ${initial.name}\npipeline: {_target_: stub_pipeline.Shift, offset: 0.0, fails: null}\n"
    )
    monkeypatch.setattr("registration.cli.settings.config_dir", lambda: configs)
    return configs


@pytest.fixture()
def no_overview(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results have an empty picture, for tests that look at other files: drawing it is a third of a small run."""
    monkeypatch.setattr("registration.cli.pictures.overview", lambda *_, **__: None)
    monkeypatch.setattr("registration.cli.pictures.write_overview", lambda file, _: file.touch())


@pytest.fixture()
def pair(tmp_path: Path) -> list[str]:
    """Options that name a fixed image, a moving one 2 mm off, and an output folder."""
    moved = AFFINE.copy()
    moved[0, 3] = 2.0
    return [
        "-f", str(volume(tmp_path / "f.nii.gz")), "-m", str(volume(tmp_path / "m.nii.gz", affine=moved, dtype="uint8")),
        "-o", str(tmp_path / "out"),
    ]  # fmt: skip


@pytest.fixture()
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must refuse, and gives its one line."""

    def run(*arguments: str) -> str:
        from registration.cli import main as command

        assert command.run(list(arguments)) == 2
        seen = capsys.readouterr()
        assert seen.out == "" and seen.err.count("\n") == 1 and seen.err.startswith("registration: "), seen
        assert "Traceback" not in seen.err
        return seen.err

    return run
