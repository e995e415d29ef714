"""Whether a launch config lies inside of what a study calibrated."""

from lrscale.recommend.config_check.check import ConfigCheck as ConfigCheck
from lrscale.recommend.config_check.check import check_config as check_config
from lrscale.recommend.config_check.rules import RULES as RULES
from lrscale.recommend.config_check.rules import AbstractRule as AbstractRule
from lrscale.recommend.config_check.rules import Judgement as Judgement
