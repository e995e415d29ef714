"""The report of two studies side by side."""

from lrscale.report.comparison.page import comparison_cards as comparison_cards
from lrscale.report.comparison.page import render_comparison as render_comparison
