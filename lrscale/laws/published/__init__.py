"""Published laws of the best LR and batch size against scale, as labelled comparisons.

None of them is used as a prior. A new one is a file here and a line below.
"""

from lrscale.laws.published.base import PUBLISHED_LAWS as PUBLISHED_LAWS
from lrscale.laws.published.base import AbstractPublishedLaw as AbstractPublishedLaw
from lrscale.laws.published.base import PublishedAnswer as PublishedAnswer
from lrscale.laws.published.base import Scale as Scale
from lrscale.laws.published.bjorck import Bjorck as Bjorck
from lrscale.laws.published.deepseek import DeepSeek as DeepSeek
from lrscale.laws.published.minicpm import MiniCPM as MiniCPM
from lrscale.laws.published.power_lines import PowerLines as PowerLines
from lrscale.laws.published.step_law import StepLaw as StepLaw

for _law in (StepLaw(), DeepSeek(), MiniCPM(), Bjorck(), PowerLines()):
    PUBLISHED_LAWS.register(_law.name)(_law)
