"""Search algorithms of Ray Tune, one a file; a file that is imported here is found by its name."""

from lrscale.ray_tune.algorithms.bayesopt import BayesOpt as BayesOpt
from lrscale.ray_tune.algorithms.bohb import Bohb as Bohb
from lrscale.ray_tune.algorithms.hyperopt import HyperOpt as HyperOpt
from lrscale.ray_tune.algorithms.nevergrad import Nevergrad as Nevergrad
from lrscale.ray_tune.algorithms.optuna import Optuna as Optuna
from lrscale.ray_tune.algorithms.random import Random as Random
from lrscale.ray_tune.algorithms.zoopt import ZooOpt as ZooOpt
