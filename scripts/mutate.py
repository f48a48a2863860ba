"""Mutation testing, module by module: mutmut in a copy of the tree, each module against its own tests.

The table ``[tool.mutate]`` of ``pyproject.toml`` says which tests answer for which files. They are named, and
not found by coverage: a test of the whole pipeline passes through every line, but promises little of each.
What is left of a run stays in ``build/mutate/MODULE``, where ``mutmut results`` and ``mutmut show`` explain it.
With ``--sample`` only the mutants whose number ends in 3 or 7 are tried, a fifth of all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_SAMPLE = "cxr_dicom.*[37]"
_CONFIG = """\
[mutmut]
source_paths=cxr_dicom
only_mutate=
  {files}
pytest_add_cli_args_test_selection=
  {tests}
pytest_add_cli_args=
  -p
  no:cacheprovider
"""


def main(names: list[str]) -> None:
    """Mutate the modules with these names, or all, and print a row for each."""
    wanted = [_SAMPLE] if "--sample" in names else []
    names = [name for name in names if name != "--sample"]
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutate"]
    if unknown := set(names) - table.keys():
        sys.exit(f"scripts/mutate: expected one of {', '.join(table)}, found {', '.join(sorted(unknown))}")
    for name in names or table:
        mutate(name, **table[name], wanted=wanted)


def mutate(name: str, *, files: list[str], tests: list[str], wanted: list[str]) -> None:
    """Run mutmut on ``files`` against ``tests``; ``wanted`` are patterns of mutants, empty: all."""
    folder = ROOT / "build" / "mutate" / name
    shutil.rmtree(folder, ignore_errors=True)
    list_files = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.check_output(list_files, cwd=ROOT, text=True)  # noqa: S603 - constants
    for path in filter(None, listed.split("\0")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path)
    (folder / "setup.cfg").write_text(_CONFIG.format(files="\n  ".join(files), tests="\n  ".join(tests)), "utf-8")
    for shared in ("docs", "CHANGELOG.md", "README.md"):  # what tests read beside the code
        (folder / "mutants").mkdir(exist_ok=True)
        (folder / "mutants" / shared).symlink_to(folder / shared)
    environment = os.environ | {"PYTHONPATH": str(folder / "mutants")}  # also for the processes that tests start
    options = {"cwd": folder, "env": environment, "text": True}
    with (folder / "mutmut.log").open("w") as log:
        command = ["mutmut", "run", "--max-children", "1", *wanted]
        subprocess.run(command, check=True, stdout=log, **options)  # noqa: S603 - of this script and pyproject.toml
    found = subprocess.check_output(["mutmut", "results", "--all", "true"], **options)  # noqa: S607
    counts = Counter(line.rsplit(": ", 1)[1] for line in found.splitlines() if ": " in line)
    figures = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print(f"{name}: {counts.total()} mutants: {figures}; see {folder}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
