"""Tables of finished runs, made anywhere: read, understood, cleaned, grouped and fitted like a study of our own.

`analyse_table` does it all. What the table cannot answer is a status with a reason; what it holds wrongly is an
LrscaleError that names the line and the remedy.
"""

from lrscale.sweep.analyse import analyse_table as analyse_table
from lrscale.sweep.clean import CleanRuns as CleanRuns
from lrscale.sweep.clean import clean as clean
from lrscale.sweep.columns import ColumnMap as ColumnMap
from lrscale.sweep.columns import map_columns as map_columns
from lrscale.sweep.groups import Group as Group
from lrscale.sweep.groups import group_runs as group_runs
from lrscale.sweep.read import SweepTable as SweepTable
from lrscale.sweep.read import read_table as read_table
from lrscale.sweep.result import GroupFit as GroupFit
from lrscale.sweep.result import SweepFit as SweepFit
