"""The verification stops at the first altered row, and the diagnosis names the alteration."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit.chain import (
    BEGINNING,
    FIRST_PREV_HASH,
    ChainPosition,
    ChainRow,
    format_utc,
    hash_row,
    verify_rows,
)
from services.audit.diagnose import AuditFinding, diagnose
from tests.audit.chains import AuditEvent, InMemoryChain, hash_event, make_rows

FIELDS = ("at", "staff_label", "action", "request_id", "work_id", "mutations", "prev_hash", "hash")


def judge(rows: list[ChainRow], shop_id: int | None = 1) -> AuditFinding | None:
    """Return the result for ``rows``, read in the order of their numbers."""
    ordered = sorted(rows, key=lambda row: row.seq)
    place, broken = verify_rows([row[:9] for row in ordered], shop_id, BEGINNING)
    return None if broken is None else diagnose(shop_id, place, broken, InMemoryChain(ordered))


def diagnose_rows(rows: list[ChainRow]) -> tuple[str, int] | None:
    finding = judge(rows)
    return None if finding is None else (finding.kind, finding.seq)


def renumber(rows: list[ChainRow]) -> list[ChainRow]:
    return [row._replace(seq=seq) for seq, row in enumerate(rows, 1)]


def rehash(row: ChainRow, prev_hash: str | None = None) -> ChainRow:
    row = row._replace(prev_hash=prev_hash or row.prev_hash)
    return row._replace(hash=hash_row(row, 1))


@given(
    at=st.datetimes(min_value=datetime(1971, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    texts=st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=8)] * 3),
    work_id=st.none() | st.integers(0, 2**62),
    shop_id=st.none() | st.integers(1, 2**31 - 1),
)
def test_the_walk_hashes_exactly_as_the_chain_is_written(
    at: datetime, texts: tuple[str, str, str], work_id: int | None, shop_id: int | None
) -> None:
    event = AuditEvent(shop_id, 1, at, *texts, work_id, '[{"a":"é"}]')
    digest = hash_event(FIRST_PREV_HASH, event)
    row = ChainRow(1, format_utc(at), *texts, work_id, event.mutations, FIRST_PREV_HASH, digest)

    assert verify_rows([row[:9]], shop_id, BEGINNING) == (ChainPosition(1, digest), None)
    assert hash_row(row, shop_id) == digest


def test_intact_chain_returns_its_head() -> None:
    rows = make_rows(20)

    assert verify_rows([row[:9] for row in rows], 1, BEGINNING) == (ChainPosition(20, rows[-1].hash), None)


def test_verification_continues_where_the_last_one_ended() -> None:
    rows = [row[:9] for row in make_rows(20)]
    place, _ = verify_rows(rows[:7], 1, BEGINNING)

    assert verify_rows(rows[7:], 1, place)[0].seq == 20


def test_chain_of_another_shop_does_not_verify() -> None:
    finding = judge(make_rows(3, shop_id=2))

    assert finding is not None
    assert (finding.kind, finding.seq) == ("altered", 1)


@pytest.mark.parametrize("place", [1, 3, 6])
@pytest.mark.parametrize("column", FIELDS)
def test_a_single_altered_field_is_found_in_its_row(column: str, place: int) -> None:
    rows = make_rows(6)
    other = 7 if column == "work_id" else "0" * 63 + "1"
    rows[place - 1] = rows[place - 1]._replace(**{column: other})

    finding = judge(rows)

    assert finding is not None
    assert (finding.kind, finding.seq, finding.event_id) == ("altered", place, 1000 + place)


def test_a_row_altered_and_hashed_again_is_named_and_not_the_one_after_it() -> None:
    rows = make_rows(6)
    rows[2] = rehash(rows[2]._replace(staff_label="mallory"))

    assert diagnose_rows(rows) == ("altered", 3)


@pytest.mark.parametrize("place", [1, 3, 5])
def test_deleted_row_is_missing(place: int) -> None:
    rows = make_rows(6)
    del rows[place - 1]

    assert diagnose_rows(rows) == ("missing", place)


@pytest.mark.parametrize("place", [1, 3, 5])
def test_deleted_row_is_missing_even_when_the_others_are_renumbered(place: int) -> None:
    rows = make_rows(6)
    del rows[place - 1]

    assert diagnose_rows(renumber(rows)) == ("missing", place)


def test_several_deleted_rows_are_counted() -> None:
    rows = make_rows(9)
    finding = judge(renumber(rows[:2] + rows[5:]))

    assert finding is not None
    assert (finding.kind, finding.seq) == ("missing", 3)
    assert "rows 3 to 5 are gone" in finding.detail


def test_skipped_numbers_are_missing_even_if_the_hashes_are_valid() -> None:
    rows = make_rows(6)
    rows[5] = rehash(rows[5]._replace(seq=9))

    assert diagnose_rows(rows) == ("missing", 6)


@pytest.mark.parametrize("place", [1, 3, 5])
def test_two_rows_that_changed_places_are_reordered(place: int) -> None:
    rows = make_rows(6)
    rows[place - 1], rows[place] = rows[place], rows[place - 1]

    assert diagnose_rows(renumber(rows)) == ("reordered", place)


def test_a_row_moved_far_away_is_reordered() -> None:
    rows = make_rows(9)
    rows.insert(2, rows.pop(7))

    assert diagnose_rows(renumber(rows)) == ("reordered", 3)


def test_a_row_that_only_got_another_number_is_reordered() -> None:
    rows = make_rows(6)
    rows[2] = rows[2]._replace(seq=77)

    assert diagnose_rows(rows) == ("reordered", 77)


@pytest.mark.parametrize("place", [1, 3, 5])
def test_a_row_put_in_with_a_right_hash_is_inserted(place: int) -> None:
    rows = make_rows(6)
    before = rows[place - 2].hash if place > 1 else FIRST_PREV_HASH
    forged = rehash(rows[place - 1]._replace(seq=place, staff_label="mallory", id=9), before)
    finding = judge(renumber([*rows[: place - 1], forged, *rows[place - 1 :]]))

    assert finding is not None
    assert (finding.kind, finding.seq, finding.event_id) == ("inserted", place, 9)


@pytest.mark.parametrize("prev_hash", ["f" * 64, None])
def test_a_row_put_in_with_a_wrong_hash_is_inserted(prev_hash: str | None) -> None:
    rows = make_rows(6)
    forged = rows[2]._replace(prev_hash=prev_hash or rows[1].hash, hash="e" * 64)

    assert diagnose_rows(renumber([*rows[:2], forged, *rows[2:]])) == ("inserted", 3)


def test_a_row_written_twice_is_inserted() -> None:
    rows = make_rows(6)

    assert diagnose_rows(renumber([*rows[:4], rows[1], *rows[4:]])) == ("inserted", 5)


def test_unrelated_row_at_the_end_is_inserted() -> None:
    rows = make_rows(6)
    rows.append(rows[5]._replace(seq=7, prev_hash="f" * 64, hash="e" * 64))

    assert diagnose_rows(rows) == ("inserted", 7)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_single_alteration_is_found(data: st.DataObject) -> None:
    rows = make_rows(8, shop_id := data.draw(st.sampled_from([1, None])))
    at = data.draw(st.integers(0, 6))
    match data.draw(st.sampled_from(["field", "number", "drop", "close", "swap", "copy", "rehash"])):
        case "field":
            column = data.draw(st.sampled_from(FIELDS))
            if column == "work_id":
                new: object = data.draw(st.none() | st.integers(0, 2**62))
            else:
                new = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=70))
            changed = rows[at]._replace(**{column: new})
            if changed == rows[at]:
                return
            rows[at] = changed
        case "number":
            seq = data.draw(st.integers(-5, 50).filter(lambda n: n not in range(1, 9)))
            rows[at] = rows[at]._replace(seq=seq)
        case "drop":
            del rows[at]
        case "close":
            del rows[at]
            rows = renumber(rows)
        case "swap":
            other = data.draw(st.integers(0, 7).filter(lambda n: n != at))
            rows[at], rows[other] = rows[other], rows[at]
            rows = renumber(rows)
        case "copy":
            rows.insert(data.draw(st.integers(0, 8).filter(lambda n: n != at)), rows[at])
            rows = renumber(rows)
        case "rehash":
            changed = rows[at]._replace(staff_label="mallory")
            rows[at] = changed._replace(hash=hash_row(changed, shop_id))

    assert judge(rows, shop_id) is not None
