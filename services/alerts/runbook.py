"""The runbook: what a person does about an incident of each rule, from ``runbook.toml``."""

import re
import shlex
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FLEET = "fleet"
"""The name of an incident's shop if it has none."""
_FILE = Path(__file__).with_name("runbook.toml")
_COMMAND = re.compile("`((?:fleet|celery) [^`]+)`")
_PLACEHOLDER = re.compile(
    r"\b(SHOP|ID|JOB|TOPIC|PERIOD|DAY|REQUEST|NAME|ITEM|ZONE|BILLED|LIMIT|CHAIN|REPORT)\b"
)
_OF_SHOP = re.compile(r"(?<!backfill run) --shop SHOP\b")
_OF_SCOPE = " SCOPE"
_OF_INCIDENT = " --incident ID"
_NOT_COMMON = re.compile(rf"{_PLACEHOLDER.pattern}|{_OF_SCOPE}\b")
_SHOP_OF_TOPIC = re.compile(r"(--topic [a-z_]+) --shop SHOP\b")
_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z`])")


class Steps(NamedTuple):
    """Sentences with commands in backticks; SHOP, JOB and the like are to be replaced."""

    confirm: str
    fix: str
    verify: str


@cache
def read_runbook() -> Mapping[str, Steps]:
    """Return the steps of each rule."""
    return {name: Steps(**steps) for name, steps in tomllib.loads(_FILE.read_text("utf-8")).items()}


def find_steps(
    rule: str, *, shop: str, period: str, incident_id: int | None, detail: Mapping[str, Any] = {}
) -> Steps | None:
    """Return the steps of one incident with its own values, or of several (no id) with the values of all.

    A placeholder stays if only a person knows the value. Of several incidents, ``shop``, ``period`` and
    ``detail`` are what all of them have: a sentence that needs another value is left out. ``rule`` is that of
    the incident, with its subject. None: it is a rule of a former release.
    """
    base, _, subject = rule.partition(":")
    if (found := read_runbook().get(base)) is None:
        return None
    words = {"JOB": subject, "TOPIC": subject, "PERIOD": period, "DAY": subject or period}
    words |= {
        "ID": str(incident_id or ""),
        "SHOP": shop,
        "CHAIN": shop,
        "REQUEST": period,
        **_read_words(detail),
    }
    if "scope" in detail:
        scope = f" {detail['scope']}" if detail["scope"] else ""
        found = Steps(*(text.replace(_OF_SCOPE, scope) for text in found))
    if shop == FLEET:
        found = Steps(*(_OF_SHOP.sub("", text) for text in found))
        words |= {"SHOP": "SLUG"}  # any shop
    steps = Steps(*(_PLACEHOLDER.sub(lambda one: words[one[1]] or one[1], text) for text in found))
    return steps if incident_id else Steps(*map(_keep_common, steps))


def _keep_common(text: str) -> str:
    """Return the sentences of ``text`` without placeholders; a command for a topic is for all its shops.

    A command for several incidents is on the timeline of none.
    """
    text = _SHOP_OF_TOPIC.sub(r"\1", text.replace(_OF_INCIDENT, ""))
    return " ".join(one for one in _SENTENCE.split(text) if not _NOT_COMMON.search(one))


def _read_words(detail: Mapping[str, Any]) -> dict[str, str]:
    """Return the words that the detail of an incident replaces."""
    return {
        "NAME": str(detail.get("secret", "")),
        "ITEM": str(detail.get("last_id", "")),
        "ZONE": str(detail.get("shopify", "")),
        "BILLED": str(detail.get("left", "")).partition(" + ")[0][-3:],
        "LIMIT": str(detail.get("cap", ""))[-3:],
        "REPORT": shlex.quote(str(detail["report"])) if "report" in detail else "",
    }


def find_command(text: str) -> str:
    """Return the first command of Shopfleet in ``text``; empty if it has none."""
    found = _COMMAND.search(text)
    return found[1] if found else ""
