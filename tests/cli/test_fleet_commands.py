"""``fleet shops``, ``events``, ``work`` and ``completion``, against a real ledger."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from sqlalchemy import Engine, text

from services.cli.main import main
from services.cli.output import safe_text
from services.core.db import transaction
from services.shops.secrets import list_webhook_keys
from tests.cli.commands import ADD, SECRET, Typed, run
from tests.ledger_rows import accept, new_event


def test_shop_is_added_listed_shown_and_changed(harbour: str) -> None:
    assert [shop["slug"] for shop in json.loads(run("shops", "list", "--json").output)] == ["harbour"]

    changed = run("shops", "set", "harbour", "--currency", "USD", "accountant_email=books@harbour.example")
    assert "currency: CAD -> USD" in changed.output

    shown = json.loads(run("shops", "show", "harbour", "--json").output)
    assert (shown["currency"], shown["accountant_email"]) == ("USD", "books@harbour.example")
    assert shown["secrets"] == []
    assert "Harbour" in run("shops", "show", "harbour").output


def test_no_shops_yet_says_what_to_do(engine: Engine) -> None:
    assert "No shops yet: fleet shops add" in run("shops", "list").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "harbour", *ADD], "'harbour' is taken"),
        (["add", "Bad!", *ADD], "slug='Bad!' should be"),
        (["add", "mill", "--name", "Mill"], "Missing option"),
        (["show", "nowhere"], "there is no shop 'nowhere'"),
        (["set", "harbour"], "nothing to change"),
        (["set", "harbour", "colour=red"], "field 'colour' should be one of name, timezone"),
        (["set", "harbour", "currency"], "should be field=value"),
        (["secret", "harbour", "shopify-secret", "--generate"], "did you mean 'shopify-client-secret'"),
        (["secret", "harbour", "shopify-token", "--generate"], "cannot be generated"),
        (["secret", "harbour", "shopify-webhook"], "--stdin or --generate"),
        (
            ["secret", "harbour", "shopify-webhook", "--stdin", "--previous-valid-for", "long"],
            "a duration such as",
        ),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_right(harbour: str, arguments: list[str], message: str) -> None:
    result = run("shops", *arguments)

    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["shops", "show", "\udcff"], "slug"),
        (["shops", "set", "harbour", "currency=CAD", "name=\udcff"], "changes"),
        (["shops", "set", "harbour", "currency=USD", "--as", "\udcff"], "--as"),
        (["payments", "trace", "#\udcff", "--shop", "harbour"], "reference"),
        (["audit", "verify", "--shop", "\udcff"], "shop"),
        (["stock", "low", "--shop", "\udcff", "--json"], "shop"),
        (["jobs", "history", "--shop", "\udcff"], "shop"),
        (["mail", "list", "--shop", "\udcff"], "shop"),
    ],
)
def test_an_argument_that_is_not_utf_8_is_wrong_usage(harbour: str, arguments: list[str], name: str) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(rf"{name}=.*udcff.* should be text in UTF-8", result.stderr)


def _list_leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _list_leaves(found, (*path, name))


def test_every_number_of_a_command_has_its_limits() -> None:
    celery = [(entry.name, entry.load()) for entry in entry_points(group="celery.commands")]
    commands = [*_list_leaves(main, ("fleet",)), *celery]

    without_limits = [
        f"{path}: {parameter.name}"
        for path, command in commands
        for parameter in command.params
        if isinstance(parameter.type, type(click.INT))
        and (getattr(parameter.type, "min", None) is None or getattr(parameter.type, "max", None) is None)
    ]

    assert len(commands) > 40
    assert without_limits == ["fleet demo: seed"], "see ``ID`` in services.cli.base"


def test_secret_from_stdin_is_recorded_and_never_printed(harbour: str) -> None:
    first = run("shops", "secret", "harbour", "shopify-webhook", "--stdin", answer=SECRET + "\n")
    second = run(
        "shops",
        "secret",
        "harbour",
        "shopify-webhook",
        "--stdin",
        "--keep-previous",
        "2h",
        answer="shpss_new",
    )
    shown = run("shops", "show", "harbour"), run("shops", "show", "harbour", "--json")

    assert "Recorded shopify-webhook of harbour." in first.output
    assert "The previous one is valid until" in second.output
    for result in (first, second, *shown):
        assert SECRET not in result.output
        assert "shpss_new" not in result.output
    with transaction() as tx:
        (key,) = list_webhook_keys(tx)
    assert key.values == ("shpss_new", SECRET)


def test_generated_secret_is_printed_once_alone_on_stdout(harbour: str) -> None:
    result = run("shops", "secret", "harbour", "stripe-webhook", "--generate")

    with transaction() as tx:
        (key,) = list_webhook_keys(tx)
    assert result.stdout == key.values[0] + "\n"


def test_wrong_secret_is_refused_and_not_repeated(harbour: str) -> None:
    result = run("shops", "secret", "harbour", "stripe-webhook", "--stdin", answer="sk_live_precious")

    assert result.exit_code == 2
    assert "precious" not in result.output


def test_events_are_listed_by_filter_and_shown_with_their_work(engine: Engine, harbour: str) -> None:
    body = '{"id": 9007199254740993, "note": "Grüße\\u001b[31m\u009b1m"}'.encode()
    accept(engine, new_event(1, body=body, headers={"x-shopify-topic": "orders/create"}))
    accept(engine, new_event(2, provider="stripe", topic="charge.succeeded"))

    listed = json.loads(run("events", "list", "--shop", "harbour", "--provider", "shopify", "--json").output)
    assert [(event["id"], event["shop"], event["work"]) for event in listed] == [
        (1, "harbour", {"pending": 1})
    ]

    shown = run("events", "show", "1").output
    assert "9007199254740993" in shown
    assert "Grüße" in shown
    assert "order_ingest" in shown
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert run("events", "show", "1", "--raw").stdout_bytes == body
    assert json.loads(run("events", "show", "1", "--json").output)["body"]["id"] == 9007199254740993


def test_replay_asks_acts_and_audits(engine: Engine, broker_url: str, harbour: str) -> None:
    accept(engine, new_event(1), new_event(2))

    assert "2 events would be replayed." in run("events", "replay", "--shop", "harbour", "--dry-run").output
    assert run("events", "replay", "1", answer=Typed("n\n")).exit_code == 1
    result = run("events", "replay", "1", "--actor", "ada", "--reason", "mended", answer=Typed("y\n"))

    assert "1 event replayed, work planned: 1." in result.output
    with transaction(engine) as tx:
        assert tx.scalar(text("select count(*) from inbound_events")) == 3
        by = tx.scalars(text("select staff_label from audit_events where action = 'event.replay'")).all()
    assert by == ["ada"]


def test_a_dry_run_of_replay_counts_by_shop_and_topic(engine: Engine, harbour: str) -> None:
    unknown = {"provider": "stripe", "topic": "radar.early_fraud_warning.created"}
    accept(engine, new_event(1), new_event(2), new_event(3, **unknown))
    accept(engine, new_event(4, origin="edit", replay_of=1))

    shown = run("events", "replay", "--shop", "harbour", "--dry-run").output
    document = json.loads(run("events", "replay", "--shop", "harbour", "--dry-run", "--json").output)

    assert re.search(r"harbour +shopify +orders/create +2 +order_ingest", shown)
    assert re.search(r"harbour +stripe +radar\S+ +1 +none: this topic has no handler", shown)
    assert "Left out: 1 event that a replay or an edit made." in shown
    assert (document["count"], document["left_out"]) == (3, 1)
    assert {one["topic"]: one["events"] for one in document["groups"]} == {
        "orders/create": 2,
        unknown["topic"]: 1,
    }


def test_an_edit_is_marked_in_lists_and_single_rows(engine: Engine, harbour: str) -> None:
    accept(engine, new_event(1), new_event(2, origin="edit", replay_of=1))

    assert "edit of 1" in run("events", "list").output
    shown = run("events", "show", "2").output
    assert "edit" in shown.split("origin", 1)[1].split("\n", 1)[0]
    assert [one["origin"] for one in json.loads(run("work", "list", "--json").output)] == ["edit", "webhook"]
    assert " edit " in run("work", "list").output
    assert "edit" in run("work", "show", "2").output.split("origin", 1)[1].split("\n", 1)[0]


def test_replay_of_everything_is_wrong_usage(engine: Engine) -> None:
    assert run("events", "replay", "-f").exit_code == 2


def test_work_is_listed_by_filter_and_shown(engine: Engine, harbour: str) -> None:
    accept(engine, new_event(1), new_event(2, body=b"?", readable=False))

    (dead,) = json.loads(run("work", "list", "--status", "dead,error", "--json").output)
    assert (dead["error_code"], dead["shop"]) == ("unreadable", "harbour")
    assert "unreadable" in run("work", "list", "--shop", "harbour").output
    shown = run("work", "show", str(dead["id"])).output
    assert f"Its event: fleet events show {dead['event_id']}" in shown
    assert "No work matches." in run("work", "list", "--queue", "email").output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str) -> None:
    result = run("completion", shell)

    assert result.exit_code == 0
    assert "_FLEET_COMPLETE" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        *([group] for group in ("shops", "events", "work", "send", "completion")),
        *(["shops", name] for name in ("add", "list", "show", "set", "secret")),
        *(["events", name] for name in ("list", "show", "replay")),
        *(["work", name] for name in ("list", "show")),
    ],
)
def test_every_help_has_an_example(arguments: list[str]) -> None:
    assert "Example: fleet" in run(*arguments, "--help").output.replace('eval "$(', "")


def test_control_characters_are_spelled_out() -> None:
    assert safe_text("a\x1b[31mb\tc\nd\x9be\u202ef") == "a\\x1b[31mb\\tc\nd\\x9be\\u202ef"


@pytest.mark.parametrize("month", ["9999-12", "9998-06", "0001-01", "1999-12"])
def test_month_or_day_outside_the_calendar_is_wrong_usage(harbour: str, month: str) -> None:
    """Adding a day or a month would overflow."""
    for command in (
        ("close", "show", harbour, month),
        ("books", "breaks", "--shop", harbour, "--day", f"{month}-30"),
        ("events", "list", "--since", f"{month}-30"),
    ):
        outcome = run(*command)
        assert outcome.exit_code == 2, (command, outcome.output)
        assert "of the years 2000 to 2099" in outcome.output


def test_a_shop_that_was_never_connected_is_removed_without_a_fault(
    harbour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.shops_remove.SETTLE_SECONDS", 0.0)

    done = run("shops", "remove", harbour, "--export", str(tmp_path / "data"), "--confirm", harbour)

    assert done.exit_code == 0, done.output
    assert "not connected to Shopify: no webhook subscription to delete" in done.output
    assert "shopify." not in done.output
