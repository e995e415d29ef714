"""Companions of the LR: optimizer settings that a named policy moves when the batch size changes."""

from lrscale.companions.base import COMPANIONS as COMPANIONS
from lrscale.companions.base import AbstractCompanions as AbstractCompanions
from lrscale.companions.base import GroupSettings as GroupSettings
from lrscale.companions.base import Moved as Moved
from lrscale.companions.half_life import HalfLife as HalfLife
from lrscale.companions.none import Unmoved as Unmoved
from lrscale.companions.sde import SDE as SDE
