"""SimpleITK as its examples use it: an affine by mutual information, then demons or a B-spline."""

from __future__ import annotations

from typing import Any

from rival_job import Clock, Job, Record


def _read(job: Job) -> tuple[Any, Any]:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(job.threads)
    return sitk.ReadImage(str(job.fixed), sitk.sitkFloat32), sitk.ReadImage(str(job.moving), sitk.sitkFloat32)


def _method(fraction: float) -> Any:
    """Mutual information of 50 bins on a share of the voxels, three levels."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(fraction, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _affine(fixed: Any, moving: Any) -> Any:
    """Affine by gradient descent from the geometric centres."""
    import SimpleITK as sitk

    kind = sitk.CenteredTransformInitializerFilter.GEOMETRY
    start = sitk.CenteredTransformInitializer(fixed, moving, sitk.AffineTransform(3), kind)
    method = _method(0.05)
    method.SetOptimizerAsGradientDescent(
        learningRate=1.0, numberOfIterations=100, convergenceMinimumValue=1e-6, convergenceWindowSize=10
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def bspline(job: Job) -> Record:
    """A B-spline whose mesh is refined from level to level, after the affine."""
    import SimpleITK as sitk

    fixed, moving = _read(job)
    with Clock() as record:
        affine = _affine(fixed, moving)
        # About 50 mm, then 25 and 12.5 mm between knots, as in the examples of free-form deformation.
        mesh = [max(1, round(n * s / 50)) for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
        method = _method(0.1)
        method.SetOptimizerAsLBFGS2(numberOfIterations=50, solutionAccuracy=1e-2, deltaConvergenceTolerance=1e-2)
        method.SetMovingInitialTransform(affine)
        method.SetInitialTransformAsBSpline(
            sitk.BSplineTransformInitializer(fixed, mesh, order=3), inPlace=False, scaleFactors=[1, 2, 4]
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
