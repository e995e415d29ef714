"""Forecasts of the best LR, batch and loss at a larger model or a longer horizon."""

from lrscale.laws.forecast.answer import CellOptimum as CellOptimum
from lrscale.laws.forecast.answer import FamilyAnswer as FamilyAnswer
from lrscale.laws.forecast.answer import Forecast as Forecast
from lrscale.laws.forecast.answer import Miss as Miss
from lrscale.laws.forecast.answer import Span as Span
from lrscale.laws.forecast.cells import ForecastCell as ForecastCell
from lrscale.laws.forecast.forecast import MOST_RATIO as MOST_RATIO
from lrscale.laws.forecast.forecast import forecast as forecast
