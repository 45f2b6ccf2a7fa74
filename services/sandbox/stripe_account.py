"""One Stripe account of the sandbox: charges that were put there, listed as Stripe lists them."""

from dataclasses import dataclass, field
from typing import Any

from services.sandbox.faults import ControlInvalid, Faults

Answer = tuple[int, dict[str, Any]]


@dataclass
class StripeAccount:
    """Charges by id, and faults on demand."""

    key: str
    charges: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    counts: dict[str, int] = field(default_factory=dict)

    def control(self, asked: dict[str, Any]) -> None:
        """Add ``charges`` (each with id, amount, currency, created), drop ``forget`` ids, set faults."""
        for charge in asked.get("charges", ()):
            for name in ("id", "amount", "currency", "created"):
                if name not in charge:
                    raise ControlInvalid(f"charges needs {name!r} in every entry")
            self.charges[charge["id"]] = _fill(charge)
        for charge_id in asked.get("forget", ()):
            self.charges.pop(charge_id, None)
        self.faults.set(asked)

    def list_charges(self, query: dict[str, str]) -> Answer:
        """Return (HTTP status, body) of GET /v1/charges: newest first, ``limit`` at a time."""
        failure = self.faults.take_failure()
        if failure:
            kind = "rate_limit" if failure == 429 else "api_error"
            return failure, _error(kind, f"sandbox fault {failure}", code=kind)
        try:
            limit = int(query.get("limit", "10"))
            wanted = [charge for charge in self.charges.values() if _is_within(charge["created"], query)]
        except ValueError as wrong:
            return 400, _error("invalid_request_error", f"Invalid integer: {wrong}", code="parameter_invalid")
        if not 1 <= limit <= 100:
            return 400, _error("invalid_request_error", f"limit={limit} should be from 1 to 100")
        wanted.sort(key=lambda charge: (charge["created"], charge["id"]), reverse=True)

        after = query.get("starting_after")
        if after:
            ids = [charge["id"] for charge in wanted]
            if after not in ids:
                return 400, _error(
                    "invalid_request_error", f"No such charge: {after}", code="resource_missing"
                )
            wanted = wanted[ids.index(after) + 1 :]
        page = {
            "object": "list",
            "url": "/v1/charges",
            "data": wanted[:limit],
            "has_more": len(wanted) > limit,
        }
        return 200, page


def refuse_key() -> Answer:
    """Return Stripe's answer to a key it does not know."""
    return 401, _error("invalid_request_error", "Invalid API Key provided")


def _is_within(created: int, query: dict[str, str]) -> bool:
    return (
        created >= int(query.get("created[gte]", created))
        and created > int(query.get("created[gt]", created - 1))
        and created <= int(query.get("created[lte]", created))
        and created < int(query.get("created[lt]", created + 1))
    )


def _fill(charge: dict[str, Any]) -> dict[str, Any]:
    """Return ``charge`` with what the list always has; a failed one is neither paid nor captured."""
    status = charge.get("status", "succeeded")
    paid = status == "succeeded"
    usual = {
        "object": "charge",
        "amount_captured": charge["amount"] if paid else 0,
        "amount_refunded": 0,
        "captured": paid,
        "livemode": False,
        "metadata": {},
        "paid": paid,
        "refunded": False,
        "status": status,
    }
    return usual | charge | {"currency": str(charge["currency"]).lower()}


def _error(kind: str, message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"type": kind, "code": code, "message": message}}
