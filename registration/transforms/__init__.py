"""Maps of world points: linear, thin-plate spline, sampled displacement, and their compositions."""
