"""The steps of an incident have its own values: no placeholder stays whose value the incident knows."""

import re
from datetime import UTC, datetime
from string import Formatter
from typing import Any

import click
import pytest

from services.alerts.decide import Change
from services.alerts.messages import Notice, format_slack, make_message
from services.alerts.rules import FIGURE_RULES, RULES
from services.alerts.runbook import FLEET, find_steps
from services.cli.main import main
from tests.structure.test_examples import CELERY, parse_line

OF_A_PERSON = {
    "TEXT": "a reason",
    "ADDRESS": "a mail address",
    "AMOUNT": "a new limit",
    "RATE": "an exchange rate",
    "DOMAIN": "a new name of the shop at Shopify",
    "MAIL": "a mail of several",
    "SLUG": "a shop of several",
    "SKU": "an item of a shelf",
    "COUNT": "what is on the shelf",
    "REQUEST_ID": "a request of several",
}
"""What the incident does not know, and what it is."""
OF_PROVIDER = {"connection_broken", "credential_expires"}
"""Rules of a provider, which may have several secrets: `fleet doctor` prints the NAME."""
OF_SHOPS = {
    rule
    for rule in RULES
    if re.search("^(ai|sms|shop|webhook|stripe|credential|connection|refresh|secret)_", rule)
} | {
    "break_old",
    "canvas_expiring",
    "canvas_invalidated",
    "canvas_stale",
    "conversations_failing",
    "cost_not_converted",
    "gap_healed",
    "merchants_without_page",
    "notion_drift",
    "reconciliation_break",
    "outreach_not_ready",
    "privacy_export_no_owner",
    "report_failed",
}
"""Rules whose incidents have a shop."""
SUBJECTS = {
    "break_old": "2026-11-20",
    "stripe_events_gap": "",
    "reconciliation_break": "",
    "work_dead": "inventory_push",
    "rule_not_computed": "secret_old",
    "alert_channel_failed": "slack",
}
DETAILS: dict[str, dict[str, Any]] = {
    "work_dead": {"last_id": 41},
    "conversations_failing": {"last_id": 41},
    "pause_long": {"scope": "--topic inventory_push"},
    "shopify_timezone_differs": {"shopify": "America/Toronto"},
    "signature_failures": {"secret": "stripe-webhook"},
    "report_failed": {"report": "Weekly payroll"},
    "cost_not_converted": {"left": "3.20 USD", "cap": "50.00 CAD"},
}


def plan_detail(rule: str) -> dict[str, Any]:
    """Return a detail with each fact of the rule's summary, as an incident has it."""
    summary = FIGURE_RULES[rule].summary if rule in FIGURE_RULES else ""
    facts = {name: f"known-{name}" for _, name, _, _ in Formatter().parse(summary) if name}
    return facts | DETAILS.get(rule, {})


def list_words(text: str) -> set[str]:
    """Return the capital words of the commands in ``text``."""
    commands = re.findall(r"`((?:fleet|celery) [^`]+)`", text)
    return {word for line in commands for word in re.findall(r"(?<![\w=])[A-Z][A-Z_]+\b", line)}


@pytest.mark.parametrize("rule", RULES)
def test_the_steps_of_an_incident_have_its_values(rule: str) -> None:
    is_of_fleet = rule in FIGURE_RULES and FIGURE_RULES[rule].is_of_fleet
    steps = find_steps(
        f"{rule}:{SUBJECTS.get(rule, 'inventory_push')}",
        shop=FLEET if is_of_fleet else "harbour",
        period="2026-11-20",
        incident_id=12,
        detail=plan_detail(rule),
    )

    assert steps is not None
    left = list_words(" ".join(steps)) - OF_A_PERSON.keys() - {"USD", "CAD"}
    assert left == ({"NAME"} if rule in OF_PROVIDER else set())


EXAMPLES = {
    "TEXT": "'it is repaired'",
    "ADDRESS": "ops@example.com",
    "AMOUNT": "'50.00 CAD'",
    "RATE": "1.37",
    "DOMAIN": "harbour.myshopify.com",
    "MAIL": "3",
    "REQUEST_ID": "f00d",
    "SLUG": "harbour",
    "SKU": "MUG-1",
    "COUNT": "4",
    "NAME": "stripe-key",
}


@pytest.mark.parametrize("shop", [FLEET, "harbour"])
@pytest.mark.parametrize("rule", RULES)
def test_each_command_of_the_steps_parses(rule: str, shop: str) -> None:
    is_of_fleet = rule in FIGURE_RULES and FIGURE_RULES[rule].is_of_fleet
    if (rule in OF_SHOPS and shop == FLEET) or (is_of_fleet and shop != FLEET):
        return
    subject = SUBJECTS.get(rule, "inventory_push")
    period = "7" if rule == "shop_redact_not_confirmed" else "2026-11-20"
    steps = find_steps(
        f"{rule}:{subject}", shop=shop, period=period, incident_id=12, detail=DETAILS.get(rule, {})
    )

    assert steps is not None
    commands = re.findall(r"`((?:fleet|celery) [^`]+)`", " ".join(steps))
    for command in commands:
        line = re.sub(r"(?<![\w-])[A-Z][A-Z_]+\b", lambda word: EXAMPLES.get(word[0], word[0]), command)
        parse_line(line)


WITHOUT_LINK = {
    "fleet alerts test": "it changes nothing of the fleet",
    "fleet audit resolve": "it resolves the incident",
    "fleet gate": "it ends the incident",
    "fleet incidents resolve": "the incident is its argument",
    "fleet mail test": "it sends one mail",
    "fleet migrate": "it works without the tables",
}
"""Commands of the steps that change something and take no --incident, and why."""


def find_options(line: str) -> tuple[str, set[str]]:
    """Return the path of the command of ``line``, and its options."""
    words = line.replace("celery -A tasks", "celery").split()
    found: click.Command | None = main if words[0] == "fleet" else CELERY[words[1]]
    path = words[:1] if words[0] == "fleet" else words[:2]
    while isinstance(found, click.Group):
        path.append(words[len(path)])
        found = found.get_command(click.Context(found), path[-1])
    assert found, line
    return " ".join(path), {name for param in found.params for name in param.opts}


@pytest.mark.parametrize("rule", RULES)
def test_each_command_that_changes_something_is_linked_to_the_incident(rule: str) -> None:
    for line in re.findall(r"`((?:fleet|celery) [^`]+)`", " ".join(RULES[rule].steps)):
        path, options = find_options(line)
        is_change = "--dry-run" in options and "--dry-run" not in line
        is_list = "--create" in options and "--create" not in line
        if is_change and not is_list and path not in WITHOUT_LINK:
            assert "--incident" in options, path
            assert line.endswith(" --incident ID"), line
        else:
            assert "--incident" not in line


def test_steps_name_the_secret_the_item_the_request_and_the_scope() -> None:
    def fix(rule: str, detail: dict[str, Any], period: str = "2026-11-20") -> str:
        steps = find_steps(rule, shop="harbour", period=period, incident_id=12, detail=detail)
        assert steps is not None
        return " ".join(steps)

    assert "`fleet shops secret harbour stripe-key --incident 12`" in fix(
        "secret_old", {"secret": "stripe-key"}
    )
    assert "discard --id 41 --reason TEXT --incident 12`" in fix("work_dead:mail_send", {"last_id": 41})
    assert "`fleet privacy confirm 7 --reason TEXT --incident 12`" in fix(
        "shop_redact_not_confirmed", {}, "7"
    )
    assert "resume -Q mail --shop harbour --incident 12`" in fix("pause_long:mail", {"scope": "-Q mail"})
    assert "resume --shop harbour --incident 12`" in fix("pause_long:everything", {"scope": ""})
    rate = fix("cost_not_converted:ai", {"left": "3.20 USD + 1.00 EUR", "cap": "50.00 CAD"})
    assert "--exchange-rates USD/CAD=RATE" in rate


NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)


def write_slack(rule: str, *subjects: str, severity: str = "P1", holders: tuple[str | None, ...] = ()) -> str:
    """Return the message about incidents 2, 3, ... of different shops and periods."""
    notices = [
        Notice(
            place + 2,
            rule,
            Change.OPENED,
            severity,
            f"{rule}:{subject}",
            f"2026-11-{20 + place}",
            "bad",
            {name: f"{value}-{place}" for name, value in plan_detail(rule).items()},
            NOW,
            f"shop-{place}",
            acknowledged_by=(*holders, *[None] * 9)[place],
        )
        for place, subject in enumerate(subjects)
    ]
    return str(format_slack(make_message(notices, NOW), UTC)["text"])


@pytest.mark.parametrize("severity", ["P1", "P2"])
@pytest.mark.parametrize("subjects", [("mail_send", "mail_send"), ("mail_send", "inventory_push")])
@pytest.mark.parametrize("rule", RULES)
def test_a_message_about_several_incidents_has_steps_for_all_of_them(
    rule: str, subjects: tuple[str, ...], severity: str
) -> None:
    text = write_slack(rule, *subjects, severity=severity)

    assert list_words(text) <= OF_A_PERSON.keys()
    assert "--incident" not in text
    assert text.endswith("`fleet incidents show 2`, `fleet incidents show 3`")
    assert ("`fleet incidents ack 2 3`" in text) == (severity == "P1")


def test_the_steps_of_several_incidents_have_the_values_that_are_equal() -> None:
    requeue = "`celery -A tasks requeue --topic mail_send --status dead`"
    assert requeue in write_slack("work_dead", "mail_send", "mail_send")
    assert "requeue" not in write_slack("work_dead", "mail_send", "inventory_push")
    assert "resume" not in write_slack("pause_long", "mail", "mail")


def test_a_message_about_several_incidents_names_each_holder() -> None:
    text = write_slack("heartbeat_old", "beat", "sweep", "broker", holders=("ada", None, "bob"))

    assert "ada holds incident 2.\nbob holds incident 4.\n" in text
    assert "`fleet incidents ack 3`" in text
