"""Words that are written down are read back as what they were."""

import pytest

from cxr_dicom.records import ObjectKind, Reason
from cxr_dicom.records.words import StudyState, kind_of, object_kind


@pytest.mark.parametrize("kind", ObjectKind)
def test_a_kind_of_ours_comes_back_as_a_word(kind):
    assert object_kind(str(kind)) is kind


def test_a_kind_of_another_package_comes_back_as_it_was():
    kind = kind_of("text-note-of-us")
    assert kind == "text_note_of_us"
    assert (object_kind(kind), type(object_kind(kind))) == (kind, str)


@pytest.mark.parametrize("words", [Reason, StudyState])
def test_a_word_that_users_search_for_is_spelled_as_it_is_named(words):
    assert [str(word) for word in words] == [word.name for word in words]
