"""Which earlier report a changed one takes the place of."""

from itertools import count

import pydicom
import pytest

from cxr_dicom import synthetic
from cxr_dicom.encode.common import write
from tests import painted
from tests.encode.objects.sr_items import items


@pytest.fixture
def run(encoded, tmp_path):
    """Process a study again and again, as the service does: each run knows what was written before."""
    known, folders = {}, count()

    def once(*analyses, skipped=(), **settings):
        study = painted.study(*analyses, skipped=skipped, earlier=known.values())
        made = [
            write(each, tmp_path / f"{next(folders)}") for each in encoded("sr", study, painted.settings(**settings))
        ]
        for each in made:
            known.setdefault(each.sop_instance_uid, each)
        return made

    return once


def predecessors(written):
    """The SOP Instance UID of each report's predecessor, or None."""
    found = []
    for dataset in (pydicom.dcmread(each.path) for each in written):
        (study,) = dataset.get("PredecessorDocumentsSequence") or (None,)
        if study is None:
            found.append(None)
            continue
        assert study.StudyInstanceUID == dataset.StudyInstanceUID
        (series,) = study.ReferencedSeriesSequence
        (reference,) = series.ReferencedSOPSequence
        assert reference.ReferencedSOPClassUID == dataset.SOPClassUID
        found.append(reference.ReferencedSOPInstanceUID)
    return found


def uids(written):
    return [each.sop_instance_uid for each in written]


def test_a_changed_report_names_the_one_it_takes_the_place_of(image, run):
    analysis = painted.analysis(image)
    first = run(analysis)
    second = run(analysis, geometry="strict")
    third = run(analysis)  # back to the first settings: a third instance, for a chain never runs in a circle
    assert predecessors(first) == [None] * 3
    assert predecessors(second) == uids(first)
    assert predecessors(third) == uids(second)
    assert len({*uids(first), *uids(second), *uids(third)}) == 9


def test_a_report_that_says_the_same_is_the_same_bytes(image, run):
    analysis = painted.analysis(image)
    run(analysis)
    second, again = run(analysis, geometry="strict"), run(analysis, geometry="strict")
    assert [each.path.read_bytes() for each in second] == [each.path.read_bytes() for each in again]


def test_a_grown_study_changes_only_the_report_about_all_of_it(image, selected, run):
    analyses = [painted.analysis(each) for each in (image, selected(synthetic.radiograph(96, 80, seed=1)))]
    *measured, found = run(analyses[0])
    *drawn, both = run(*analyses)
    assert [each.path.read_bytes() for each in drawn[:2]] == [each.path.read_bytes() for each in measured]
    assert predecessors([*drawn, both]) == [None] * 4 + [found.sop_instance_uid]


def test_a_report_takes_the_place_of_none_about_an_image_that_it_leaves_out(image, selected, run):
    one, two, three = (painted.analysis(selected(synthetic.radiograph(96, 80, seed=seed))) for seed in range(3))
    *_, first = run(one)
    *_, late = run(two)  # the first image was deleted meanwhile
    assert predecessors([first, late]) == [None, None]
    *_, again = run(two)
    assert again.path.read_bytes() == late.path.read_bytes()
    *_, grown = run(two, three)
    assert predecessors([grown]) == uids([late])


def test_an_image_that_is_no_longer_analysed_is_not_left_out(image, selected, run):
    one, two = (painted.analysis(selected(synthetic.radiograph(96, 80, seed=seed))) for seed in range(2))
    *_, both = run(one, two)
    *_, less = run(one, skipped=[painted.skip(two.image.instance)])
    assert predecessors([less]) == uids([both])


def test_the_findings_report_cites_the_report_of_lines_that_was_written(image, run):
    run(painted.analysis(image))
    measured, _, found = run(painted.analysis(image), geometry="strict")
    cited = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(pydicom.dcmread(found.path), "COMPOSITE")
    }
    assert measured.sop_instance_uid in cited


def test_parts_of_a_report_take_the_place_of_those_parts(image, run):
    analysis = painted.analysis(image, (painted.anatomy(image), painted.scores(image)))
    first = run(analysis, segmentation="labelmap")  # lungs, and the heart over them: a row in each report
    second = run(analysis, segmentation="labelmap", geometry="strict")
    assert len(first) == 6
    assert predecessors(second) == uids(first)


def test_further_findings_reports_are_no_predecessor_of_the_first(image, selected, run):
    analyses = [painted.analysis(each) for each in (image, selected(synthetic.radiograph(96, 80, seed=1)))]
    *_, report, further = run(*analyses, segmentation="labelmap")
    *_, again, further_again = run(*analyses, segmentation="labelmap", geometry="strict")
    assert predecessors([again, further_again]) == uids([report, further])
