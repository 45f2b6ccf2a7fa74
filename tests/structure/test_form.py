"""Files stay short, class names are unique, and rows are read by column name."""

from tests.structure.exceptions import FILE, find_exceptions, read_exceptions


def test_only_the_listed_places_break_a_rule_of_form() -> None:
    listed, found = read_exceptions(), find_exceptions()

    assert found - set(listed) == set(), "shorten the file, rename the class, or read the row by column name"
    assert set(listed) - found == set(), f"delete these lines: python -m tests.structure.exceptions ({FILE})"
    assert listed == sorted(set(listed))
