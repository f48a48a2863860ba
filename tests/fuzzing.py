"""Fuzzing with hypothesis: the same examples in each run of the tests, and new ones for ``FUZZ_SECONDS``."""

import os
import time

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st


def fuzz(check, *strategies, examples):
    """Call ``check`` with what the strategies make: so many examples, again and again while there is time."""
    until = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "0"))
    run = given(*strategies)(check)
    run = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
    )(run)
    number = 0
    while number == 0 or time.monotonic() < until:
        seed(number)(run)()
        number += 1


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
