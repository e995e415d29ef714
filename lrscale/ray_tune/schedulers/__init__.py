"""Trial schedulers of Ray Tune, one a file; a file that is imported here is found by its name."""

from lrscale.ray_tune.schedulers.asha import Asha as Asha
from lrscale.ray_tune.schedulers.evolution import PopulationBasedBandits as PopulationBasedBandits
from lrscale.ray_tune.schedulers.evolution import PopulationBasedTraining as PopulationBasedTraining
from lrscale.ray_tune.schedulers.hyperband import Hyperband as Hyperband
from lrscale.ray_tune.schedulers.hyperband import HyperbandForBohb as HyperbandForBohb
from lrscale.ray_tune.schedulers.median import Median as Median
from lrscale.ray_tune.schedulers.none import Unhindered as Unhindered
