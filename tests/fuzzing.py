"""Fuzzing with hypothesis: the same examples in each run of the tests, and new ones for ``FUZZ_SECONDS``.

The new ones are guided by coverage where ``atheris`` is installed, which has no wheel for every Python.
"""

import atexit
import gc
import importlib.util
import os
import re
import sys
import tempfile
import time
import types
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

_WATCHED = ("cxr_dicom.", "pydicom.", "python_multipart.", "zipfile", "tarfile", "pickletools")
_LARGEST_MB, _LONGEST_SECONDS = 6000, 60  # of a guided process, and of one example


def fuzz(check, *strategies, examples, has_threads=False):
    """Call ``check`` with what the strategies make: so many examples, and then others while there is time.

    Parameters
    ----------
    has_threads
        Whether threads of this process take part: then no copy of it can be guided by coverage.
    """
    seconds = int(os.environ.get("FUZZ_SECONDS", "0"))
    run = given(*strategies)(check)
    run = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
    )(run)
    seed(0)(run)()
    if seconds and not has_threads and importlib.util.find_spec("atheris"):
        _guided(run, seconds)
    elif seconds:
        _repeated(run, seconds, examples)


def _repeated(run, seconds, examples):
    number, begun = 0, time.monotonic()
    while time.monotonic() - begun < seconds:
        number += 1
        seed(number)(run)()
    _tell(f"{number * examples} examples in {time.monotonic() - begun:.0f} s")


def _guided(run, seconds):
    """Let libFuzzer choose the bytes that hypothesis makes examples of, in a child: it ends its process."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        child = os.fork()
        if child == 0:
            with log.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            _fuzz_for_ever(run.hypothesis.fuzz_one_input, seconds, folder)
        _, status = os.waitpid(child, 0)
        said = log.read_text(errors="replace")
    assert status == 0, f"guided by coverage: {said[-6000:]}"
    _tell(", ".join([*re.findall(r"Done \d+ runs in \d+ second\(s\)", said), *re.findall(r"cov: \d+", said)[-1:]]))


def _tell(figures):
    """Print what was done, when all is over: tests look at what is printed before."""
    atexit.register(print, os.environ.get("PYTEST_CURRENT_TEST", ""), figures, file=sys.__stderr__)


def _fuzz_for_ever(one, seconds, folder):
    import atheris

    try:
        for function in gc.get_objects():
            if isinstance(function, types.FunctionType) and str(function.__module__).startswith(_WATCHED):
                atheris.instrument_func(function)
        bounds = f"-rss_limit_mb={_LARGEST_MB}", f"-timeout={_LONGEST_SECONDS}", f"-max_total_time={seconds}"
        atheris.Setup(["fuzz", *bounds, "-max_len=8192", f"-artifact_prefix={folder}/"], one)
        atheris.Fuzz()
    finally:
        os._exit(1)


@st.composite
def damaged(draw, corpus):
    """Make of one of ``corpus`` something else: bytes changed, cut out, repeated, or put in between."""
    content = bytearray(draw(st.sampled_from(corpus)))
    for kind in draw(st.lists(st.sampled_from(["set", "set", "cut", "repeat", "insert", "end"]), max_size=6)):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.sampled_from([1, 2, 4, 8, 64, 500]))
        if kind == "set":
            new = draw(st.sampled_from([b"\0", b"\xff", b"\xff" * 4, b"\0" * 4]) | st.binary(min_size=1, max_size=8))
            content[place : place + len(new)] = new
        elif kind == "cut":
            del content[place : place + length]
        elif kind == "repeat":
            content[place:place] = content[place : place + length] * draw(st.sampled_from([1, 3, 100]))
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=40))
        else:
            del content[place:]
    return bytes(content)
