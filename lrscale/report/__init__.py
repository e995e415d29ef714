"""A study as one self-contained HTML file: the answer first, then what it stands on."""

from lrscale.report.base import AbstractSection as AbstractSection
from lrscale.report.base import Card as Card
from lrscale.report.context import ReportContext as ReportContext
from lrscale.report.render import make_cards as make_cards
from lrscale.report.render import render_report as render_report
from lrscale.report.render import write_report as write_report
