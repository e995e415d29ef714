"""Laws of the best LR against the batch size. A new law is one file here and one line below."""

from lrscale.laws.base import OPTIMAL_LR_LAWS
from lrscale.laws.optimal_lr.batch_laws.constant import ConstantLaw as ConstantLaw
from lrscale.laws.optimal_lr.batch_laws.linear import LinearLaw as LinearLaw
from lrscale.laws.optimal_lr.batch_laws.power import PowerLaw as PowerLaw
from lrscale.laws.optimal_lr.batch_laws.saturating import SaturatingLaw as SaturatingLaw
from lrscale.laws.optimal_lr.batch_laws.saturating_free import SaturatingFreeLaw as SaturatingFreeLaw
from lrscale.laws.optimal_lr.batch_laws.square_root import SquareRootLaw as SquareRootLaw
from lrscale.laws.optimal_lr.batch_laws.surge import SurgeLaw as SurgeLaw

for _law in (
    ConstantLaw(),
    SquareRootLaw(),
    LinearLaw(),
    PowerLaw(),
    SaturatingLaw(),
    SaturatingFreeLaw(),
    SurgeLaw(),
):
    OPTIMAL_LR_LAWS.register(_law.name)(_law)
