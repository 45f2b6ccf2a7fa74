"""OpenAPI schemas of the changes by POST that are of no single row of a list. Pure."""

from typing import NamedTuple

from services.accounts.roles import Role
from services.console.api_schemas import NUMBER, STRING, STRINGS, Document, make_object
from services.core.fields import LONGEST_TEXT
from services.providers.provider import MONEY
from services.shops.shops import FIELDS


class ApiChange(NamedTuple):
    """A change by POST. ``fields`` of the body and their schemas; an ``answer`` of None is a file.

    ``role`` is the least one for it.
    """

    operation: str
    path: str
    text: str
    fields: Document
    answer: Document | None
    required: tuple[str, ...] = ()
    role: Role = Role.OPERATOR


_DONE = make_object({"result": STRING})
_REASON = STRING | {"maxLength": LONGEST_TEXT, "description": "for the audit"}
_PLANNED = _DONE | {"properties": {"result": STRING, "lines": STRINGS}}
_DRY_RUN: Document = {"type": "boolean", "description": "answers with the effect, and changes nothing"}
_OF_SHOP = {"shop": STRING | {"description": "a shop's slug; empty: the fleet"}}
_HEADERS: Document = {"type": "object"}
CHANGES = (
    ApiChange(
        "change_queues",
        "/queues/change",
        "`act`: `pause` (`what` such as queue:email, `mode`, `lasts`), `resume` (`pause`, `rate`) or "
        "`backoff` (`topic`, `factor`).",
        {
            "act": {"enum": ["pause", "resume", "backoff"]},
            **dict.fromkeys(("what", "mode", "lasts", "rate", "topic"), STRING),
            **_OF_SHOP,
            "pause": NUMBER,
            "factor": {"type": "number"},
            "reason": _REASON,
            "dry_run": _DRY_RUN,
        },
        _PLANNED,
        ("act",),
    ),
    ApiChange(
        "change_job",
        "/jobs/{job}/change",
        "`act`: `run` (`period`, `again`), `pause`, `resume`, or `schedule` (admin).",
        {
            "act": {"enum": ["run", "pause", "resume", "schedule"]},
            **_OF_SHOP,
            "period": STRING,
            "again": {"type": "boolean"},
            "schedule": STRING,
            "reason": _REASON,
            "dry_run": _DRY_RUN,
        },
        _PLANNED,
        ("act",),
    ),
    ApiChange(
        "verify_audit",
        "/audit/verify",
        "Verify the chain of a shop from its last checkpoint on; without one, start the job for all chains.",
        _OF_SHOP,
        make_object({"result": STRING, "faults": STRINGS}),
    ),
    ApiChange(
        "export_audit",
        "/audit/export",
        "The chain of a shop, or all chains, as `fleet audit export` writes it.",
        _OF_SHOP,
        None,
        role=Role.ADMIN,
    ),
    ApiChange(
        "send_report",
        "/reports/{number}/send",
        "Send a report of a period, once; without one, of the newest that is over.",
        {"period": STRING},
        _DONE,
    ),
    ApiChange(
        "unmask_work",
        "/work/{number}/unmask",
        "The payload.",
        {},
        make_object({"payload": {}}),
        role=Role.ADMIN,
    ),
    ApiChange(
        "unmask_event",
        "/events/{number}/unmask",
        "Headers and body.",
        {},
        make_object({"headers": _HEADERS, "payload": {}}),
        role=Role.ADMIN,
    ),
    ApiChange(
        "unmask_mail",
        "/mails/{number}/unmask",
        "Address, subject, headers and plain text.",
        {},
        make_object({**dict.fromkeys(("recipient", "subject", "text"), STRING), "headers": _HEADERS}),
        role=Role.ADMIN,
    ),
    ApiChange(
        "change_settings",
        "/shops/{shop}/settings",
        "Set fields of a shop; `force`: also if costs of this month count against no limit any more.",
        {**dict.fromkeys(FIELDS, STRING), "force": {"type": "boolean"}},
        _DONE,
        role=Role.ADMIN,
    ),
    ApiChange(
        "change_staff",
        "/shops/{shop}/staff",
        "Set the name of a staff number at Shopify; without `name` remove it.",
        {"number": STRING, "name": STRING},
        _DONE,
        ("number",),
        role=Role.ADMIN,
    ),
    ApiChange(
        "record_secret",
        "/shops/{shop}/secrets",
        "Record `value`, `generate` one, which is in this answer alone, or `restore` the retired secret of "
        "this name; the replaced one stays valid for `hours`.",
        {
            "name": STRING,
            "value": STRING | {"writeOnly": True},
            "hours": {"type": "integer"},
            "generate": {"type": "boolean"},
            "restore": STRING,
        },
        _DONE | {"properties": {"result": STRING, "value": STRING}},
        role=Role.ADMIN,
    ),
    ApiChange(
        "set_threshold",
        "/shops/{shop}/thresholds",
        "Set the shop's own threshold of a rule; without `threshold` remove it.",
        {"rule": STRING, "threshold": {"type": "number"}, "reason": _REASON},
        _DONE,
        ("rule", "reason"),
        role=Role.ADMIN,
    ),
    ApiChange(
        "download_month",
        "/shops/{shop}/months/{period}/download",
        "The files of a closed month as ZIP, each compared with its hash.",
        {},
        None,
        role=Role.ADMIN,
    ),
    ApiChange(
        "save_report",
        "/shops/{shop}/reports",
        "Add a report, or change the one of this name; a field that is not sent has its default.",
        {
            **dict.fromkeys(("name", "kind", "schedule", "covers"), STRING),
            **dict.fromkeys(("recipients", "formats"), STRINGS),
            **dict.fromkeys(("overtime", "week_begins"), STRING),
            "day_begins": {"type": "integer"},
        },
        make_object({"result": STRING, "id": NUMBER}),
        ("name", "kind", "schedule", "covers", "recipients"),
        role=Role.ADMIN,
    ),
    ApiChange(
        "pause_report",
        "/reports/{number}/pause",
        "Pause a report, or with `is_paused` false send it again.",
        {"is_paused": {"type": "boolean"}},
        _DONE,
        ("is_paused",),
        role=Role.ADMIN,
    ),
    ApiChange(
        "preview_report",
        "/reports/{number}/preview",
        "Make a report without storing or sending it: at most 200 rows; `hidden` counts the others.",
        {"period": STRING},
        make_object(
            {
                "period": STRING,
                **dict.fromkeys(("titles", "totals", "notes"), STRINGS),
                "rows": {"type": "array", "items": STRINGS},
                "hidden": {"type": "integer"},
            }
        ),
    ),
    ApiChange(
        "change_letter",
        "/letters/{number}/edit",
        "Replace the text of a letter that is not mailed; `seen` is its `version`: another one is refused.",
        dict.fromkeys(("subject", "body", "seen"), STRING),
        _DONE,
        ("subject", "body"),
    ),
    ApiChange(
        "add_planned",
        "/letters/planned",
        "Add a change that letters announce until its day is over; without a shop those of all shops.",
        {"text": STRING, "planned_on": STRING, **_OF_SHOP},
        _DONE,
        ("text", "planned_on"),
    ),
    ApiChange("delete_planned", "/letters/planned/{number}/delete", "Delete a planned change.", {}, _DONE),
    ApiChange(
        "edit_event",
        "/events/{number}/edit",
        "Without `body`: the stored one and its hash, `opened`. With both: record the edit as a new event. "
        f"Topics of {MONEY} need the role owner.",
        {"body": STRING, "opened": STRING, "reason": _REASON, "dry_run": _DRY_RUN},
        {
            "type": "object",
            "properties": {
                **dict.fromkeys(("result", "body", "opened"), STRING),
                "event_id": NUMBER,
                "changes": {
                    "type": "array",
                    "items": make_object(dict.fromkeys(("path", "before", "after"), STRING)),
                },
            },
        },
        role=Role.ADMIN,
    ),
)
"""What a person changes or sees unmasked. Each is audited."""
