"""Coverage of every 95 % interval of the laws on simulated studies with known truth: one table.

Run ``python benchmarks/coverage.py`` or ``nox -s bench -- coverage``. ``--only slices,laws`` runs some groups of rows;
``--studies N`` sets the studies behind each row (default 1000, fewer of range tests and loss curves), ``--quick`` runs
100. ``--keep FOLDER`` writes what a group gave to ``FOLDER/GROUP.json`` when it is done, and takes the groups that were
not run from there; ``--only none --keep FOLDER`` only reads. ``--markdown FILE`` writes the tables as Markdown, into
the place that the file marks for them if there is such a file. Two processes share the groups.

A row counts every study that got an interval, one-sided ones included. Rows of the second table are of truths that
break an assumption of the model, which it cannot know: they say what that costs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

Row = tuple[str, int, int, float]
"""(name, covered studies, studies with an interval, median width)"""

GROUPS = {
    "slices": ("", 1.0),
    "laws": ("", 1.0),
    "surfaces": ("", 1.0),
    "steps": ("critical batch, ", 1.0),
    "target_loss": ("critical batch of a study, ", 1.0),
    "scale": ("", 1.0),
    "noise_scale": ("noise scale, ", 1.0),
    "range_test": ("confirmed LR, ", 0.3),
    "curves": ("final loss, ", 0.1),
}
"""What a group's rows measure, and its share of the studies: one of loss curves fits whole trajectories several times,
and one of range tests chooses a dozen runs in rounds.

The module ``coverage_GROUP`` beside this one has ``rows(studies) -> list[Row]``, and ``stress_rows`` of the same kind
where there are truths that the model cannot know.
"""
NOMINAL = (0.93, 0.97)
HEAD = ("interval (95 %)", "covers", "studies", "width", "")
BEGIN, END = "<!-- tables: written by benchmarks/coverage.py -->", "<!-- end of tables -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What one group of rows gave."""

    name: str
    rows: tuple[Row, ...]
    stress: tuple[Row, ...]
    seconds: float
    measured: str
    """Day on which it was measured."""


def measure(name: str, studies: int) -> Group:
    """Run the studies of one group."""
    sys.path.insert(0, str(Path(__file__).parent))
    what, share = GROUPS[name]
    module = importlib.import_module(f"coverage_{name}")
    start = time.perf_counter()
    count = max(round(share * studies), 1)
    stress = module.stress_rows(count) if hasattr(module, "stress_rows") else []
    return Group(
        name=name,
        rows=_named(what, module.rows(count)),
        stress=_named(what, stress),
        seconds=time.perf_counter() - start,
        measured=f"{datetime.now(timezone.utc):%Y-%m-%d}",
    )


def _named(what: str, rows: Sequence[Row]) -> tuple[Row, ...]:
    # Counts of numpy are no numbers to JSON.
    return tuple((f"{what}{name}", int(covered), int(studies), float(width)) for name, covered, studies, width in rows)


def keep(group: Group, folder: Path) -> None:
    """Write the result of a group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{group.name}.json").write_text(json.dumps(asdict(group), indent=1) + "\n", encoding="utf-8")


def kept(folder: Path) -> dict[str, Group]:
    """Return the results that the folder has."""
    found = {}
    for name in GROUPS:
        path = folder / f"{name}.json"
        if path.is_file():
            plain = json.loads(path.read_text(encoding="utf-8"))
            for part in ("rows", "stress"):
                plain[part] = _named("", plain[part])
            found[name] = Group(**plain)
    return found


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    name, covered, studies, width = row
    share = covered / studies if studies else math.nan
    verdict = "" if NOMINAL[0] <= share <= NOMINAL[1] else "above" if share > NOMINAL[1] else "BELOW"
    return name, f"{share:.1%}", f"{studies}", f"{width:.3g}", verdict


def text_table(rows: Sequence[Row]) -> str:
    """Return a table for a terminal of 100 columns."""
    lines = [f"{HEAD[0]:<70} {HEAD[1]:>7} {HEAD[2]:>7} {HEAD[3]:>7} {HEAD[4]}".rstrip()]
    for row in rows:
        name, share, studies, width, verdict = _cells(row)
        lines.append(f"{name[:70]:<70} {share:>7} {studies:>7} {width:>7} {verdict}".rstrip())
    return "\n".join(lines)


def markdown_table(rows: Sequence[Row]) -> str:
    """Return a table as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", "| --- | ---: | ---: | ---: | --- |"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def markdown(groups: Sequence[Group]) -> str:
    """Return both tables as Markdown, with the days on which their groups were measured."""
    days = ", ".join(f"{group.name.replace('_', ' ')} {group.measured}" for group in groups)
    parts = [f"Measured: {days}.\n", markdown_table([row for group in groups for row in group.rows])]
    stress = [row for group in groups for row in group.stress]
    if stress:
        parts += ["## Stress: what the model cannot know\n", markdown_table(stress)]
    return "\n".join(parts)


def write_markdown(path: Path, groups: Sequence[Group]) -> None:
    """Write the tables into the marked place of a file, or as a file of their own."""
    text = markdown(groups)
    if path.is_file():
        page = path.read_text(encoding="utf-8")
        head, begin, rest = page.partition(BEGIN)
        _, end, tail = rest.partition(END)
        if begin and end:
            text = f"{head}{BEGIN}\n\n{text}\n{END}{tail}"
    path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GROUPS), help=f"groups to run, of {','.join(GROUPS)}; or none")
    parser.add_argument("--studies", type=int, default=1000, help="studies behind each row (default 1000)")
    parser.add_argument("--quick", action="store_true", help="100 studies for each row")
    parser.add_argument("--keep", type=Path, help="folder of one JSON file for each group")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    options = parser.parse_args(arguments)
    chosen = [] if options.only == "none" else options.only.split(",")
    if unknown := [name for name in chosen if name not in GROUPS]:
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    start = time.perf_counter()
    results = kept(options.keep) if options.keep is not None else {}
    if chosen:
        with ProcessPoolExecutor(max_workers=min(os.cpu_count() or 1, 2, len(chosen))) as pool:
            studies = 100 if options.quick else options.studies
            for future in as_completed([pool.submit(measure, name, studies) for name in chosen]):
                group = future.result()
                results[group.name] = group
                print(f"{group.name}: {group.seconds:.0f} s", file=sys.stderr, flush=True)
                if options.keep is not None:
                    keep(group, options.keep)
    groups = [results[name] for name in GROUPS if name in results]
    print(text_table([row for group in groups for row in group.rows]))
    stress = [row for group in groups for row in group.stress]
    if stress:
        print(f"\nstress: what the model cannot know\n{text_table(stress)}")
    print(f"{time.perf_counter() - start:.0f} s; width: of ln(LR), of ln(batch) or of the number itself")
    if options.markdown is not None:
        write_markdown(options.markdown, groups)


if __name__ == "__main__":
    main()
