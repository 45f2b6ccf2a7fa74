"""Stripe's lists: newest first, paged and filtered (https://docs.stripe.com/api/pagination). Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import eq, ge, gt, le, lt
from typing import Any

Object = dict[str, Any]
Query = Sequence[tuple[str, str]]
"""The pairs of the query string: a name may occur twice."""
Params = Mapping[str, list[str]]
"""Values by parameter; a bound of ``created`` is named ``created.gte``."""

LONGEST_PAGE = 100
_BOUNDS: Mapping[str, Callable[[int, int], bool]] = {"": eq, "gte": ge, "gt": gt, "lte": le, "lt": lt}

FILTERS: Mapping[str, tuple[str, ...]] = {
    "charges": ("customer", "payment_intent", "transfer_group"),
    "refunds": ("charge", "payment_intent"),
    "disputes": ("charge", "payment_intent"),
    "payouts": ("destination", "status"),
    "payment_intents": ("customer",),
    "balance_transactions": ("currency", "payout", "source", "type"),
    "events": ("delivery_success", "type", "types"),
}

_OF_THE_PAGE = ("limit", "starting_after", "ending_before", "expand")
_NO_FILTERS = (*_OF_THE_PAGE, "payout", "delivery_success")


class ParameterInvalid(ValueError):
    """A parameter that Stripe refuses; ``param`` names it."""

    def __init__(self, message: str, code: str | None, param: str) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def read_query(kind: str, query: Query) -> Params:
    """Return the parameters of a list of ``kind``; raise ``ParameterInvalid`` for an unknown one."""
    params: dict[str, list[str]] = {}
    for name, value in query:
        plain, _, part = name.partition("[")
        if plain not in (*_OF_THE_PAGE, "created", *FILTERS[kind]):
            raise ParameterInvalid(f"Received unknown parameter: {plain}", "parameter_unknown", plain)
        bound = part.rstrip("]") if plain == "created" else ""
        params.setdefault(f"created.{bound}" if bound else plain, []).append(value)
    return params


def page_of(kind: str, objects: Iterable[Object], params: Params) -> Object:
    """Return the page of a list of ``kind`` for ``params``; the caller applies ``payout`` and ``expand``."""
    limit = _read_limit(params.get("limit", ["10"])[-1])
    wanted = [one for one in objects if all(_fits(one, *param) for param in params.items())]
    wanted.sort(key=lambda one: (one["created"], one["id"]), reverse=True)
    if "ending_before" in params:
        end = _find_place(wanted, params, kind, "ending_before")
        data, has_more = wanted[max(0, end - limit) : end], end > limit
    else:
        start = _find_place(wanted, params, kind, "starting_after") + 1 if "starting_after" in params else 0
        data, has_more = wanted[start : start + limit], len(wanted) > start + limit
    return {"object": "list", "url": f"/v1/{kind}", "data": data, "has_more": has_more}


def _read_limit(text: str) -> int:
    limit = _read_integer(text, "limit")
    if not 1 <= limit <= LONGEST_PAGE:
        bound = "greater than or equal to 1" if limit < 1 else f"less than or equal to {LONGEST_PAGE}"
        raise ParameterInvalid(f"This value must be {bound}.", "parameter_invalid_integer", "limit")
    return limit


def _read_integer(text: str, param: str) -> int:
    if not text.lstrip("-").isdecimal():
        raise ParameterInvalid(f"Invalid integer: {text}", "parameter_invalid_integer", param)
    return int(text)


def _fits(one: Object, name: str, values: list[str]) -> bool:
    plain, _, bound = name.partition(".")
    value = values[-1]
    if name in _NO_FILTERS:
        return True
    if name == "types":
        return one["type"] in values
    if plain == "created":
        if bound not in _BOUNDS:
            raise ParameterInvalid(f"Received unknown parameter: {bound}", "parameter_unknown", "created")
        return bool(_BOUNDS[bound](one["created"], _read_integer(value, f"created[{bound}]")))
    if name == "type" and value.endswith(".*"):
        return str(one["type"]).startswith(value[:-1])
    return bool(one.get(name) == value)


def _find_place(objects: Sequence[Object], params: Params, kind: str, param: str) -> int:
    object_id = params[param][-1]
    for place, one in enumerate(objects):
        if one["id"] == object_id:
            return place
    raise ParameterInvalid(f"No such {kind[:-1]}: '{object_id}'", "resource_missing", param)
