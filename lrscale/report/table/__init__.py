"""The report of a table of runs: the sections of a study, drawn for every group of the table."""

from lrscale.report.table.page import render_curves_report as render_curves_report
from lrscale.report.table.page import render_steps_report as render_steps_report
from lrscale.report.table.page import render_table_report as render_table_report
from lrscale.report.table.page import table_cards as table_cards
from lrscale.report.table.page import write_table_report as write_table_report
