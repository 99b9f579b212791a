"""Matplotlib figures; every function returns a Figure and leaves pyplot, its state and the user's settings alone.

Save one with ``figure.savefig(path)``. Arrays may be torch tensors (on any device) or anything NumPy can read. Values
that are not finite are left out and counted in the legend.
"""

from critpoints.plots.channel import channel_profile
from critpoints.plots.curves import joining_paths
from critpoints.plots.density import spectral_density_curve
from critpoints.plots.escape import epsilon_sweep
from critpoints.plots.interpolation import interpolation_lines
from critpoints.plots.kinds import eigenvalues_along_line, kinds_per_width
from critpoints.plots.large_scale import large_scale_page
from critpoints.plots.levels import loss_levels
from critpoints.plots.neurons import neurons_over_teacher
from critpoints.plots.parents import parent_profile, parent_section
from critpoints.plots.patterns import filling_curves, pattern_maps, random_pattern_maps
from critpoints.plots.sections import loss_plane
from critpoints.plots.spectrum import smallest_eigenvalue_against_loss, smallest_eigenvalue_histogram
from critpoints.plots.style import KIND_STYLES, KindStyle
from critpoints.plots.trajectories import trajectory_planes
from critpoints.plots.widths import loss_and_success

__all__ = [
    "KIND_STYLES",
    "KindStyle",
    "channel_profile",
    "eigenvalues_along_line",
    "epsilon_sweep",
    "filling_curves",
    "interpolation_lines",
    "joining_paths",
    "kinds_per_width",
    "large_scale_page",
    "loss_and_success",
    "loss_levels",
    "loss_plane",
    "neurons_over_teacher",
    "parent_profile",
    "parent_section",
    "pattern_maps",
    "random_pattern_maps",
    "smallest_eigenvalue_against_loss",
    "smallest_eigenvalue_histogram",
    "spectral_density_curve",
    "trajectory_planes",
]
