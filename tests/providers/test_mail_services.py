"""Requests to SendGrid and Resend, compared with the OpenAPI of each."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from services.providers.mail_services import make_resend_body, make_sendgrid_body
from services.providers.outgoing_mail import Attachment, OutgoingMail

SPECS = {
    "sendgrid": ("sendgrid/tsg_mail_v3.openapi.json", "/v3/mail/send", make_sendgrid_body),
    "resend": ("resend/resend.openapi.json", "/emails", make_resend_body),
}
LETTER = OutgoingMail(
    sender='"Harbour, Ltd." <fleet@example.org>',
    recipient="owner@example.com",
    subject="Übersicht\r\nBcc: spy@example.net",
    text="text",
    html="<p>html</p>",
    message_id="1@example.org",
    date=dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
    idempotency_key="shopfleet-1",
    headers={"Auto-Submitted": "auto-generated", "List-Unsubscribe": "<https://example.org/x>"},
    attachments=(Attachment(name="a.csv", content_type="text/csv", content=b"1"),),
    inline=(Attachment(name="b.png", content_type="image/png", content=b"2", content_id="logo"),),
)


def find_faults(schema: dict[str, Any], value: Any, root: dict[str, Any], at: str = "") -> list[str]:
    """Return the faults of ``value`` by the schema: the part of JSON Schema that both specs use."""
    while "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    if "oneOf" in schema:
        return min((find_faults(one, value, root, at) for one in schema["oneOf"]), key=len)
    faults = [fault for one in schema.get("allOf", ()) for fault in find_faults(one, value, root, at)]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    kind = schema.get("type")
    if kind in kinds and not isinstance(value, kinds[kind]):
        return [f"{at} should be {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        faults.append(f"{at} should be one of {schema['enum']}")
    if isinstance(value, dict) and "properties" in schema:
        faults += [f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, part in value.items():
            if name not in schema["properties"]:
                faults.append(f"{at}.{name} is not known")
            else:
                faults += find_faults(schema["properties"][name], part, root, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        faults += [
            f for n, part in enumerate(value) for f in find_faults(schema["items"], part, root, f"{at}[{n}]")
        ]
    return faults


@pytest.mark.parametrize("service", SPECS)
def test_request_bodies_match_the_openapi_of_the_services(service: str, samples: Path) -> None:
    file, path, request_body = SPECS[service]
    root = json.loads((samples / file).read_text())
    body: Any = root["paths"][path]["post"]["requestBody"]
    while "$ref" in body:
        body = root["components"]["requestBodies"][body["$ref"].rpartition("/")[2]]
    schema = body["content"]["application/json"]["schema"]

    sent = request_body(LETTER)

    assert find_faults(schema, sent, root) == []
    assert find_faults(schema, sent | {"unheard": 1}, root) == [".unheard is not known"]
    assert "\r" not in json.dumps(sent, ensure_ascii=False)
    assert "owner@example.com" in json.dumps(sent)
