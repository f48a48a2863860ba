"""A file is there whole or not at all."""

import pytest

from cxr_dicom.system import atomic


@pytest.mark.parametrize(("opened", "half"), [(atomic.open_bytes, b"half"), (atomic.open_text, "half")])
def test_what_could_not_be_written_leaves_what_was_there(opened, half, tmp_path):
    path = tmp_path / "new" / "file"
    with pytest.raises(TypeError), opened(path) as file:
        file.writelines([half, None])
    assert list(path.parent.iterdir()) == []
    path.write_text("old")
    with pytest.raises(TypeError), opened(path) as file:
        file.writelines([half, None])
    assert [each.read_text() for each in path.parent.iterdir()] == ["old"]


def test_it_is_seen_only_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with atomic.open_text(path) as file:
        file.write("é\n")
        assert not path.exists()
    assert path.read_bytes() == b"\xc3\xa9\n"
