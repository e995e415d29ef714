"""Ray Tune's schedulers and search algorithms: what each needs, and the space that all of them search alike.

Nothing here imports Ray or the libraries before a member is made.
"""

from lrscale.ray_tune.algorithms import Random as Random
from lrscale.ray_tune.base import ALGORITHMS as ALGORITHMS
from lrscale.ray_tune.base import LOSS as LOSS
from lrscale.ray_tune.base import SCHEDULERS as SCHEDULERS
from lrscale.ray_tune.base import TIME as TIME
from lrscale.ray_tune.base import AbstractAlgorithm as AbstractAlgorithm
from lrscale.ray_tune.base import AbstractMember as AbstractMember
from lrscale.ray_tune.base import AbstractScheduler as AbstractScheduler
from lrscale.ray_tune.base import make as make
from lrscale.ray_tune.retired import RETIRED as RETIRED
from lrscale.ray_tune.schedulers import Unhindered as Unhindered
from lrscale.ray_tune.space import Space as Space
