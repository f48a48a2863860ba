"""A bad day for the real service or a real cluster: ``scripts/soak trouble``, ``nemesis`` and ``cluster``."""

import argparse
import importlib
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.integration import rig
from tests.integration.soak.apart import go_apart, take_disks, why_not

_PREFIX = "cxr-dicom-soak-"
_STUDIES = {"trouble": 200, "nemesis": 2000, "cluster": 24}  # by module


def main() -> int:
    """Live through a day; 0 when all was as it must be, 1 when not, 2 when it could not begin."""
    options = _options()
    go_apart()
    if reason := why_not():
        print(f"left out: what needs namespaces of our own ({reason})", flush=True)
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: nothing is left running
        signal.signal(number, signal.default_int_handler)
    run = importlib.import_module(f"{__package__}.{options.day}").day
    studies = options.studies or _STUDIES[options.day]
    try:
        with ExitStack() as stack:
            if options.keep:
                folder = tempfile.mkdtemp(prefix=_PREFIX)
                print(f"kept in {folder}", flush=True)
            else:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX))
            stack.callback(take_disks, Path(folder), keep=options.keep)
            return 0 if run(Path(folder), studies, options.seed) else 1
    except (rig.MissingError, rig.NotRunningError) as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("day", choices=_STUDIES)
    parser.add_argument("--studies", type=int, help="default: " + ", ".join(f"{n} of {k}" for k, n in _STUDIES.items()))
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same day")
    parser.add_argument("--keep", action="store_true", help="keep spool and log")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
