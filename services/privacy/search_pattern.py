"""The pattern with which PostgreSQL searches bodies and texts for a person. Pure.

The database compares bytes, so the pattern has all spellings of a letter: in each case, composed (é) or
decomposed (e and a combining accent), as UTF-8 and as JSON's escape.
"""

from functools import cache
from itertools import permutations
from unicodedata import combining, normalize

from services.privacy.body_redaction import compose, customer_ids, list_forms
from services.privacy.subject import DataSubject

_SEPARATED_SQL = "[^0-9a-z]{0,3}"


def search_pattern(subject: DataSubject, *, with_ids: bool) -> str:
    """Return a pattern for PostgreSQL's ``~*`` on ``encode(bytes, 'escape')``; empty if there is no value.

    It matches everything that ``concerns_subject`` and ``contains_subject`` accept, and also ids inside
    longer numbers.
    """
    found = [*map(_escaped, [*sorted(subject.emails), *list_forms(subject.names)])]
    found += [_SEPARATED_SQL.join(number) for number in sorted(subject.phones)]
    if with_ids:
        found += sorted(customer_ids(subject) | subject.order_ids | subject.payment_refs)
    return "|".join(found)


_MOST_MARKS = 4
"""Combining marks of one letter whose orders are all searched; more are not in a name."""

_OTHER_CASES = {"i": "\u0130\u0131", "k": "\u212a", "s": "\u017f"}
"""Letters outside ASCII that differ from one in ASCII only by their case."""

_BACKSLASH = r"\\\\"
"""The pattern of one backslash: ``encode`` doubles it."""


def _escaped(text: str) -> str:
    r"""Return ``text`` as a pattern for ``encode(.., 'escape')``: as UTF-8, and as JSON's ``\u00e9``."""
    letters: list[str] = []
    for char in compose(text):
        if letters and combining(char):
            letters[-1] += char
        else:
            letters.append(char)
    return "".join(map(_escaped_letter, letters))


def _escaped_letter(letter: str) -> str:
    """Return a pattern of all spellings of ``letter``, a character with its marks."""
    forms = {""}
    for char in letter:
        forms = {form + other for form in forms for other in _list_cases(char)}
    spellings = {spelling for form in forms for spelling in _list_equivalents(form)}
    return _any_of(["".join(_any_of(_list_spellings(char)) for char in spelling) for spelling in spellings])


def _list_cases(char: str) -> set[str]:
    """Return ``char`` in each case. ``~*`` ignores the case of ASCII letters only."""
    others = () if char.isascii() else (char.lower(), char.upper(), char.title())
    return {char, *_OTHER_CASES.get(char.lower(), ""), *(other[0] for other in others)}


def _list_equivalents(letter: str) -> set[str]:
    """Return the equivalent texts: composed, decomposed, or in part, in each order of the marks."""
    decomposed = normalize("NFD", letter)
    base, marks = decomposed[0], decomposed[1:]
    found: set[str] = set()
    for order in permutations(marks) if len(marks) <= _MOST_MARKS else [marks]:
        if compose(base + "".join(order)) == compose(letter):
            for at in range(len(order) + 1):
                start = compose(base + "".join(order[:at]))
                found |= {same + "".join(order[at:]) for same in (start, *_find_replaced().get(start, ""))}
    return found


@cache
def _find_replaced() -> dict[str, str]:
    """Return the characters that normal form C replaces, such as the Ångström sign, by their replacement."""
    found: dict[str, str] = {}
    for char in map(chr, range(0x80, 0x30000)):
        if (composed := compose(char)) != char:
            found[composed] = found.get(composed, "") + char
    return found


def _any_of(patterns: list[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(sorted(patterns))})"


def _list_spellings(char: str) -> list[str]:
    if char.isascii():
        if char.isalnum() or char.isspace():
            return [char]
        literal = _BACKSLASH if char == "\\" else rf"\{char}"
        return [literal, f"{_BACKSLASH}{literal}", rf"{_BACKSLASH}u{ord(char):04x}"]
    units = char.encode("utf-16-be").hex()
    escapes = "".join(f"{_BACKSLASH}u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return ["".join(rf"\\{byte:03o}" for byte in char.encode()), escapes]
