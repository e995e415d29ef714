"""Peak memory against the per-device batch: a fixed part and a part of each example, with intervals."""

from lrscale.laws.memory.model import MemoryFit as MemoryFit
from lrscale.laws.memory.model import MemoryStatus as MemoryStatus
from lrscale.laws.memory.model import fit_memory as fit_memory
