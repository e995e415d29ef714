"""What to train with: one setting with its interval, or the reason why there is none."""

from lrscale.recommend.recommendation import Alternative as Alternative
from lrscale.recommend.recommendation import Evidence as Evidence
from lrscale.recommend.recommendation import Recommendation as Recommendation
from lrscale.recommend.recommendation import RecommendedSchedule as RecommendedSchedule
from lrscale.recommend.recommendation import Refusal as Refusal
from lrscale.recommend.recommendation import Validity as Validity
from lrscale.recommend.recommender import recommend as recommend
