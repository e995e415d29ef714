"""How long a step takes: means of autocorrelated times, the knee of the speed, and a model over batch and ranks."""

from lrscale.laws.step_time.fit import StepTimeFit as StepTimeFit
from lrscale.laws.step_time.fit import StepTimeStatus as StepTimeStatus
from lrscale.laws.step_time.fit import fit_step_time as fit_step_time
from lrscale.laws.step_time.knee import SpeedKnee as SpeedKnee
from lrscale.laws.step_time.knee import speed_knee as speed_knee
from lrscale.laws.step_time.mean import SeriesMean as SeriesMean
from lrscale.laws.step_time.mean import mean_of_replicates as mean_of_replicates
from lrscale.laws.step_time.mean import mean_of_series as mean_of_series
from lrscale.laws.step_time.model import StepTimeModel as StepTimeModel
from lrscale.laws.step_time.model import TimedLayout as TimedLayout
