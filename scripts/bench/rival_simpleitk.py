"""SimpleITK as its examples use it: an affine by mutual information, then demons or a B-spline."""

from __future__ import annotations

import math
from typing import Any

from rival_job import Clock, Job, Record

_SAMPLES = 50_000  # voxels a metric looks at on every level, or all where there are fewer; the histogram has 50x50 bins
_COARSEST = 32  # voxels along the shortest axis that a level keeps


def _read(job: Job) -> tuple[Any, Any]:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(job.threads)
    return sitk.ReadImage(str(job.fixed), sitk.sitkFloat32), sitk.ReadImage(str(job.moving), sitk.sitkFloat32)


def _shrinks(fixed: Any) -> list[int]:
    """Levels at 4, 2 and 1 voxels, without those that leave too little of a small image."""
    return [shrink for shrink in (4, 2, 1) if shrink == 1 or min(fixed.GetSize()) >= shrink * _COARSEST]


def _method(fixed: Any) -> Any:
    """Mutual information on some of the voxels, coarse to fine.

    Sampling is by number and not by share: a twentieth of a small image on its coarsest level would be a few hundred
    voxels, from which no histogram can be made.
    """
    import SimpleITK as sitk

    shrinks = _shrinks(fixed)
    voxels = [math.prod(fixed.GetSize()) / shrink**3 for shrink in shrinks]
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([min(1.0, _SAMPLES / count) for count in voxels], seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrinks)
    method.SetSmoothingSigmasPerLevel([shrink / 2 * (shrink > 1) * min(fixed.GetSpacing()) for shrink in shrinks])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _affine(fixed: Any, moving: Any) -> Any:
    """Affine by gradient descent from the geometric centres."""
    import SimpleITK as sitk

    kind = sitk.CenteredTransformInitializerFilter.GEOMETRY
    start = sitk.CenteredTransformInitializer(fixed, moving, sitk.AffineTransform(3), kind)
    method = _method(fixed)
    method.SetOptimizerAsGradientDescent(
        learningRate=1.0, numberOfIterations=100, convergenceMinimumValue=1e-6, convergenceWindowSize=10
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def bspline(job: Job) -> Record:
    """A B-spline whose mesh is refined from level to level, after the affine.

    The accuracy of L-BFGS is that of its own default: gradients of mutual information to knots are so short that the
    1e-2 of examples with squared differences takes the start for the minimum. L-BFGS-B refuses a mesh that is refined.
    """
    import SimpleITK as sitk

    fixed, moving = _read(job)
    with Clock() as record:
        affine = _affine(fixed, moving)
        # A quarter of the longest side between knots, then halves of that.
        sides = [n * s for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
        mesh = [max(1, round(4 * side / max(sides))) for side in sides]
        method = _method(fixed)
        method.SetOptimizerAsLBFGS2(
            solutionAccuracy=1e-5, numberOfIterations=50, deltaConvergenceDistance=5, deltaConvergenceTolerance=1e-4
        )
        method.SetMovingInitialTransform(affine)
        method.SetInitialTransformAsBSpline(
            sitk.BSplineTransformInitializer(fixed, mesh, order=3),
            inPlace=False,
            scaleFactors=[2**k for k in range(len(_shrinks(fixed)))],
        )
        spline = method.Execute(fixed, moving)
    _write(job, record, affine, spline, fixed)
    return record


def demons(job: Job) -> Record:
    """Fast symmetric demons, coarse to fine, on the affinely resampled moving image with matched histograms."""
    import SimpleITK as sitk

    fixed, moving = _read(job)
    with Clock() as record:
        affine = _affine(fixed, moving)
        aligned = sitk.Resample(moving, fixed, affine, sitk.sitkLinear, 0.0)
        aligned = sitk.HistogramMatching(aligned, fixed, 1024, 7, True)
        field = _multiscale(fixed, aligned, ((4, 100), (2, 50), (1, 25)))
    _write(job, record, affine, sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64)), fixed)
    return record


def _multiscale(fixed: Any, moving: Any, levels: tuple[tuple[int, int], ...]) -> Any:
    """The displacements after demons at each (shrink, iterations), started from those of the level before."""
    import SimpleITK as sitk

    field = None
    for shrink, iterations in levels:
        pair = [
            sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, 0.5 * shrink), [shrink] * 3) if shrink > 1 else image
            for image in (fixed, moving)
        ]
        method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        method.SetNumberOfIterations(iterations)
        method.SetSmoothDisplacementField(True)
        method.SetStandardDeviations(1.5)
        if field is None:
            field = method.Execute(*pair)
        else:
            field = method.Execute(*pair, sitk.Resample(field, pair[0], sitk.Transform(), sitk.sitkLinear))
    return field


def _write(job: Job, record: Record, affine: Any, inner: Any, fixed: Any) -> None:
    """The affine, and the inner transform sampled on the fixed grid: a B-spline is not coarser than its knots."""
    import SimpleITK as sitk

    sitk.WriteTransform(affine, str(job.folder / "affine.tfm"))
    field = sitk.TransformToDisplacementField(
        inner, sitk.sitkVectorFloat32, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
    )
    sitk.WriteImage(field, str(job.folder / "warp.mha"))
    record.forward = ["affine.tfm", "warp.mha"]
