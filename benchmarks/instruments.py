"""All ratios of the instruments: a point against ``lr_find``, regret against other rules, overhead of the noise scale.

Run as ``python benchmarks/instruments.py [--quick] [--keep FILE]``. Each benchmark is a process of its own, and can be
run alone: ``range_test_time``, ``regret``, ``noise_scale_overhead``. The exit code is 1 when one of them exceeds what
the project allows itself by more than its interval.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def commands(quick: bool, keep: Path | None) -> list[list[str]]:
    """Return the benchmarks with their options."""
    tasks = ["digits"] if quick else ["digits", "byte-gpt"]
    few = ["--pairs", "5"] if quick else []
    times = [["range_test_time", "--task", task, *few] for task in tasks]
    seeds = [["range_test_time", "--task", "digits", "--seeds", "3", *few]]
    regret = ["regret", *(["--quick"] if quick else []), *(["--keep", str(keep)] if keep else [])]
    noise = [["noise_scale_overhead", "--task", task] for task in tasks]
    return [*times, *seeds, regret, *noise]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="digits alone, few pairs and seeds")
    parser.add_argument("--keep", type=Path, help="passed to regret")
    arguments = parser.parse_args()
    failed = []
    for name, *options in commands(arguments.quick, arguments.keep):
        print(f"== {' '.join([name, *options])}", flush=True)
        if subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), *options], check=False).returncode:
            failed.append(" ".join([name, *options]))
    print(f"failed, or above its limit: {', '.join(failed)}" if failed else "none exceeds its limit")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
