"""What a stranger can make the service do: each bound in ``docs/security.md`` has a test that fails without it."""

import re

from tests import ROOT

TESTS = {  # by the first column of the table
    "many connections": "test_scp.py::test_no_more_connections_are_held_than_twice_the_associations_and_eight",
    "all associations for one address": "ingest/test_upper_layer.py::test_no_address_has_all_associations_and_health",
    "silence, or a byte now and then": "ingest/test_upper_layer.py::test_those_who_ask_slowly_are_closed_and_shut",
    "an association request of any length": "ingest/test_upper_layer.py::test_every_early_end_is_one_line_with_address",
    "a command set or a report of any length, or in a thousand pieces": "ingest/test_upper_layer.py::test_what_is_no_i",
    "requests before the last one is answered": "ingest/test_upper_layer.py::test_requests_before_the_answer_wait",
    "messages that break the protocol": "ingest/test_upper_layer.py::test_every_early_end_is_one_line_with_address",
    "a PDU or an instance of any length": "test_scp.py::test_an_instance_beyond_the_limit_ends_the_association",
    "a full disk": "test_scp.py::test_a_full_disk_is_told_in_a_way_that_makes_the_sender_try_again",
    "UIDs that are paths": "ingest/test_intake.py::test_what_is_not_taken_has_its_reason_and_leaves_nothing",
    "a data set that unpacks to gigabytes": "test_scp.py::test_other_sop_classes_and_deflated_get_no_context",
    "a header of millions of items, nested without end, or with huge values": "dicom/test_structure.py::test_a_h",
    "a data set that says of itself how it is encoded": "dicom/test_structure.py::test_group_0_and_2_are_no_part_of_a",
    "a header that claims a huge matrix": "select/test_eligibility.py::test_a_matrix_beyond_the_limit_is_refused",
    "a code stream that claims another matrix than its header, or thousands of scans": (
        "dicom/test_bombs.py::test_a_claim_that_the_header_does_not_make_is_refused_undecoded"
    ),
    "an image that holds a worker": "service/test_service.py::test_a_study_that_holds_its_worker_is_held_after_its",
    "an image that fills the memory": "service/test_service.py::test_a_study_that_needs_more_memory_than_a_",
    "an image that kills a codec": "service/test_service.py::test_a_study_that_kills_its_worker_is_held",
    "a TorchScript file with a program of its own": "infer/test_torchscript.py::test_a_hostile_file_is_refused_in_one",
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


def test_every_bound_has_a_test():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    table = text.split("| attempt | bound |", 1)[1].split("\n\n", 1)[0]
    attempts = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    assert attempts == list(TESTS)
    for place in TESTS.values():
        path, _, name = place.partition("::")
        assert re.search(rf"^def {name}", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE)
