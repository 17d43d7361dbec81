"""The programs that the rivals benchmark compares, each with the settings that its own documentation recommends.

python scripts/bench/rival_tools.py TOOL FIXED MOVING FOLDER THREADS

runs one of them in this process and nothing else, so that its peak memory is its own; ``rivals.py`` starts it so.
FOLDER receives the transforms and ``run.json``: seconds, memory, and the chain of files that maps fixed points to
moving points, outermost first, as :func:`registration.read_transform` reads them; that of the inverse too where there
is one.
Only the registration is timed: imports, reading the images and writing the transforms stand outside.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rival_job import Clock, Job, Record


# --- ours -------------------------------------------------------------------------------------------------------------
def ours(job: Job, words: list[str]) -> Record:
    """What ``registration register`` does with these settings, from the images to the transform and its inverse."""
    import numba  # noqa: F401 - the package imports these two on first use, and imports stand outside for every tool
    import scipy.optimize  # noqa: F401
    import torch

    import registration
    from registration.cli.settings import build, compose
    from registration.io.images import load_image

    settings = compose("register", words)
    torch.set_num_threads(job.threads)
    torch.manual_seed(int(settings.seed))
    fixed, moving = (load_image(path).image for path in (job.fixed, job.moving))
    pipeline = build(settings.pipeline)
    with Clock() as record:
        transform = pipeline(fixed, moving, None, None).transform
    registration.write_transform(job.folder / "transform.h5", transform, fixed.space, moving.space)
    record.forward, record.backward = ["transform.h5"], ["-transform.h5"]
    return record


# --- ANTs -------------------------------------------------------------------------------------------------------------
def ants(job: Job, kind: str) -> Record:
    """``ants.registration`` with its own settings: affine by mutual information, then SyN."""
    import ants

    fixed, moving = (ants.image_read(str(path)) for path in (job.fixed, job.moving))
    with Clock() as record:
        found = ants.registration(fixed, moving, type_of_transform=kind, outprefix=f"{job.folder}/ants", random_seed=1)
    warp, affine = (Path(name).name for name in found["fwdtransforms"])
    back = next(Path(name).name for name in found["invtransforms"] if name.endswith(".nii.gz"))
    record.forward, record.backward = [affine, warp], [back, f"-{affine}"]
    return record


# --- greedy -----------------------------------------------------------------------------------------------------------
def greedy(job: Job, metric: str) -> Record:
    """greedy's affine by NCC from the centres of the images, then its deformable stage.

    SSD compares intensities as they are: the images are scaled by their 99th percentiles, which changes no NCC. Warps
    are kept as computed (-wp 0): rounded to a tenth of a voxel, as greedy does otherwise, they fold more.
    """
    import numpy as np
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    program, images = Greedy3D(), {}
    for role in ("fixed", "moving"):
        image = sitk.ReadImage(str(getattr(job, role)), sitk.sitkFloat32)
        images[f"my_{role}"] = image / float(np.percentile(sitk.GetArrayViewFromImage(image), 99))
    common = f"-d 3 -V 0 -threads {job.threads} -i my_fixed my_moving -n 100x50x10"
    with Clock() as record:
        program.execute(f"{common} -a -dof 12 -m NCC 2x2x2 -ia-image-centers -o my_affine", **images, my_affine=None)
        program.execute(f"{common} -m {metric} -wp 0 -it my_affine -o my_warp", my_warp=None)
    (job.folder / "affine.txt").write_text(
        "\n".join(" ".join(f"{value:.17g}" for value in row) for row in program["my_affine"]) + "\n"
    )
    warp, back = job.folder / "warp.nii.gz", job.folder / "back.nii.gz"
    sitk.WriteImage(sitk.Cast(program["my_warp"], sitk.sitkVectorFloat32), str(warp))
    program.execute(f"-d 3 -V 0 -threads {job.threads} -wp 0 -iw {warp} {back}")  # takes fields from files alone
    record.forward, record.backward = ["affine.txt", warp.name], [back.name, "-affine.txt"]
    return record


# --- DIPY -------------------------------------------------------------------------------------------------------------
def dipy(job: Job, iterations: list[int]) -> Record:
    """The steps of DIPY's tutorials: centres of mass, translation, rigid, affine by mutual information; SyN by CC."""
    import nibabel as nib
    import numpy as np
    from dipy.align import affine_registration, syn_registration

    files = [nib.load(path) for path in (job.fixed, job.moving)]
    (fixed, fixed_grid), (moving, moving_grid) = ((file.get_fdata(dtype=np.float32), file.affine) for file in files)
    grids = {"moving_affine": moving_grid, "static_affine": fixed_grid}
    steps = ["center_of_mass", "translation", "rigid", "affine"]
    with Clock() as record:
        _, matrix = affine_registration(
            moving, fixed, **grids, nbins=32, metric="MI", pipeline=steps,
            level_iters=[10000, 1000, 100], sigmas=[3.0, 1.0, 0.0], factors=[4, 2, 1],
        )  # fmt: skip
        _, mapping = syn_registration(
            moving, fixed, **grids, metric="CC", dim=3, level_iters=iterations, prealign=matrix
        )
    # What it calls forward leads from the moving image, first through the pre-alignment, to the fixed one.
    assert mapping.is_inverse
    np.savetxt(job.folder / "affine.txt", mapping.prealign, fmt="%.17g")
    for name, values in (("warp.nii.gz", mapping.backward), ("back.nii.gz", mapping.forward)):
        image = nib.Nifti1Image(np.asarray(values, np.float32)[:, :, :, None], fixed_grid)
        image.header.set_intent("displacement vector")  # RAS mm
        nib.save(image, job.folder / name)
    record.forward, record.backward = ["-affine.txt", "warp.nii.gz"], ["back.nii.gz", "affine.txt"]
    return record


# --- elastix ----------------------------------------------------------------------------------------------------------
def elastix(job: Job) -> Record:
    """elastix' own parameters of "affine" and "bspline": mutual information, four levels, 10 mm between knots."""
    import itk

    # The argument number_of_threads ends in a segmentation fault (ITKElastix issues 160 and 295).
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(job.threads)
    fixed, moving = (itk.imread(str(path), itk.F) for path in (job.fixed, job.moving))
    parameters = itk.ParameterObject.New()
    for kind in ("affine", "bspline"):
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(kind))
    with Clock() as record:
        _, found = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False)
    field = itk.transformix_deformation_field(moving, found)
    itk.imwrite(field, str(job.folder / "warp.mha"))
    record.forward = ["warp.mha"]
    return record


# --- the list ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Tool:
    """A row of the table: its title, the package that brings it, what runs it, and what its seconds hold."""

    title: str
    package: str
    run: Callable[[Job], Record]
    settings: str
    usual: bool = True


def _ours(title: str, words: list[str]) -> Tool:
    held = f"`registration register {' '.join(words)}`: start, rigid, affine and the deformable stage"
    return Tool(title, "registration", lambda job: ours(job, words), held)


def _dipy(title: str, iterations: list[int], origin: str) -> Tool:
    held = (
        f"centres of mass, translation, rigid, affine by MI, then SyN by CC, {iterations} iterations, {origin}; also "
        "the warped images and the inverse, which it always makes"
    )
    return Tool(title, "dipy", lambda job: dipy(job, iterations), held)


def tools() -> dict[str, Tool]:
    """Every tool by its name, in the order of the table."""
    from rival_simpleitk import bspline, demons

    syn = "`ants.registration`, {}: affine by mutual information, SyN; also both warped images"
    deform = "affine by NCC from the image centres, then {}, each 100x50x10 iterations; the warp alone, as computed"
    return {
        "fast": _ours("ours, fast", ["preset=fast"]),
        "default": _ours("ours, default", ["preset=default"]),
        "accurate": _ours("ours, accurate", ["preset=accurate"]),
        "tps": _ours("ours, tps alone", ["transform=tps"]),
        "ants": Tool("ANTs SyN", "antspyx", lambda job: ants(job, "SyN"), syn.format("SyN with its settings")),
        "ants-cc": Tool(
            "ANTs SyN, CC", "antspyx", lambda job: ants(job, "antsRegistrationSyN[s]"),
            "`ants.registration`, antsRegistrationSyN[s], as ANTs' script of that name: rigid and affine by mutual "
            "information, SyN by CC of radius 4, 100x70x50x20 iterations; also both warped images", usual=False,
        ),
        "greedy-ssd": Tool("greedy SSD", "picsl_greedy", lambda job: greedy(job, "SSD"), deform.format("SSD")),
        "greedy-ncc": Tool(
            "greedy NCC 2x2x2", "picsl_greedy", lambda job: greedy(job, "NCC 2x2x2"), deform.format("NCC 2x2x2")
        ),
        "dipy": _dipy("DIPY SyN", [100, 100, 25], "those of its class"),
        "dipy-short": _dipy("DIPY SyN, short", [10, 10, 5], "those of its tutorials"),
        "elastix": Tool("elastix", "itk-elastix", elastix, "its default affine and B-spline (MI, knots every 10 mm)"),
        "sitk-demons": Tool(
            "SimpleITK demons", "SimpleITK", demons,
            "affine by MI, histogram matching, fast symmetric demons on three levels",
        ),
        "sitk-bspline": Tool(
            "SimpleITK B-spline", "SimpleITK", bspline,
            "affine by MI, then a B-spline by MI, knots a 4th to a 16th of the longest side, L-BFGS",
        ),
    }  # fmt: skip


def main(words: list[str]) -> None:
    name, fixed, moving, folder, threads = words
    tool = tools()[name]
    if hasattr(os, "sched_setaffinity"):
        # Some tools take every processor whatever they are told.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    job = Job(Path(fixed), Path(moving), Path(folder), int(threads))
    record = tool.run(job)
    (job.folder / "run.json").write_text(json.dumps(asdict(record)))


if __name__ == "__main__":
    main(sys.argv[1:])
