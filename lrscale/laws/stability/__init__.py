"""How near training is to instability: loss spikes, and the margin between the LR and the critical sharpness."""

from lrscale.laws.stability.critical_step import CriticalStep as CriticalStep
from lrscale.laws.stability.critical_step import find_critical_step as find_critical_step
from lrscale.laws.stability.sharpness import SharpnessCourse as SharpnessCourse
from lrscale.laws.stability.sharpness import SharpnessPoint as SharpnessPoint
from lrscale.laws.stability.sharpness import SharpnessStatus as SharpnessStatus
from lrscale.laws.stability.sharpness import sharpness_course as sharpness_course
from lrscale.laws.stability.spikes import Spike as Spike
from lrscale.laws.stability.spikes import Spikes as Spikes
from lrscale.laws.stability.spikes import SpikeStatus as SpikeStatus
from lrscale.laws.stability.spikes import find_spikes as find_spikes
