"""Comparing two books: every planted break is found, and no other."""

from hypothesis import given
from hypothesis import strategies as st

from services.books.compare import Booked, Break, find_breaks

PAID = Booked("ch_1", 1000, "CAD", "paid")


def test_equal_books_have_no_breaks() -> None:
    assert find_breaks([PAID], [PAID]) == []


def test_each_kind_of_difference_is_named() -> None:
    other = Booked("ch_1", 900, "USD", "failed")

    assert find_breaks([PAID], []) == [Break("missing_there", "ch_1", PAID, None)]
    assert find_breaks([], [PAID]) == [Break("missing_here", "ch_1", None, PAID)]
    assert [b.kind for b in find_breaks([PAID], [other])] == ["amount", "currency", "status"]


def test_charge_that_moved_no_money_may_be_on_one_side_only() -> None:
    for status in ("failed", "pending"):
        assert find_breaks([PAID._replace(status=status)], []) == []
        assert find_breaks([], [PAID._replace(status=status)]) == []


@given(st.permutations([Booked(f"ch_{n}", n, "CAD", "paid") for n in range(12)]), st.integers(0, 11))
def test_order_of_either_book_does_not_matter(books: list[Booked], cut: int) -> None:
    shorter = books[:cut] + books[cut + 1 :]

    assert find_breaks(books, shorter) == [Break("missing_there", books[cut].provider_id, books[cut], None)]
