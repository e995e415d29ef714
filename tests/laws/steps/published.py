"""Published steps to a target loss at nine batch sizes, for three model sizes.

Source: Zhang et al. "How Does Critical Batch Size Scale in Pre-training?" arXiv:2410.21676 (2024); the steps that
their code fits, repository hlzhang109/critical-batch-size, MIT licence. Sequences of 512 tokens; the targets are
validation losses of 3.42, 3.24 and 3.07 on C4. The 20 % critical batch sizes, from 256 sequences, are as published.
"""

from __future__ import annotations

BATCH = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
REFERENCE = 256

STEPS = {
    "85M": (46000, 23000, 13282, 7000, 3840, 2528, 1917, 1600, 1600),
    "151M": (96000, 49000, 24000, 12000, 7128, 4350, 2940, 2400, 2300),
    "302M": (196000, 90000, 46000, 23400, 13300, 7224, 4980, 3400, 2879),
}  # fmt: skip

CRITICAL_20 = {"85M": 745, "151M": 955, "302M": 1394}
