"""Scaling laws and the statistics of learning-rate sweeps; pure numpy and scipy.

Fit a slice (`fit_lr_slice`), the best LR against the batch size (`fit_optimal_lr`), read range tests
(`analyse_range_curves`), compare settings (`paired_difference`, `compare_minima`), and estimate the noise floor
(`noise_floor`). Steps to a target against the batch size are in `steps`, the loss and the optima against model size and
data in `scale`, the loss against the step in `annealing`, the gradient noise scale in `noise_scale`, loss spikes in
`stability`. A fit that the data cannot support is a result with a status and a reason, never an exception.
"""

from lrscale.laws import annealing as annealing
from lrscale.laws import noise_scale as noise_scale
from lrscale.laws import scale as scale
from lrscale.laws import stability as stability
from lrscale.laws import steps as steps
from lrscale.laws.base import OPTIMAL_LR_LAWS as OPTIMAL_LR_LAWS
from lrscale.laws.base import AbstractLaw as AbstractLaw
from lrscale.laws.base import FitStatus as FitStatus
from lrscale.laws.base import Interval as Interval
from lrscale.laws.base import Parameter as Parameter
from lrscale.laws.difference import Difference as Difference
from lrscale.laws.difference import paired_difference as paired_difference
from lrscale.laws.lr_slice.slice import fit_lr_slice as fit_lr_slice
from lrscale.laws.lr_slice.slice_fit import LRSliceFit as LRSliceFit
from lrscale.laws.minima import MinimaComparison as MinimaComparison
from lrscale.laws.minima import compare_minima as compare_minima
from lrscale.laws.minima import minima_difference as minima_difference
from lrscale.laws.noise import NoiseFloor as NoiseFloor
from lrscale.laws.noise import noise_floor as noise_floor
from lrscale.laws.optimal_lr.optimal_lr import fit_optimal_lr as fit_optimal_lr
from lrscale.laws.optimal_lr.optimal_lr_fit import LawRow as LawRow
from lrscale.laws.optimal_lr.optimal_lr_fit import OptimalLRFit as OptimalLRFit
from lrscale.laws.optimal_lr.optimal_lr_fit import RuleRange as RuleRange
from lrscale.laws.range_test.range_curve import RangeFinding as RangeFinding
from lrscale.laws.range_test.range_curve import analyse_range_curves as analyse_range_curves
from lrscale.laws.range_test.range_rules import minimum_over_ten as minimum_over_ten
from lrscale.laws.range_test.range_rules import slide as slide
from lrscale.laws.range_test.range_rules import smooth_log_lr as smooth_log_lr
from lrscale.laws.range_test.range_rules import stability_edge as stability_edge
from lrscale.laws.range_test.range_rules import steepest as steepest
from lrscale.laws.range_test.range_rules import valley as valley
from lrscale.laws.separable import SEPARABLE_LAWS as SEPARABLE_LAWS
from lrscale.laws.separable import AbstractSeparableLaw as AbstractSeparableLaw
from lrscale.laws.separable_fit import Estimate as Estimate
from lrscale.laws.separable_fit import LawFit as LawFit
from lrscale.laws.surface.surface import fit_lr_surface as fit_lr_surface
from lrscale.laws.surface.surface_fit import LRSurfaceFit as LRSurfaceFit
from lrscale.laws.surface.surface_fit import SurfaceLaw as SurfaceLaw
