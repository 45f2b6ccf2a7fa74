"""The demo's checks: compare the sent webhooks with the final state. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from services.core.counts import format_count
from services.demo.delivery import INCOMPLETE, UNREADABLE, DayPlan, Delivery
from services.demo.expected import ExpectedState
from services.demo.figures import Figures, SandboxFigures
from services.demo.sender import Answers

CODES = {UNREADABLE: "unreadable", INCOMPLETE: "shopify.unreadable_order"}


class Check(NamedTuple):
    """One condition. ``seen`` is the observed state; ``look`` is where to find more if it does not hold."""

    name: str
    holds: bool
    seen: str
    look: str


def check_accounts(answers: Answers, figures: Figures) -> Check:
    """Check that every acknowledged event is a row, and every row done, waiting or dead."""
    lost = answers.ids - figures.event_ids
    unanswered = figures.event_ids - answers.ids
    account = figures.account
    seen = f"{len(answers.ids)} accepted = " + " + ".join(
        f"{account.get(name, 0)} {name}" for name in ("done", "waiting", "dead")
    )
    if lost or unanswered:
        seen += f"; {len(lost)} acknowledged without a row"
        seen += f", {format_count(len(unanswered), 'row')} without an answer"
    holds = not lost and not unanswered and sum(account.values()) == len(answers.ids)
    return Check("accepted = accounted", holds, seen, "fleet events list")


def check_answers(plans: Iterable[DayPlan], answers: Answers) -> list[Check]:
    """Check that forged and stale requests were refused, and all repetitions recognized."""
    plans = list(plans)
    accepted, repeated = sum(len(plan.accepted) for plan in plans), sum(plan.repeated for plan in plans)
    refused = sum((plan.refused for plan in plans), Counter[str]())
    seen = list_counts(sorted(answers.refused.items()))
    duplicates = answers.duplicates
    return [
        Check("only forged and stale refused", answers.refused == refused and not answers.wrong,
              seen + "".join(f"; {wrong}" for wrong in answers.wrong[:3]), "the ingress lines of the log"),
        Check("each webhook stored once", len(answers.ids) == accepted and duplicates >= repeated,
              f"{len(answers.ids)} stored of {accepted} sent, "
              f"{format_count(duplicates, 'duplicate')} recognized", "fleet events list"),
    ]  # fmt: skip


def check_dead(sent: Iterable[Delivery], figures: Figures) -> Check:
    """Check that unreadable bodies are dead with their error code, and no other work is dead."""
    wanted = Counter(CODES[delivery.fault] for delivery in sent if delivery.fault in CODES)
    seen = list_counts(figures.dead.items()) or "none"
    return Check("only broken bodies dead", figures.dead == wanted, seen, "fleet work list --status dead")


def check_effects(expected: ExpectedState, state: ExpectedState, outside: SandboxFigures) -> list[Check]:
    """Check that every effect exists once and matches the webhooks, and that Shopify has the same stock."""
    twice = [key for key, count in outside.applied.items() if count > 1]
    return [
        _compare("orders match the webhooks", expected.orders, state.orders, "orders"),
        _compare("transactions match Stripe", expected.transactions, state.transactions, "transactions"),
        _compare("stock matches counts and sales", expected.levels, state.levels, "inventory_levels"),
        _compare("Shopify has that stock", expected.levels, outside.levels,
                 "fleet work list --topic inventory_push"),
        _compare("messages and mails stored", dict.fromkeys(expected.interactions),
                 dict.fromkeys(state.interactions), "interactions"),
        _check_pages(expected, outside),
        Check("no effect twice", not twice,
              f"{format_count(len(outside.applied), 'change')} at Shopify, "
              f"{format_count(len(twice), 'key')} applied twice", "the sandbox's /_control/log"),
    ]  # fmt: skip


def _check_pages(expected: ExpectedState, outside: SandboxFigures) -> Check:
    """Check that each message and mail is one block at Notion."""
    blocks = outside.blocks
    holds = len(blocks) == blocks.total() == len(expected.interactions)
    seen = f"{format_count(blocks.total(), 'block')} on {format_count(outside.pages, 'page')}"
    if twice := blocks.total() - len(blocks):
        seen += f", {format_count(twice, 'block')} more than once"
    return Check("each message and mail on its page once", holds, seen, "the sandbox's /_control/notion?key=")


def check_incidents(figures: Figures) -> Check:
    """Check that dead work and breaks opened incidents; rules with figures may open theirs a little later."""
    found = Counter(one.rule.partition(":")[0] for one in figures.incidents)
    holds = {"work_dead", "reconciliation_break"} <= found.keys()
    return Check("faults open incidents", holds, ", ".join(sorted(found)), "fleet incidents list --all")


def check_backfilled(plan: DayPlan, figures: Figures) -> Check:
    backfilled, lost = figures.counts["backfilled"], len(plan.lost) + len(plan.lost_until_night)
    seen = f"{format_count(lost, 'webhook')} lost; {format_count(backfilled, 'event')} backfilled"
    seen += ", with those of objects that sent none"
    return Check("lost webhooks backfilled", backfilled > 0, seen, "fleet backfill status")


def check_night(plan: DayPlan, shops: int, night: Figures, morning: Figures) -> list[Check]:
    """Check that the planted breaks were found and mailed, and those of lost webhooks repaired."""
    lasting = {one for one in plan.breaks if "missing_there" in one}
    with_breaks = len({shop for shop, _, _ in plan.breaks})
    found = f"{len(night.breaks & plan.breaks)} found of {len(plan.breaks)} planted"
    if more := night.breaks - plan.breaks:
        found += f", {len(more)} not planted, such as {' '.join(min(more))}"
    closed = night.counts["runs_done"]
    mailed = morning.mails.get("daily_anomalies", 0)
    return [
        Check("the night finds the breaks", night.breaks == plan.breaks and closed == shops,
              f"{found}, {closed} of {format_count(shops, 'shop')} closed",
              "fleet payments breaks, fleet jobs history"),
        Check("breaks of lost webhooks are repaired", morning.breaks == lasting,
              f"{len(night.breaks)} open before, {len(morning.breaks)} after", "fleet payments breaks"),
        Check("a mail to each shop with breaks", mailed == with_breaks,
              f"{mailed} of {format_count(with_breaks, 'mail')}", "fleet mail list"),
        Check("every mail arrived once", sum(morning.mails.values()) == morning.mail_files,
              list_counts(morning.mails.items()), "the folder mail"),
    ]  # fmt: skip


def check_jobs(jobs: Iterable[Mapping[str, Any]]) -> Check:
    jobs = list(jobs)
    seen = ", ".join(f"{job.get('job')} {job.get('status')}" for job in jobs)
    holds = all(job["exit"] == 0 and job.get("status") == "done" for job in jobs)
    return Check("jobs run as processes", holds, seen, "fleet jobs history")


def check_reports(figures: Figures, recipients: int) -> Check:
    """Check that the report, which was started three times, was sent once to each recipient."""
    sent = figures.mails.get("timesheet_report", 0)
    seen = f"{format_count(sent, 'mail')} to {format_count(recipients, 'recipient')}"
    return Check("a report goes out once", sent == recipients, seen, "fleet reports history")


def check_letter(figures: Figures) -> Check:
    """Check that the owner letter that was approved went out, and no draft."""
    sent = figures.mails.get("owner_letter", 0)
    return Check("an owner letter goes out once approved", sent == 1, f"{sent} mailed", "fleet letters list")


def check_smoke(result: Mapping[str, Any]) -> Check:
    """Check that the test after a deploy passes every step."""
    steps = {one["step"]: one["detail"] for one in result.get("steps", ())}
    holds = result["exit"] == 0 and result.get("ok") is True
    seen = str(steps.get("stages") if holds else steps or result)
    return Check("a signed order goes through the shop floor", holds, seen, "fleet smoke")


def check_reminders(figures: Figures, run: Mapping[str, Any], clicks: str, people: int) -> Check:
    """Check that each person with consent got one reminder, and that one click unsubscribed."""
    sent, exits = figures.mails.get("outreach_mail", 0), run["exit"]
    holds = (sent, exits, clicks) == (people, 0, "200, then 200")
    return Check("people with consent are reminded", holds,
                 f"{format_count(sent, 'mail')} to {people} people, exit {exits}, unsubscribed with {clicks}",
                 "fleet outreach preview reminders")  # fmt: skip


def check_proof(clean: Mapping[str, Any], altered: Mapping[str, Any], altered_id: int) -> list[Check]:
    """Check that the chains verify, and that verification names the altered row."""
    rows, chains = clean.get("rows", 0), clean.get("chains", ())
    found: Mapping[str, Any] = next(iter(altered.get("findings", ())), {})
    seen = f"{found.get('kind', 'nothing')}: {found.get('shop')}, seq {found.get('seq')}"
    return [
        Check("every chain verifies", clean["exit"] == 0 and rows > 0,
              f"{format_count(rows, 'audit event')} in {format_count(len(chains), 'chain')}",
              "fleet audit verify"),
        Check("an altered row is named", altered["exit"] == 1
              and (found.get("kind"), found.get("event_id")) == ("altered", altered_id),
              seen, "fleet audit verify"),
    ]  # fmt: skip


def check_settled(waiting: int) -> Check:
    seen = format_count(waiting, "item waits", "items wait")
    return Check("no work left", waiting == 0, seen, "celery -A tasks backlog")


def _compare(name: str, wanted: Mapping[Any, Any], found: Mapping[Any, Any], look: str) -> Check:
    unequal = {key for key in wanted.keys() & found.keys() if wanted[key] != found[key]}
    differing = unequal | (wanted.keys() ^ found.keys())
    seen = f"{len(found)} of {len(wanted)}"
    if differing:
        key = min(differing)
        seen += (
            f", {len(differing)} differ, such as {'/'.join(key)}: "
            f"wanted {wanted.get(key)}, found {found.get(key)}"
        )
    return Check(name, not differing, seen, look)


def list_counts(counts: Iterable[tuple[str, int]]) -> str:
    """Return ``counts`` as "2 dead, 3 done"."""
    return ", ".join(f"{count} {name}" for name, count in counts)
