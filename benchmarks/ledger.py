"""The three things that happen all day, on a ledger of a million studies and on one of a hundred.

Half of the studies wait for a worker, the others are finished. Each has an image; the finished ones
have a run, an object and a delivery too. Every claim and every finish is on the disk, as in the service.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks._harness import Plan, Row, folder, in_turn, ratios, seconds
from cxr_dicom.records import EncodedObject, InstanceResult, ObjectKind, Outcome, StudyResult, StudyState
from cxr_dicom.store.ledger import Claim, Dispatch, Ledger

FEW, MANY = 100, 1_000_000
CALLS = 10  # of each kind in one measurement
DISPATCHES = (Dispatch(destination="pacs", verify=False),)

_STUDIES = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
_UID = "'1.2.826.0.1.3680043.8.498.' || (1000000000000000000 + i * 7919) || '.' || i"
_DONE = " FROM n WHERE i % 2"
FILL = (
    f"{_STUDIES} INSERT INTO studies (study_instance_uid, state, received_at, changed_at)"
    f" SELECT {_UID}, iif(i % 2, 'SENT', 'COMPLETE'), i, i FROM n",
    f"{_STUDIES} INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,"
    f" path, sha256, sender, received_at) SELECT {_UID} || '.1.1', {_UID}, {_UID} || '.1',"
    f" '1.2.840.10008.5.1.4.1.1.1', 'sources/' || {_UID}, hex(randomblob(32)), 'MODALITY', i FROM n",
    f"{_STUDIES} INSERT INTO jobs (id, study_instance_uid, job_key, outcome, models, seconds, finished_at)"
    f" SELECT i, {_UID}, hex(randomblob(32)), 'processed', '[]', '{{}}', i{_DONE}",
    f"{_STUDIES} INSERT INTO objects (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,"
    f" job_id, kind, sources, path) SELECT {_UID} || '.9.1', {_UID}, {_UID} || '.9',"
    f" '1.2.840.10008.5.1.4.1.1.66.4', i, 'segmentation', '[]', 'objects/' || {_UID}{_DONE}",
    f"{_STUDIES} INSERT INTO deliveries (sop_instance_uid, destination, state, verify, changed_at)"
    f" SELECT {_UID} || '.9.1', 'pacs', 'delivered', 0, i{_DONE}",
)


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each of the three."""
    with folder() as place:
        few, many = filled(place / "few", FEW), filled(place / "many", 1000 if plan.is_quick else MANY)
        listed = in_turn(partial(listing, many), partial(listing, few), plan.repeats)
        yield ratios("ledger: jobs list, 1,000,000 studies against 100", listed, at_most=2)
        pairs = in_turn(partial(working, many), partial(working, few), plan.repeats)
        for number, name in enumerate(("claim", "finish")):
            row = f"ledger: {name}, 1,000,000 studies against 100"
            yield ratios(row, [(first[number], second[number]) for first, second in pairs], at_most=2)
        few.close()
        many.close()


def filled(place: Path, studies: int) -> Ledger:
    """Make a ledger of so many studies."""
    place.mkdir()
    ledger = Ledger(place)
    with ledger.transaction() as connection:
        for statement in FILL:
            connection.execute(statement, (studies,))
    return ledger


def listing(ledger: Ledger) -> float:
    """Seconds of what `jobs list` asks for, without and with a state."""
    return median(seconds(partial(ledger.stories.summaries, state))[0] for state in (None, "SENT") * CALLS)


def working(ledger: Ledger) -> tuple[float, float]:
    """Seconds of a claim, and of a finish."""
    claims, finishes, done = [], [], []
    for _ in range(CALLS):
        spent, claim = seconds(partial(ledger.studies.claim, "benchmark", max_interruptions=3))
        assert claim is not None
        claims.append(spent)
        result = result_of(claim, ledger)
        finishes.append(seconds(partial(ledger.studies.finish, claim, result, [], DISPATCHES))[0])
        done.append(claim.study.study_instance_uid)
    for uid in done:
        ledger.studies.move(uid, (StudyState.ENCODED,), StudyState.RECEIVING)  # as if a new image had come
        ledger.studies.move(uid, (StudyState.RECEIVING,), StudyState.COMPLETE)
    return median(claims), median(finishes)


def result_of(claim: Claim, ledger: Ledger) -> StudyResult:
    """Make a result with one object."""
    (instance,) = claim.study.instances
    made = EncodedObject(
        path=ledger.folder / "object",
        kind=ObjectKind.SEGMENTATION,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        sop_instance_uid=f"{instance.sop_instance_uid}.9",
        series_instance_uid=f"{instance.series_instance_uid}.9",
        source_sop_instance_uids=(instance.sop_instance_uid,),
        model=None,
    )
    processed = InstanceResult(path=instance.path, outcome=Outcome.PROCESSED, instance=instance, objects=(made,))
    return StudyResult(study_instance_uid=instance.study_instance_uid, job_key="key", instances=(processed,))
