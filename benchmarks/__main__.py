"""Runs benchmarks, all or those that are named, and prints one table of ratios; see ``scripts/bench --help``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks._harness import Missing, Plan, Ratio, Row

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
PACKAGES = ("cxr-dicom", "highdicom", "numpy", "pydicom", "pynetdicom", "torch", "torchxrayvision")
COLUMNS = ("row", "ratio", "spread", "goal", "met")


def main() -> None:
    """Measure, print, and write the JSON file that was asked for."""
    given = _arguments()
    unknown = sorted(set(given.names) - set(NAMES))
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    rows = list(_measured(given.names or NAMES, Plan(repeats=given.repeats, is_quick=given.quick)))
    print("\n".join(_markdown(rows) if given.markdown else _plain(rows)))
    if given.json:
        figures = {"quick": given.quick, "repeats": given.repeats, **_figures(rows)}
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/bench", description="Side-by-side measurements: each row is a ratio of two ways that ran in turn."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; none: all")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="pairs of measurements for each row")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: do they run? The figures mean nothing.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures, with versions and machine")
    parser.add_argument("--markdown", action="store_true", help="print the table as in docs/performance.md")
    return parser.parse_args()


def _measured(names: Iterable[str], plan: Plan) -> Iterator[Row]:
    for name in names:
        for row in importlib.import_module(f"benchmarks.{name}").measure(plan):
            print(f"{name}: {row.row}: {_cells(row)[1]}", file=sys.stderr, flush=True)
            yield row


def _cells(row: Row) -> tuple[str, ...]:
    if isinstance(row, Missing):
        return row.row, "not measured", row.why, "", ""
    spread = f"{min(row.values):.3g} to {max(row.values):.3g}"
    met = {None: "", True: "yes", False: "no"}[row.is_met]
    return row.row, f"{row.median:.3g}", spread, row.goal, met


def _plain(rows: Iterable[Row]) -> list[str]:
    table = [COLUMNS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def _markdown(rows: Iterable[Row]) -> list[str]:
    table = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, rows)]
    return [f"| {' | '.join(line)} |" for line in table]


def _figures(rows: Iterable[Row]) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "rows": [_figure(row) for row in rows],
    }


def _figure(row: Row) -> dict[str, object]:
    if isinstance(row, Missing):
        return {"row": row.row, "missing": row.why}
    assert isinstance(row, Ratio)
    return {"row": row.row, "median": row.median, "values": row.values, "goal": row.goal, "met": row.is_met}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
