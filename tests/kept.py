"""States of an output folder, kept and looked up as a run does it."""

from cxr_dicom.cohort.journal import Journal, writing
from cxr_dicom.cohort.session import hold


def keep(out, *states):
    """Keep states, in a session of their own."""
    with hold(out) as own, writing(out, own.number, own.others()) as journal:
        for state in states:
            journal.save(state)


def kept(out, key):
    """Return the state of an entry; None where there is none."""
    return Journal(out).load(key)


def all_kept(out):
    """Return all states."""
    journal = Journal(out)
    return [journal.load(key) for key in journal]
