"""The gradient noise scale from sums over micro-gradients: averages apart, divided last, with an interval."""

from lrscale.laws.noise_scale.combine import combine_noise_scales as combine_noise_scales
from lrscale.laws.noise_scale.estimate import noise_scale as noise_scale
from lrscale.laws.noise_scale.estimate import noise_scale_course as noise_scale_course
from lrscale.laws.noise_scale.estimate import steps_for as steps_for
from lrscale.laws.noise_scale.gradient_sums import GradientSums as GradientSums
from lrscale.laws.noise_scale.result import NoiseScale as NoiseScale
from lrscale.laws.noise_scale.result import NoiseScaleStatus as NoiseScaleStatus
from lrscale.laws.noise_scale.result import RunNoiseScale as RunNoiseScale
