"""How near training is to instability: loss spikes."""

from lrscale.laws.stability.spikes import Spike as Spike
from lrscale.laws.stability.spikes import Spikes as Spikes
from lrscale.laws.stability.spikes import SpikeStatus as SpikeStatus
from lrscale.laws.stability.spikes import find_spikes as find_spikes
