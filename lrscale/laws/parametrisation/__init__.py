"""How a module's parametrisation shows as its width grows: activations over the first steps, and the best LR."""

from lrscale.laws.parametrisation.coordinates import CoordinateCheck as CoordinateCheck
from lrscale.laws.parametrisation.coordinates import PartDrift as PartDrift
from lrscale.laws.parametrisation.coordinates import coordinate_check as coordinate_check
from lrscale.laws.parametrisation.drift import PREDICTIONS as PREDICTIONS
from lrscale.laws.parametrisation.drift import LRDrift as LRDrift
from lrscale.laws.parametrisation.drift import lr_drift as lr_drift
