"""What a stranger can make the service do: each bound in ``docs/security.md`` has a test that fails without it."""

import re

import pytest

from cxr_dicom.cohort import task
from cxr_dicom.config import Settings
from cxr_dicom.dicom import codestream, deflate, files, structure
from cxr_dicom.infer import onnx, torchscript
from cxr_dicom.infer.batches import client
from cxr_dicom.infer.own import bundle
from cxr_dicom.ingest import admission, connection, dimse, upper_layer, wrap
from cxr_dicom.system import atomic, bounded_table, negotiation, retry
from cxr_dicom.web import artist, connections, guard
from cxr_dicom.web.dicomweb import parts, retrieval, search
from cxr_dicom.web.ohif import install
from tests import ROOT

SETTINGS = Settings()

TESTS = {  # by the first column of the table
    "many connections": "test_scp.py::test_no_more_connections_are_held_than_twice_the_associations_and_eight",
    "all associations for one address": "ingest/test_upper_layer.py::test_no_address_has_all_associations_and_health",
    "silence, or a byte now and then": "ingest/test_upper_layer.py::test_those_who_ask_slowly_are_closed_and_shut",
    "an association request of any length": "ingest/test_upper_layer.py::test_every_early_end_is_one_line_with_address",
    "a command set or a report of any length, or in a thousand pieces": "ingest/test_upper_layer.py::test_what_is_no_i",
    "requests before the last one is answered, or within another": "ingest/test_one_message.py::test_requests_before",
    "messages that break the protocol": "ingest/test_upper_layer.py::test_every_early_end_is_one_line_with_address",
    "a PDU or an instance of any length": "test_scp.py::test_an_instance_beyond_the_limit_ends_the_association",
    "a full disk": "test_scp.py::test_a_full_disk_is_told_in_a_way_that_makes_the_sender_try_again",
    "UIDs that are paths": "ingest/test_intake.py::test_what_is_not_taken_has_its_reason_and_leaves_nothing",
    "a data set that unpacks to gigabytes": "test_scp.py::test_other_sop_classes_and_deflated_get_no_context",
    "a header of millions of items, nested without end, or with huge values": "dicom/test_structure.py::test_a_h",
    "a data set that says of itself how it is encoded": "dicom/test_structure.py::test_group_0_and_2_are_no_part_of_a",
    "a header that claims a huge matrix": "select/test_eligibility.py::test_a_matrix_beyond_the_limit_is_refused",
    "a file of terabytes, which with holes needs no disk": "dicom/test_structure.py::test_a_file_of_far_more",
    "a table in Parquet, a manifest or the truth of an evaluation, that unpacks to gigabytes": (
        "ingest/manifest/test_tables.py::test_a_parquet_table_that_unpacks_to_far_more_than_its_file_is_refused"
    ),
    "a code stream that claims another matrix than its header, or thousands of scans": (
        "dicom/test_bombs.py::test_a_claim_that_the_header_does_not_make_is_refused_undecoded"
    ),
    "an image that holds a worker": "service/test_service.py::test_a_study_that_holds_its_worker_is_held_after_its",
    "an image that fills the memory": "service/test_service.py::test_a_study_that_needs_more_memory_than_a_",
    "an image that kills a codec": "service/test_service.py::test_a_study_that_kills_its_worker_is_held",
    "an image over which the process that computes batches (`models.batch`) dies, hangs or fails": (
        "infer/batches/test_supervisor.py::test_an_image_that_kills_takes_no_other_along"
    ),
    "a TorchScript file with a program of its own": "infer/test_torchscript.py::test_a_hostile_file_is_refused_in_one",
    "a weights file of nine bytes that numbers an object 4 billion, or says how long a byte array is": (
        "infer/weights/test_pickles.py::test_a_few_bytes_take_no_memory"
    ),
    "an ONNX file that wants libraries, other files, or all of the memory": (
        "infer/onnx/test_onnx.py::test_a_hostile_file_is_refused_in_one_line_before"
    ),
    "a MONAI bundle with code in its configs, a weights file whose header lies": (
        "infer/own/test_bundles.py::test_a_hostile_bundle_is_refused_in_one_line_and_nothing_of_it_runs"
    ),
    "a bundle of other weights, with the pinned digest in its lock": (
        "infer/weights/test_bundle.py::test_other_weights_with_the_pinned_digest_in_their_lock_are_refused"
    ),
    "a ledger that is missing, old or damaged": "service/test_recovery.py::test_without_a_ledger_every_acknowledged",
    "settings without their destinations, for one start or more": "service/test_recovery.py::test_what_waits_for_a_",
    "our own downtime, a clock that is stepped forward": "service/test_receipts.py::test_the_time_in_which_nobody",
    "a disk that becomes full while studies wait": "service/test_retry_of_studies.py::test_without_room_on_the_disk",
    "a disk that becomes full in `run`, a want of memory, file descriptors or permission": (
        "cohort/test_wants.py::test_a_full_disk_stops_a_run_and_the_same_command_goes_on"
    ),
    "an audit trail that cannot be written": "service/test_retry_of_studies.py::test_a_trail_that_cannot_be_written",
    "a header that is a formula": "results/test_tables.py::test_no_cell_is_a_formula_and_numbers_and_parquet_stay",
    "another user of the machine": "system/test_modes.py::test_all_that_run_writes",
    "reports of storage commitment": "service/test_receipts.py::test_a_report_counts_only_for_a_transaction_that_we",
    "a page of others in the browser of a visitor": "web/test_guard.py::test_what_a_foreign_page_asks_is_refused",
    "a name that was bound to our address": "web/test_guard.py::test_a_name_that_was_bound_to_this_address_is_refused",
    "a request to the pages without end": "web/test_guard.py::test_a_body_that_does_not_say_how_long_it_is_ends_at",
    "500 slow clients of the pages": "web/test_guard.py::test_500_slow_clients_hold_nobody_up_and_are_closed",
    "a folder of somebody else in `view`": "web/test_strangers.py::test_a_picture_is_a_picture",
    "a search over every study, an answer without end": "web/test_dicomweb.py::test_a_search_reads_no_more_headers",
    "an image whose window, or whose pictures, a page asks for: one that crashes a codec, fills the memory, or takes "
    "long": "web/test_values.py::test_what_crashes_fails_or_takes_too_long_ends_one_picture_and_no_more",
    "a ZIP archive that unpacks to gigabytes, has millions of files, or names with paths": (
        "web/test_send.py::test_a_bomb_ends_at_the_bound_and_leaves_nothing"
    ),
    "a store request (STOW-RS) without end, with a wrong boundary, other parts, thousands of instances": (
        "web/test_store.py::test_a_body_without_end_ends_at_a_bound"
    ),
    "another build of OHIF in place of the pinned one, a tarball with paths or links": (
        "web/test_ohif.py::test_a_tarball_with_tricks_leaves_nothing"
    ),
    "what OHIF, a large program of others, would load": "web/test_ohif.py::test_ohif_is_served_under_a_policy_of_its_",
    "HTML in a header, a name or a reason": "web/test_view.py::test_hostile_words_stay_words_wherever_they_stand",
}

NUMBERS = [  # beginning of a row, what it says, and the number in the code that this is
    ("many connections", "for a minute", admission._REMEMBERED_SECONDS, 60),
    ("silence", "1 KB a second", SETTINGS.listener.min_bytes_per_second, 1024),
    ("an association request", "256 KB", connection.MOST_NEGOTIATION_BYTES, 256 << 10),
    ("an association request", "128 presentation contexts", negotiation.MOST_CONTEXTS, 128),
    ("a command set", "64 KB", dimse.MOST_HELD, 64 << 10),
    ("a command set", "999 pieces", upper_layer.MOST_VALUES - 1, 999),
    ("messages that break", "ten a minute", admission.FloodGuard.MOST, 10),
    ("a data set that unpacks", "512 MB", deflate.MOST_INFLATED, 512 << 20),
    ("a header of millions", "100,000 elements", structure.MOST_ELEMENTS, 100_000),
    ("a header of millions", "32 levels", structure.MOST_DEPTH, 32),
    ("a header of millions", "64 MB before", structure.MOST_BYTES, 64 << 20),
    ("a header of millions", "128 KB in", structure.LONGEST_VALUE, 128 << 10),
    ("a header of millions", "256 bytes of", structure.LONGEST_CHARACTER_SET, 256),
    ("a file of terabytes", "64 MB", structure.MOST_BYTES, 64 << 20),
    ("a file of terabytes", "more than 1 GB", files.MOST_FILE_BYTES, 1 << 30),
    ("a file of terabytes", "more than 512 MB", wrap.MOST_BYTES, 512 << 20),
    ("a table in Parquet", "512 bytes for each row", bounded_table.BYTES_OF_A_ROW, 512),
    ("a table in Parquet", "at most 1 GB", bounded_table.MOST_UNPACKED, 1 << 30),
    ("a code stream", "at most 128 scans", codestream._MOST_SCANS, 128),
    ("an image that holds", "(600 s)", SETTINGS.service.study_seconds, 600),
    ("an image that holds", "the third time", SETTINGS.service.max_interruptions, 3),
    ("an image that holds", "the third time", task.MAX_CRASHES, 3),
    ("an image that fills", "three attempts", retry.PROCESSING_ATTEMPTS, 3),
    ("an image over which", "three deaths", client.MAX_TRIES, 3),
    ("a TorchScript file", "64 MB more", torchscript._MOST_UNPACKED, 64 << 20),
    ("an ONNX file", "4 GB", onnx.MOST_MEMORY, 4 << 30),
    ("a MONAI bundle", "JSON of at most 1 MB", bundle.LONGEST_METADATA, 1 << 20),
    ("our own downtime", "15 min", retry.LONGEST_PAUSE, 15 * 60),
    ("our own downtime", "24 h", retry.GIVE_UP_AFTER, 24 * 3600),
    ("another user", "0600 in folders of 0700", (atomic.FILE_OF_OWNER, atomic.FOLDER_OF_OWNER), (0o600, 0o700)),
    ("a request to the pages", "64 kB for a form", guard.MAX_FORM_BYTES, 64 << 10),
    ("a request to the pages", "20 s between", guard.PIECE_SECONDS, 20),
    ("a request to the pages", "60 s plus", guard.BODY_SECONDS, 60),
    ("a request to the pages", "each 16 kB", guard.BYTES_PER_SECOND, 16 << 10),
    ("500 slow clients", "latest 64", connections.MAX_WAITING, 64),
    ("500 slow clients", "for 10 s", connections.HEADER_SECONDS, 10),
    ("500 slow clients", "after 20 s", connections.UNREAD_SECONDS, 20),
    ("a search over", "2000 studies", search._MAX_READ, 2000),
    ("a search over", "500 results", search.MOST, 500),
    ("a search over", "1000 frames", retrieval._MAX_FRAMES, 1000),
    ("an image whose window", "two requests", artist._MOST_WAITING, 2),
    ("an image whose window", "within 30 s", artist._SECONDS, 30),
    ("an image whose window", "4 GB", artist._MEMORY_MB, 4 << 10),
    ("a store request", "16 headers", parts._MAX_HEADERS, 16),
    ("a store request", "1 kB", parts._MAX_HEADER_BYTES, 1 << 10),
    ("another build of OHIF", "2000", install._MAX_MEMBERS, 2000),
    ("another build of OHIF", "400 MB", install._MAX_BYTES, 400 << 20),
]


@pytest.fixture(scope="module")
def bounds():
    """Bounds by attempt."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = text.split("| attempt | bound |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {attempt.strip(): bound for _, attempt, bound, _ in (row.split("|") for row in rows)}


@pytest.mark.parametrize(
    ("attempt", "says", "found", "expected"), NUMBERS, ids=[f"{row}, {says}" for row, says, *_ in NUMBERS]
)
def test_the_numbers_are_those_of_the_code(bounds, attempt, says, found, expected):
    assert [says in bound for each, bound in bounds.items() if each.startswith(attempt)] == [True]
    assert found == expected


def test_every_bound_has_a_test(bounds):
    assert list(bounds) == list(TESTS)
    for place in TESTS.values():
        path, _, name = place.partition("::")
        assert re.search(rf"^def {name}", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE)
