"""Steps to a target loss at each batch size, from the trials of a study."""

from lrscale.study.target_loss.answer import KEY as KEY
from lrscale.study.target_loss.answer import with_target_loss as with_target_loss
