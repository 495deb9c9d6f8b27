"""Test files are found by name alone: pytest refuses a second file of the same name in another folder."""

from collections import Counter
from pathlib import Path


def test_no_two_test_files_have_the_same_name():
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
