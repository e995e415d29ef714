"""Two studies side by side: what differs, what does not, and what cannot be told."""

from lrscale.compare.compare import StudyComparison as StudyComparison
from lrscale.compare.compare import compare_studies as compare_studies
from lrscale.compare.compare import labels_of as labels_of
from lrscale.compare.contrast import Contrast as Contrast
from lrscale.compare.side import Side as Side
from lrscale.compare.subjects import SUBJECTS as SUBJECTS
