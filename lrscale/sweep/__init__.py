"""Tables made anywhere: read, understood, cleaned, grouped and fitted like a study of our own.

`analyse_table` does it all for finished runs, `analyse_steps_table` for steps to a target, `analyse_curves_table` for
loss curves. What the table cannot answer is a status with a reason; what it holds wrongly is an
LrscaleError that names the line and the remedy.
"""

from lrscale.sweep.analyse import analyse_table as analyse_table
from lrscale.sweep.clean import CleanRuns as CleanRuns
from lrscale.sweep.clean import clean as clean
from lrscale.sweep.columns import ColumnMap as ColumnMap
from lrscale.sweep.columns import TableKind as TableKind
from lrscale.sweep.columns import map_columns as map_columns
from lrscale.sweep.curves_table import CurvesGroup as CurvesGroup
from lrscale.sweep.curves_table import CurvesTableFit as CurvesTableFit
from lrscale.sweep.curves_table import analyse_curves_table as analyse_curves_table
from lrscale.sweep.groups import Group as Group
from lrscale.sweep.groups import group_runs as group_runs
from lrscale.sweep.kinds import table_kind as table_kind
from lrscale.sweep.read import SweepTable as SweepTable
from lrscale.sweep.read import read_table as read_table
from lrscale.sweep.result import GroupFit as GroupFit
from lrscale.sweep.result import LawTableFit as LawTableFit
from lrscale.sweep.result import SweepFit as SweepFit
from lrscale.sweep.steps_table import StepsGroup as StepsGroup
from lrscale.sweep.steps_table import StepsTableFit as StepsTableFit
from lrscale.sweep.steps_table import analyse_steps_table as analyse_steps_table
