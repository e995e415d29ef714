"""Measurements that ride along with training and leave it untouched."""

from lrscale.training.instruments.base import INSTRUMENTS as INSTRUMENTS
from lrscale.training.instruments.base import AbstractInstrument as AbstractInstrument
from lrscale.training.instruments.base import make_instruments as make_instruments
from lrscale.training.instruments.coordinates import CoordinatesInstrument as CoordinatesInstrument
from lrscale.training.instruments.final_state import FinalStateInstrument as FinalStateInstrument
from lrscale.training.instruments.layout_probe import LayoutProbe as LayoutProbe
from lrscale.training.instruments.memory import MemoryInstrument as MemoryInstrument
from lrscale.training.instruments.noise_scale import NoiseScaleInstrument as NoiseScaleInstrument
from lrscale.training.instruments.sharpness import SharpnessInstrument as SharpnessInstrument
from lrscale.training.instruments.stability import StabilityInstrument as StabilityInstrument
from lrscale.training.instruments.step_time import StepTimeInstrument as StepTimeInstrument
