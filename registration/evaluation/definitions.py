"""Every figure of an evaluation: its unit, and in one sentence what it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What a name in the column ``metric`` stands for.

    Parameters
    ----------
    unit
        Empty where the figure has none.
    definition
        One sentence.
    """

    unit: str
    definition: str


_SURFACE = "of voxels with a face neighbour outside the label, distances between voxel centres"
_OVER = "over the fixed grid"
_INSIDE = "inside the fixed mask and the common field of view"

METRICS = {
    "dice": Metric("", "Dice overlap 2|A∩B| / (|A|+|B|) of a label; without label the mean over the labels of a pair."),
    "jaccard": Metric("", "Jaccard index |A∩B| / |A∪B| of a label; without label the mean over the labels of a pair."),
    "hd95": Metric("mm", f"The larger of the two directed 95th percentiles of surface distances ({_SURFACE})."),
    "assd": Metric("mm", f"Mean of the surface distances of both directions together ({_SURFACE})."),
    "tre": Metric("mm", "Mean distance of the fixed landmarks, carried over by the transform, from the moving ones."),
    "tre_median": Metric("mm", "Median of the landmark distances of a pair."),
    "tre_max": Metric("mm", "Largest of the landmark distances of a pair."),
    "ncc": Metric("", f"Normalised cross-correlation of the intensities {_INSIDE}."),
    "lncc": Metric("", f"Mean squared correlation in windows of 9 voxels along each axis, {_INSIDE}."),
    "mi": Metric("nat", f"Mutual information of a joint histogram of 32 bins {_INSIDE}."),
    "mse": Metric("", f"Mean squared difference of the intensities {_INSIDE}, in their unit squared."),
    "folding": Metric("%", f"Share of voxels {_OVER} whose Jacobian determinant (central differences) is 0 or less."),
    "folding_simplex": Metric(
        "%", f"Share of the cells between voxel centres {_OVER} in which some corner simplex loses its orientation."
    ),
    "sdlogj": Metric("", f"Standard deviation {_OVER} of ln(max(J, 1e-9)), J the Jacobian determinant."),
    "jacobian_min": Metric("", f"Smallest Jacobian determinant {_OVER}."),
    **{
        f"jacobian_p{n:02d}": Metric("", f"Percentile {n} of the Jacobian determinant {_OVER}.")
        for n in (1, 5, 50, 95, 99)
    },
    "jacobian_max": Metric("", f"Largest Jacobian determinant {_OVER}."),
    "inverse_consistency": Metric(
        "mm",
        "Mean distance of fixed points from where the transform and then the inverse that was given bring them, inside "
        "the fixed mask and where the transform stays in the moving field of view.",
    ),
    "inverse_consistency_p95": Metric("mm", "95th percentile of the same distances."),
    "seconds": Metric("s", "Wall-clock time of the registration of a pair, reading and writing included."),
    "l2r_dice": Metric("", "Learn2Reg: mean Dice over the labels that both images have before warping."),
    "l2r_hd95": Metric(
        "voxel", "Learn2Reg: mean over labels of the larger directed 95th percentile, weighted by surface area."
    ),
    "l2r_tre": Metric("mm", "Learn2Reg: mean landmark distance, displacements interpolated by cubic splines."),
    "l2r_sdlogj": Metric(
        "", "Learn2Reg: standard deviation of ln(J + 3) in voxel units, two voxels off every face, in the fixed mask."
    ),
}
