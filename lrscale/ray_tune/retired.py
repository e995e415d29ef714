"""Search algorithms that people ask for by name and that cannot be had, and what to use instead."""

from __future__ import annotations

from types import MappingProxyType

RETIRED: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "sigopt": (
            "SigOpt's service has ended, and Ray has no SigOptSearch any more",
            "use algorithm: bayesopt, or optuna, for a model of the same kind",
        ),
        "ax": (
            "Ray 2.60 cannot drive Ax: with ax-platform 1.3.1 it asks an Objective for 'objectives', which is gone",
            "use algorithm: bayesopt, a Gaussian process too",
        ),
        "hebo": (
            "Ray 2.60 cannot drive HEBO: HEBO 0.3.2 imports pymoo.factory, which pymoo 0.6 has no more",
            "use algorithm: bayesopt, a Gaussian process too",
        ),
    }
)
"""Name -> why it cannot be had, and the remedy."""
