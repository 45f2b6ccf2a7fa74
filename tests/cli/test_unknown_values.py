"""An unknown shop, queue, topic, provider, name or id is exit code 2 with the valid values named."""

import subprocess
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.core.errors import MAX_NAMED, did_you_mean, suggest
from tasks import commands
from tests.cli.commands import run
from tests.cli.programs import run_celery
from tests.cli.test_celery_commands import run as run_own_command
from tests.ledger_rows import accept, new_event

BIN = Path(__file__).parents[2] / ".venv" / "bin"
QUEUES = "should be one of webhooks, inventory, reconciliation, email, sync, reports, ops"


@pytest.fixture
def event(engine: Engine, harbour: str) -> None:
    accept(engine, new_event(1), new_event(2, provider="stripe", topic="charge.succeeded"))


@pytest.mark.usefixtures("event")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("events list --topic typo", "'typo' is none of the "),
        ("events list --topic typo", " known names: the value 'help' lists all"),
        (
            "events list --topic help",
            "\n  account.application.authorized, account.application.deauthorized,\n",
        ),
        ("audit list --table shop", "did you mean 'shops'?"),
        ("events list --topic orders/creat", "did you mean 'orders/create'?"),
        ("events list --topic charge.refund", "did you mean 'charge.refunded'?"),
        (
            "events list --provider stirpe",
            "should be one of shopify, stripe, openphone, quo, sendgrid, resend; did you mean 'stripe'?",
        ),
        (
            "events list --provider standard:nobody",
            "should be one of shopify, stripe, openphone, quo, sendgrid, resend",
        ),
        ("events list --shop harbor", "it should be one of harbour; did you mean 'harbour'?"),
        ("events list --since 2099-01-01", "'2099-01-01' is in the future"),
        ("events show 99999", "there is no event 99999: the newest is 2, `fleet events list` lists them"),
        ("events replay 99999", "there is no event 99999: the newest is 2"),
        ("events replay 1 99999 --dry-run", "there is no event 99999"),
        ("events replay --topic typo -f", "'typo' is none of the "),
        ("events show 0", "'0' should be the number of a row"),
        ("events show -12", "Invalid value for 'EVENT_ID': '-12' should be a number above 0"),
        ("events replay", "the filter is empty: give ids, --shop, --provider, --topic or another"),
        ("work list --topic inventory_pus", "'inventory_pus' is none of the "),
        ("events show 9223372036854775808", "should be the number of a row"),
        ("events list --since 1h --until 2h", " should be after --since=2"),
        ("work list --topic nope", "Invalid value for '--topic': 'nope' "),
        ("work list -Q emial", f"'emial' {QUEUES}; did you mean 'email'?"),
        ("work list --topic order_ingst", "did you mean 'order_ingest'?"),
        ("work list --status dead,eror", "'eror' should be one of pending, done, error"),
        ("work show 99999", "there is no work 99999"),
        ("mail list --kind dayly_anomalies", "did you mean 'daily_anomalies'?"),
        ("mail list --status snt", "did you mean 'sent'?"),
        ("mail show 99999", "there is no mail 99999: there is none yet"),
        ("mail preview nothing", "'nothing' should be one of "),
        ("incidents list --rule nosuch", "there is no rule 'nosuch': `fleet alerts list` has all\n"),
        ("payments breaks --shop harbour --day 2026-13-01", "'2026-13-01' should be a day such as"),
        ("payments breaks --shop harbour --day 2026-11-31", "November 2026 has 30 days"),
        ("events list --since 2026-02-30", "February 2026 has 28 days"),
        ("jobs run daily-reconciliation --period 2026-11-31", "November 2026 has 30 days"),
        ("alerts set nosuch --threshold 1 --reason x", "known names: `fleet alerts list` lists all"),
        ("alerts set sms_over_budgt --threshold 1 --reason x", "did you mean 'sms_over_budget'?"),
        ("incidents list --rule work", "did you mean 'work_dead'?"),
        ("incidents list --rule work_dead:order_ingst", "did you mean 'work_dead:order_ingest'?"),
        ("incidents show 99999", "there is no incident 99999"),
        ("privacy confirm 99999 --reason x -f", "there is no privacy request 99999"),
        ("jobs history dayly-reconciliation", "did you mean 'daily-reconciliation'?"),
        ("jobs run dayly-reconciliation", "did you mean 'daily-reconciliation'?"),
        ("shops secret harbour shopify-webhok --generate", "did you mean 'shopify-webhook'?"),
        ("stock pools mugs", "'mugs' does not exist: there is none yet"),
        (
            "payments trace #1001 --shop harbour",
            "harbour has no payment '#1001' among 0 orders of Shopify and 0 transactions of Stripe",
        ),
        ("payments trace ch_nothing --shop harbour", "shopify-token: fleet shops connect harbour;"),
        ("shops secret harbour shopify-token", "source of shopify-token: --from-file or --stdin\n"),
        ("shops secret harbour stripe-webhook", "stripe-webhook: --from-file, --stdin or --generate\n"),
        ("send stripy harbour", "did you mean 'stripe'?"),
        ("audit verify --shop harbor", "did you mean 'harbour'?"),
        (
            "month-close preview 2099-01 --shop harbour --to x",
            "future: it begins 2099-01-01 00:00",
        ),
        ("month-close show 2099-01 --shop harbour", "'2099-01' is in the future"),
        ("month-close verify 2099-01 --shop harbour", "'2099-01' is in the future"),
        ("payments breaks --shop harbour --day 2099-01-01", "'2099-01-01' is in the future"),
        ("payments repair --shop harbour --day 2099-01-01", "'2099-01-01' is in the future"),
        ("jobs run monthly-close --shop harbour --period 2099-01", "--period='2099-01' is not over yet"),
        ("backfill run --shop harbour --since 2099-01-01", "'2099-01-01' is in the future"),
        ("month-close tax-profile --shop harbour --province CA-ZZ", "--province='CA-ZZ' should be one of"),
        ("month-close tax-profile --shop harbour --gst abc", "--gst='abc' should be"),
        ("month-close tax-profile --shop harbour --registered GTS", "'GTS' should be one of"),
        ("shops set harbour --currency ZZZ", "--currency='ZZZ' should be"),
        ("shops set harbour --currency CAN", "did you mean 'CAD'?"),
        ("shops set harbour --currency GPB", "did you mean 'GBP'?"),
        ("shops set harbour ai_uses=summariesvectors", "ai_uses='summariesvectors' should be summaries, vec"),
        ("shops set harbour ai_uses=,vectors", "ai_uses=',vectors' should be summaries, vectors, both"),
        ("shops set harbour shop_floor=yes", "shop_floor='yes' should be on or off"),
        ("shops set harbour curency=CAD", "did you mean 'currency'?"),
        ("jobs history --status dne", "did you mean 'done'?"),
        ("mail preview daily", "did you mean 'daily_anomalies'?"),
        ("evnts list", "'events'"),
        ("month-close show --shop WRONG", "Invalid value for '--shop': there is no shop 'WRONG'"),
        ("month-close show 2026-10", "name the shop with --shop: there is no shop '2026-10'"),
        ("month-close preview 2026-10 --to x", "Missing option: --shop SHOP"),
        ("stock show MUG-0001", "name the shop with --shop: there is no shop 'MUG-0001'"),
        ("stock reorder-point MUG-0001 12", "Missing option: --shop SHOP"),
        ("alerts export", "Missing option: --prometheus\n"),
        ("shops add mill --name Mill --timezone UTC --currency ZZZ", "--currency='ZZZ' should be"),
        ("shops set harbour --ai-cap 50", "--ai-cap='50' should be"),
        ("shops set harbour ai_cap=50", "Error: ai_cap='50' should be"),
        ("shops set harbour --timezone PST", "did you mean 'America/Los_Angeles' or"),
        ("shops set harbour --timezone America/Vancover", "did you mean 'America/Vancouver'?"),
    ],
)
def test_an_unknown_value_of_fleet_is_refused(line: str, message: str) -> None:
    refused = run(*line.split())

    assert refused.exit_code == 2, refused.output
    assert message in refused.output


@pytest.mark.usefixtures("event")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("requeue --id 99999", "there is no work 99999: the newest is 2, `fleet work list` lists them"),
        ("requeue --topic order_ingst -f", "did you mean 'order_ingest'?"),
        ("discard -Q emial --reason x -f", f"'emial' {QUEUES}"),
        ("unlock --shop harbor -f", "did you mean 'harbour'?"),
        ("pause -Q emial -f", "did you mean 'email'?"),
        ("resume --topic order_ingst -f", "did you mean 'order_ingest'?"),
    ],
)
def test_an_unknown_value_of_a_command_added_to_celery_is_refused(line: str, message: str) -> None:
    name, *words = line.split()
    refused = run_own_command(getattr(commands, name), *words)

    assert refused.exit_code == 2, refused.output
    assert message in refused.output


@pytest.mark.usefixtures("event")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("requeue --topic order_ingst -f", "did you mean 'order_ingest'?"),
        ("purge -Q emial", f"'emial' {QUEUES}; did you mean 'email'?"),
        ("purge -f -X emial", f"'emial' {QUEUES}; did you mean 'email'?"),
        ("worker -Q webhook", f"'webhook' {QUEUES}; did you mean 'webhooks'?"),
        ("worker -Q webhooks,emial", f"'emial' {QUEUES}"),
        ("worker -Q webhooks -c 0", "0 is not in the range x>=1"),
        ("call order_ingst", "did you mean 'order_ingest'?"),
        ("call sweep --queue emial", f"'emial' {QUEUES}"),
        ("control add_consumer emial", f"queue='emial' {QUEUES}"),
        ("control log_level infos", "level='infos' should be one of debug, info, warning, error"),
        ("control log_level", "log_level needs its arguments: <debug|info|warning|error>"),
        ("control rate_limit order_ingst 1/s", "did you mean 'order_ingest'?"),
        ("control rate_limit order_ingest", "rate_limit needs its arguments: <task_name> <rate_limit"),
        ("control pool_grow x", "n='x' should be a whole number"),
        ("control time_limit order_ingest soon", "soft='soon' should be a number"),
        ("control revoke", "revoke needs its arguments: [id1"),
        ("control terminate KILL", "terminate needs its arguments: <signal>"),
        ("inspect conf x", "with_defaults='x' should be true or false"),
        ("result 123", "there are no results in the broker: `fleet work show ID`"),
        ("migrate redis://a redis://b", "messages need no move to another broker: set BROKER_URL"),
        ("worker -Q webhooks --max-tasks-per-child 0", "0 is not in the range x>=1"),
        ("worker -Q webhooks --time-limit 0", "is not in the range x>0"),
        ("worker -Q webhooks -X webhooks", "-X excludes every queue of -Q: no queue is left"),
        ("purge -f -Q email -X email", "-X excludes every queue of -Q: no queue is left"),
        ("beat -S celery.beat.PersistentScheduler", "should be one of tasks.beat:LeaderScheduler"),
        ("call order_ingest", "do not fit order_ingest: missing 1 required positional argument: 'ids'"),
        ("call sweep -a [1]", "do not fit sweep: takes "),
        ("upgrade settings /no-such-file", "Error: /no-such-file: No such file or directory"),
        ("flower --prot=5557", "Flower has no option --prot=5557; did you mean '--port'?"),
        ("flower --prot 5557", "Flower has no option --prot; did you mean '--port'?"),
        ("flower --read_onyl", "Flower has no option --read_onyl; did you mean '--read-only'?"),
        ("flower 5557", "Flower has no option 5557"),
    ],
)
def test_an_unknown_value_of_celery_is_refused(line: str, message: str) -> None:
    refused = run_celery("-A", "tasks", *line.split())

    assert refused.returncode == 2, refused.stderr
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-Q webhook", f"'webhook' {QUEUES}"),
        ("-Q webhooks -c 0", "-c/--concurrency: 0: a whole number of child processes, 1 or more"),
        ("-Q webhooks -c two", "-c/--concurrency: two: a whole number of child processes, 1 or more"),
    ],
)
def test_a_worker_of_the_fleet_refuses_an_unknown_value(
    line: str, message: str, environment: dict[str, str]
) -> None:
    command = [str(BIN / "python"), "-m", "tasks", "worker", *line.split()]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert refused.returncode == 2
    assert message in refused.stderr


def test_make_refuses_an_unknown_variable() -> None:
    refused = subprocess.run(
        ["make", "-n", "up", "AUTO_PORT=1"],
        cwd=BIN.parents[1], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert refused.returncode == 2
    assert "AUTO_PORT: no such variable. There are PYTHON EXIT AUTO_PORTS SANDBOX JOBS" in refused.stderr


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("0", False), ("no", False), ("", False)])
def test_a_switch_of_make_is_off_if_its_value_says_so(value: str, is_on: bool) -> None:
    switches = {"up": ("AUTO_PORTS", "--auto-ports"), "demo": ("EXIT", "--exit")}
    for target, (variable, option) in switches.items():
        shown = subprocess.run(
            ["make", "-n", target, f"{variable}={value}"],
            cwd=BIN.parents[1], capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert (option in shown.stdout) is is_on


def test_of_many_valid_names_the_closest_are_listed_in_short_lines() -> None:
    names = [f"topic_{number:03}" for number in reversed(range(100))]
    shown = suggest("topic_04", names)
    listed = [name.strip() for line in shown.splitlines()[1:-1] for name in line.split(",") if name.strip()]

    assert {"topic_004", "topic_040", "topic_049"} <= set(listed) <= set(names)
    assert len(listed) == MAX_NAMED
    assert f"or one of {100 - MAX_NAMED} more: the value 'help' lists all" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert suggest("xyz", names, "fleet jobs list") == (
        "is none of the 100 known names: `fleet jobs list` lists all"
    )
    assert suggest("xyz", names[:60]).startswith("should be one of\n  topic_040, topic_041,")
    every = suggest("help", names).split(":", 1)[1].split(",")
    assert [name.strip() for name in every] == sorted(names)


@pytest.mark.parametrize(
    ("value", "known", "closest"),
    [
        ("CAN", ("CAD", "CNY", "XAF"), "CAD"),
        ("GPB", ("GIP", "GBP", "GHS"), "GBP"),
        ("eur", ("EUR", "EGP"), "EUR"),
        ("daily", ("owner_digest", "daily_anomalies"), "daily_anomalies"),
        ("CA-ZZ", ("CA-AB", "CA-BC", "CA-ON", "CA-QC"), ""),
        ("xyz", ("abc",), ""),
        ("", ("abc",), ""),
    ],
)
def test_the_closest_name_is_suggested_unless_many_are_as_close(
    value: str, known: tuple[str, ...], closest: str
) -> None:
    assert did_you_mean(value, known) == (f"; did you mean {closest!r}?" if closest else "")
