"""Each answer of an archive that ``docs/operations.md`` lists has its test."""

import re

from tests import ROOT


def test_the_tests_of_the_table_exist():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.split("| an archive may |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    named = [re.findall(r"`(test_\w+)`", row.split("|")[-2]) for row in table]
    assert len(named) > 10
    assert all(named)
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    missing = [name for names in named for name in names if f"def {name}(" not in written]
    assert missing == []
