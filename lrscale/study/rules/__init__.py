"""Rules of thumb about learning rates and batch sizes, each judged on the trials of a study."""

from lrscale.study.rules.base import RULES as RULES
from lrscale.study.rules.base import AbstractRule as AbstractRule
from lrscale.study.rules.base import Ruling as Ruling

# isort: split
# In the order of the table.
from lrscale.study.rules.larger_lr import LargerLR as LargerLR  # isort: skip
from lrscale.study.rules.early_loss import EarlyLossByExamples as EarlyLossByExamples  # isort: skip
from lrscale.study.rules.early_loss import EarlyLossBySteps as EarlyLossBySteps  # isort: skip
from lrscale.study.rules.final_loss import FinalLoss as FinalLoss  # isort: skip
from lrscale.study.rules.growing_batch import GrowingBatch as GrowingBatch  # isort: skip
from lrscale.study.rules.generalisation import Generalisation as Generalisation  # isort: skip
from lrscale.study.rules.low_lr import LowLR as LowLR  # isort: skip
from lrscale.study.rules.high_lr import HighLR as HighLR  # isort: skip
from lrscale.study.rules.training_time import TrainingTime as TrainingTime  # isort: skip
from lrscale.study.rules.utilisation import Utilisation as Utilisation  # isort: skip
from lrscale.study.rules.early_stopping import EarlyStopping as EarlyStopping  # isort: skip
from lrscale.study.rules.dropout import DropoutMovesGap as DropoutMovesGap  # isort: skip
from lrscale.study.rules.dropout import DropoutMovesLR as DropoutMovesLR  # isort: skip
