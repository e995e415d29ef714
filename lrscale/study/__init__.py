"""Studies: which trials answer a question, running them, and what they say."""

from lrscale.study.finding import Check as Check
from lrscale.study.finding import Finding as Finding
from lrscale.study.finding import Quantity as Quantity
from lrscale.study.planned import PlannedExperiment as PlannedExperiment
from lrscale.study.study import Study as Study
from lrscale.study.study import StudyOutcome as StudyOutcome
from lrscale.study.study import read_findings as read_findings
