"""Errors as Notion answers them. Source: developers.notion.com, "Status codes"."""

from collections.abc import Mapping
from typing import Any

CODES: Mapping[int, str] = {
    400: "validation_error",
    401: "unauthorized",
    403: "restricted_resource",
    404: "object_not_found",
    409: "conflict_error",
    429: "rate_limited",
    500: "internal_server_error",
    502: "bad_gateway",
    503: "service_unavailable",
    504: "gateway_timeout",
    529: "service_overload",
}
"""The usual code of each status."""


class NotionError(Exception):
    """An answer that is no success. ``more`` are further fields of its body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        retry_after_seconds: int = 0,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"Retry-After": str(retry_after_seconds)} if retry_after_seconds else {}
        self.body: dict[str, Any] = {
            "object": "error",
            "status": status,
            "code": code or CODES.get(status, "internal_server_error"),
            "message": message,
            **(more or {}),
        }


def invalid(path: str, expected: str, value: str) -> NotionError:
    """Return the error of a field: ``path`` is like ``body.children.length``."""
    return NotionError(400, f"{path.partition('.')[0]} failed validation: {path} should be {expected}, "
                            f"instead was `{value}`.")  # fmt: skip


def not_found(kind: str, object_id: str) -> NotionError:
    text = (
        f"Could not find {kind} with ID: {object_id}. Make sure the relevant pages and databases are shared "
        "with your connection."
    )
    return NotionError(404, text)
