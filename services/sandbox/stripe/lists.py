"""Stripe's lists: newest first, cut into pages between objects, filtered by time and by what Stripe lets one
filter. Pure. Source: https://docs.stripe.com/api/pagination.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import eq, ge, gt, le, lt
from types import MappingProxyType
from typing import Any

Object = dict[str, Any]
Query = Sequence[tuple[str, str]]
"""The query string as it came: a name may come twice."""

LONGEST_PAGE = 100
_BOUNDS = MappingProxyType({"gte": ge, "gt": gt, "lte": le, "lt": lt})

FILTERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "charges": ("customer", "payment_intent", "transfer_group"),
        "refunds": ("charge", "payment_intent"),
        "disputes": ("charge", "payment_intent"),
        "payouts": ("destination", "status"),
        "payment_intents": ("customer",),
        "balance_transactions": ("currency", "payout", "source", "type"),
        "events": ("delivery_success", "type", "types"),
    }
)


_OF_THE_PAGE = ("limit", "starting_after", "ending_before", "payout", "delivery_success")


class ParameterInvalid(ValueError):
    """A parameter that Stripe refuses; ``param`` names it."""

    def __init__(self, message: str, code: str | None, param: str) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def page_of(kind: str, objects: Iterable[Object], query: Query) -> Object:
    """Return the page of a list of ``kind`` that ``query`` asks for; ``payout`` and ``expand`` are the
    caller's. Raises ``ParameterInvalid``."""
    params, many = read_query(kind, query)
    limit = _read_limit(params.get("limit", "10"))
    wanted = [one for one in objects if _fits(one, params, many)]
    wanted.sort(key=lambda one: (one["created"], one["id"]), reverse=True)
    ids = [one["id"] for one in wanted]
    if params.get("ending_before"):
        end = _place(ids, params["ending_before"], kind, "ending_before")
        data, has_more = wanted[max(0, end - limit) : end], end > limit
    else:
        after = params.get("starting_after")
        start = _place(ids, after, kind, "starting_after") + 1 if after else 0
        data, has_more = wanted[start : start + limit], len(wanted) > start + limit
    return {"object": "list", "url": f"/v1/{kind}", "data": data, "has_more": has_more}


def read_query(kind: str, query: Query) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return single parameters and lists by name; raise ``ParameterInvalid`` for an unknown one."""
    params: dict[str, str] = {}
    many: dict[str, list[str]] = {}
    usual = ("limit", "starting_after", "ending_before", "created", "expand", *FILTERS[kind])
    for name, value in query:
        plain, _, part = name.partition("[")
        if plain not in usual:
            raise ParameterInvalid(f"Received unknown parameter: {plain}", "parameter_unknown", plain)
        if plain in ("types", "expand"):
            many.setdefault(plain, []).append(value)
        elif plain == "created" and part:
            params[f"created.{part.rstrip(']')}"] = value
        else:
            params[plain] = value
    return params, many


def _read_limit(text: str) -> int:
    if not text.lstrip("-").isdecimal():
        raise ParameterInvalid(f"Invalid integer: {text}", "parameter_invalid_integer", "limit")
    limit = int(text)
    if not 1 <= limit <= LONGEST_PAGE:
        bound = "greater than or equal to 1" if limit < 1 else f"less than or equal to {LONGEST_PAGE}"
        raise ParameterInvalid(f"This value must be {bound}.", "parameter_invalid_integer", "limit")
    return limit


def _fits(one: Object, params: Mapping[str, str], many: Mapping[str, list[str]]) -> bool:
    if "types" in many and one["type"] not in many["types"]:
        return False
    return all(_fits_one(one, *pair) for pair in params.items() if pair[0] not in _OF_THE_PAGE)


def _fits_one(one: Object, name: str, value: str) -> bool:
    plain, _, bound = name.partition(".")
    if plain == "created":
        if not value.lstrip("-").isdecimal() or (bound and bound not in _BOUNDS):
            raise ParameterInvalid(
                f"Invalid integer: {value}", "parameter_invalid_integer", f"created[{bound}]"
            )
        return bool(_BOUNDS.get(bound, eq)(one["created"], int(value)))
    if name == "type" and value.endswith(".*"):
        return str(one["type"]).startswith(value[:-1])
    return bool(one.get(name) == value)


def _place(ids: list[str], cursor: str, kind: str, param: str) -> int:
    if cursor not in ids:
        raise ParameterInvalid(f"No such {kind[:-1]}: '{cursor}'", "resource_missing", param)
    return ids.index(cursor)
