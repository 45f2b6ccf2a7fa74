"""One Stripe account of the sandbox: its objects, events and answers."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.sandbox.faults import ControlInvalid, Faults
from services.sandbox.stripe.balance import entries_of, in_payout
from services.sandbox.stripe.lists import FILTERS, Object, ParameterInvalid, Query, page_of, read_query

Answer = tuple[int, dict[str, Any]]

LISTS = tuple(FILTERS)
"""The lists: each has the plural of its objects' type as its name."""

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "events": ("id", "type", "created", "data"),
    "balance_transactions": ("id", "amount", "created", "source"),
}


@dataclass
class StripeAccount:
    key: str
    objects: dict[str, dict[str, Object]] = field(default_factory=lambda: {name: {} for name in LISTS})
    by_url: dict[str, Object] = field(default_factory=dict)
    """Objects of API v2, thin events, and the objects that these refer to."""
    event_time: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The version of an object's state that an event set."""
    fees: dict[str, int] = field(default_factory=dict)
    given: dict[str, Object] = field(default_factory=dict)
    """Balance transactions of control requests; they are not computed."""
    faults: Faults = field(default_factory=Faults)
    requests: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def control(self, params: dict[str, Any]) -> None:
        """Apply a control request; ``services.sandbox.serve`` lists its fields.

        An object has the state of its newest event.
        """
        self.fees |= {str(name): int(fee) for name, fee in params.get("fees", {}).items()}
        for name in LISTS:
            for one in params.get(name, ()):
                self._check(name, one)
                if name == "events":
                    self._apply_event(one)
                else:
                    self._put(name, one)
        for path, one in params.get("objects", {}).items():
            self.by_url[str(path)] = one
        for object_id in params.get("remove", ()):
            self._remove(str(object_id))
        self.faults.set(params)

    def answer(self, path: str, query: Query) -> Answer:
        failure = self.faults.take_failure()
        if failure:
            kind = "rate_limit" if failure == 429 else "api_error"
            return failure, _error(kind, f"sandbox fault {failure}", code=kind)
        if path in self.by_url:
            return 200, self.by_url[path]
        version, _, rest = path.lstrip("/").partition("/")
        name, _, object_id = rest.partition("/")
        if version == "v2":
            return 404, {"error": {"code": "not_found", "message": f"Nothing was found at {path}."}}
        if version != "v1" or name not in self.objects:
            wrong = f"Unrecognized request URL (GET: {path})."
            return 404, _error("invalid_request_error", wrong)
        try:
            return self._get(name, object_id, query) if object_id else self._list(name, query)
        except ParameterInvalid as invalid:
            return 400, _error("invalid_request_error", str(invalid), invalid.code, invalid.param)

    def _list(self, name: str, query: Query) -> Answer:
        params = read_query(name, query)
        objects: Iterable[Object] = self.objects[name].values()
        if "payout" in params:
            payout_id = params["payout"][-1]
            payout = self.objects["payouts"].get(payout_id)
            if payout is None:
                raise ParameterInvalid(f"No such payout: '{payout_id}'", "resource_missing", "payout")
            objects = in_payout(payout, self.objects["payouts"].values(), objects)
        page = page_of(name, objects, params)
        expand = [path.removeprefix("data.") for path in params.get("expand", ()) if path.startswith("data.")]
        return 200, page | {"data": [self._expand(one, expand) for one in page["data"]]}

    def _get(self, name: str, object_id: str, query: Query) -> Answer:
        one = self.objects[name].get(object_id)
        if one is None:
            missing = f"No such {name[:-1]}: '{object_id}'"
            return 404, _error("invalid_request_error", missing, "resource_missing", "id")
        return 200, self._expand(one, [value for name, value in query if name.startswith("expand")])

    def _expand(self, one: Object, fields: list[str]) -> Object:
        """Return ``one`` with whole objects in place of the ids in ``fields``."""
        ids = {one[name]: name for name in fields if isinstance(one.get(name), str)}
        return one | {
            name: objects[object_id]
            for objects in self.objects.values()
            for object_id, name in ids.items()
            if object_id in objects
        }

    def _apply_event(self, event: Object) -> None:
        if event.get("object") == "v2.core.event":
            self.by_url[f"/v2/core/events/{event['id']}"] = event
            return
        self.objects["events"][event["id"]] = {"object": "event"} | event
        subject = event["data"]["object"]
        name = f"{subject.get('object')}s"
        if name not in LISTS or name == "events" or "id" not in subject:
            return
        newness = (int(event["created"]), int(subject.get("amount_refunded") or 0))
        if newness >= self.event_time.get(subject["id"], (0, 0)):
            self.event_time[subject["id"]] = newness
            self._put(name, subject)

    def _put(self, name: str, one: Object) -> None:
        whole = _fill(name, one)
        expanded = whole.get("balance_transaction")
        if isinstance(expanded, dict):
            self.given[expanded["id"]] = expanded
            whole["balance_transaction"] = expanded["id"]
        if name == "balance_transactions":
            self.given[whole["id"]] = whole
        self.objects[name][whole["id"]] = whole
        entries = entries_of(whole, self.fees.get(whole["id"]))
        for entry in entries:
            self.objects["balance_transactions"][entry["id"]] = entry
        if entries and name != "disputes" and not whole.get("balance_transaction"):
            whole["balance_transaction"] = entries[0]["id"]
        if name == "disputes" and not whole.get("balance_transactions"):
            whole["balance_transactions"] = entries
        self.objects["balance_transactions"] |= self.given

    def _remove(self, object_id: str) -> None:
        for objects in self.objects.values():
            objects.pop(object_id, None)
        entries = self.objects["balance_transactions"]
        for entry in [one for one in entries.values() if one.get("source") == object_id]:
            del entries[entry["id"]]
            self.given.pop(entry["id"], None)

    def _check(self, name: str, one: Object) -> None:
        is_thin = one.get("object") == "v2.core.event"
        for needed in ("id",) if is_thin else _NEEDED.get(name, ("id", "amount", "currency", "created")):
            if needed not in one:
                raise ControlInvalid(f"{name} needs {needed!r} in every entry")


def refuse_key(key: str) -> Answer:
    if not key:
        return 401, _error("invalid_request_error", "You did not provide an API key.")
    return 401, _error("invalid_request_error", f"Invalid API Key provided: {key[:8]}****{key[-4:]}")


def _fill(name: str, one: Object) -> Object:
    """Return ``one`` with the defaults of its list; a failed charge is neither paid nor captured."""
    defaults: Object = {"object": name[:-1], "livemode": False, "metadata": {}}
    if name == "charges":
        status = one.get("status", "succeeded")
        paid = status == "succeeded"
        defaults |= {
            "amount_captured": one["amount"] if paid else 0,
            "amount_refunded": 0,
            "captured": paid,
            "paid": paid,
            "refunded": False,
            "status": status,
        }
    whole = defaults | one
    return whole | ({"currency": str(one["currency"]).lower()} if "currency" in one else {})


def _error(kind: str, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "code": code, "message": message}
    if code and code not in ("rate_limit", "api_error"):
        error["doc_url"] = f"https://docs.stripe.com/error-codes/{code.replace('_', '-')}"
    return {"error": error | ({"param": param} if param else {})}
