"""Calibrate a live LightningModule in a notebook or script: everything is put back when the answer is there."""

from lrscale.tune.range_test import range_test as range_test
from lrscale.tune.result import RangeCurve as RangeCurve
from lrscale.tune.result import RangeFamily as RangeFamily
from lrscale.tune.result import RangeTestResult as RangeTestResult
