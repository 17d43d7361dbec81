"""The ladder of rooms: who may import whom, and what importing the library may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "registration"

# Lower rooms first; a room may import from lower ones and from itself.
LADDER = [
    {"errors", "limits", "randomness"},
    {"compiled", "space"},
    {"image", "interpolate"},
    {"filters", "transforms"},
    {"families", "phantom"},
    {"sampling"},
    {"io", "losses", "localisation"},
    {"preprocessing", "registrar", "spatial_transformer"},
    {"pairwise"},
    {"batch"},
    {"evaluation"},
    {"training"},  # validates by the measures of evaluation
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(LADDER) for room in rooms}
ONLY_IN = {
    "nibabel": {"io"},
    "SimpleITK": {"io"},
    "h5py": {"io"},
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "typer": {"cli"},
    "rich": {"cli"},
    "dask": {"batch"},
    "matplotlib": {"evaluation"},
    "numba": {"compiled"},
    "lightning_fabric": {"training"},
}
FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE or file.name != "__init__.py")


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> set[str]:
    """Absolute names of everything a file imports, also inside functions, but not for type checkers alone."""
    package = ["registration", *file.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            if module == ["registration"]:
                names |= {f"registration.{alias.name}" for alias in node.names}
            else:
                names.add(".".join(module))
    return names


def test_the_files_are_found() -> None:
    assert {"space", "transforms", "cli"} <= {room_of(file) for file in FILES}
    assert "registration.space" in imports_of(PACKAGE / "image.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_ladder(file: Path) -> None:
    room = room_of(file)
    assert room in RANK, f"{room} has no place on the ladder of this test: add it where it belongs"
    for name in imports_of(file):
        top, _, rest = name.partition(".")
        if top == "registration":
            other = rest.split(".")[0]
            if other in RANK:
                allowed = other == room or RANK[other] < RANK[room]
                assert allowed, f"{file.name} in {room} imports {name}, which is not below it"
        elif top in ONLY_IN:
            assert room in ONLY_IN[top], f"{file.name} imports {top}, which belongs to {sorted(ONLY_IN[top])}"


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``code``."""
    script = f"import sys\n{code}\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing_heavy() -> None:
    assert not loaded_after("import registration") & {"torch", "numpy", "monai", "matplotlib", "nibabel", "hydra"}


def test_the_command_starts_without_torch() -> None:
    assert not loaded_after("import registration.cli.main") & {
        "torch",
        "numpy",
        "monai",
        "matplotlib",
        "hydra",
        "scipy",
    }


def test_the_core_loads_no_applications() -> None:
    core = (
        "import registration, registration.space, registration.image, registration.sampling, registration.filters\n"
        "import registration.transforms.linear, registration.transforms.tps, registration.losses\n"
        "registration.Space; registration.Image; registration.warp"
    )
    assert not loaded_after(core) & {"monai", "matplotlib", "pandas", "nibabel", "SimpleITK", "h5py", "hydra", "scipy"}


def test_registering_loads_no_symbolic_algebra() -> None:
    run = (
        "import torch, registration\n"
        "ramp = torch.linspace(0, 1, 24)\n"
        "image = registration.Image.of((ramp - 0.5).square()[:, None] + ramp)\n"
        "registration.register(image, image)\n"
        "from registration.pairwise import presets\n"
        "from registration.pairwise.unfold import unfold\n"
        "registration.register(image, image, presets.fast().diffeomorphic())\n"
        "unfold(torch.randn(3, 12, 12, 12, generator=torch.Generator().manual_seed(0)))"
    )
    assert not loaded_after(run) & {"sympy", "matplotlib", "monai"}, "as torch.broadcast_shapes does: half a second"


def test_public_names_resolve() -> None:
    import registration

    for name in registration.__all__:
        assert getattr(registration, name) is not None, name
    with pytest.raises(AttributeError, match="nonsense"):
        registration.nonsense  # noqa: B018
    assert set(registration.__all__) <= set(dir(registration))
