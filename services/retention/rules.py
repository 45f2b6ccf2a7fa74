"""Retention by table: which rows are old, at which age, and what happens to them. Pure.

A test fails if a table has neither a rule nor a reason in ``KEPT``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from services.core.settings import Settings
from services.ledger.tables import TOTAL

EVENT_AGE, MAIL_AGE = "RETENTION_EVENT_DAYS", "RETENTION_MAIL_DAYS"
STATEMENT_AGE = "RETENTION_STATEMENT_DAYS"
RUN_AGE, STATS_AGE = "RETENTION_RUN_DAYS", "RETENTION_STATS_DAYS"

# A given-up call to Shopify may still have happened: the stock of its pool is computed with it.
IS_FINAL = (
    "w.status in ('done', 'discarded') and not (w.status = 'discarded' and w.topic = 'inventory_push' "
    "and w.payload ?| array['quantity', 'lost'])"
)
"""SQL: no person and no worker needs the work ``w`` any more."""

PRIVACY_TOPICS = ("customers/data_request", "customers/redact", "shop/redact")
"""Events that stay: a second delivery of an old request must not export or erase again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Old rows ``w`` of one table.

    They are read in pages in the order of ``key``, a column with an index, from ``begin`` on, until all rows
    of a page were ``created`` after the age. SQL has the parameters ``before`` and ``now``.
    """

    table: str
    rows: str
    """The rows, in words."""
    setting: str
    """The setting with their age in days."""
    why: str
    """Why nothing needs them later."""
    is_old: str
    key: str = "id"
    created: str = "created_at"
    scope: str = "true"
    """The predicate of the index, if it is a partial one."""
    begin: int | datetime = 0
    action: str = "delete from {table} w where {is_picked}"
    follow: str = ""
    """A statement on the rows ``gone``, the result of ``action``."""
    done: str = "deleted"

    def get_before(self, settings: Settings, now: datetime) -> datetime | None:
        """Return the time before which rows are old; None: no row ever is."""
        days = getattr(settings, self.setting.lower())
        return now - timedelta(days=days) if days else None


_FIRST_MINUTE = TOTAL + timedelta(days=1)
_TOTALS_STAY = "the totals stay in one row each; rates and alerts read the last day"

EVENTS = Rule(
    table="inbound_events",
    rows="events whose work is finished, with this work",
    setting=EVENT_AGE,
    why="archived for replay and as proof; providers send a delivery again for at most 3 days",
    key="received_at",
    created="received_at",
    begin=_FIRST_MINUTE,
    is_old=f"""w.received_at < %(before)s and w.topic <> all(array{list(PRIVACY_TOPICS)})
   and not exists (select from work_queue o
                    where o.event_id = w.id and not ({IS_FINAL.replace("w.", "o.")}))""",
    done="archived",
)
"""Archived and deleted by ``services.retention.events``."""

RULES = (
    Rule(
        table="work_queue",
        rows="finished work without an event: jobs, mails, calls",
        setting=EVENT_AGE,
        why="the audit chain has an entry of each effect, with the id of its work",
        is_old=f"""w.finished_at < %(before)s and {IS_FINAL}
   and not exists (select from inbound_events e where e.id = w.event_id)""",
    ),
    *(
        Rule(
            table=table,
            rows=rows,
            setting=setting,
            why=why,
            key=key,
            created=key,
            begin=_FIRST_MINUTE,
            is_old=f"w.{key} < %(before)s",
        )
        for table, key, setting, rows, why in (
            ("work_stats", "minute", STATS_AGE, "figures per minute, topic and worker", _TOTALS_STAY),
            ("request_counts", "minute", STATS_AGE, "requests per minute, shop and route", _TOTALS_STAY),
            (
                "webhook_senders", "hour", STATS_AGE, "addresses that sent webhooks with a wrong signature",
                "they are blocked within days",
            ),
            (
                "request_errors", "at", STATS_AGE, "requests that were answered with 5xx",
                "they are investigated within days; their incident stays",
            ),
            (
                "statement_stats", "minute", STATEMENT_AGE, "durations per minute, process and statement",
                "the incident of a slow database names its slowest statements",
            ),
            (
                "user_sessions", "seen_at", STATS_AGE, "sessions of browsers",
                "a session that is not used ends after 12 h; the audit chain has each sign-in",
            ),
            (
                "sign_in_locks", "last_at", STATS_AGE, "failed sign-ins by account and address",
                "a failure counts for 15 minutes",
            ),
            (
                "table_sizes", "day", RUN_AGE, "size of each table, by day",
                "growth is read over days, and over two years at most",
            ),
        )
    ),
    Rule(
        table="cost_references",
        rows="what the totals of costs consist of",
        setting=STATS_AGE,
        why="the totals stay; no retry comes so late, and sms-costs reads only the last 30 days again",
        key="recorded_at",
        created="recorded_at",
        begin=_FIRST_MINUTE,
        is_old="w.recorded_at < %(before)s",
    ),
    Rule(
        table="job_runs",
        rows="ended runs of hourly jobs",
        setting=STATS_AGE,
        why="the audit chain has the end of each run; a failed run is shown for 35 days",
        created="due_at",
        is_old="""w.ended_at < %(before)s
   and exists (select from jobs j where j.name = w.job and j.covers = 'moment')""",
    ),
    Rule(
        table="job_runs",
        rows="ended runs of daily, weekly and monthly jobs",
        setting=RUN_AGE,
        why="the audit chain has the end of each run; closed months and mails have rows of their own",
        created="due_at",
        is_old="w.ended_at < %(before)s",
    ),
    Rule(
        table="report_runs",
        rows="runs of scheduled reports",
        setting=RUN_AGE,
        why="the outbox has the key of each mail, so that an old period does not go again",
        created="due_at",
        is_old="w.due_at < %(before)s",
    ),
    Rule(
        table="owner_letters",
        rows="weekly letters to owners",
        setting=RUN_AGE,
        why="the outbox has the key of each mail, so that an old week does not go again",
        created="drafted_at",
        is_old="w.drafted_at < %(before)s",
    ),
    Rule(
        table="notifications",
        rows="notifications of a shop's admins",
        setting=RUN_AGE,
        why="their mails are in the outbox",
        created="at",
        is_old="w.at < %(before)s",
    ),
    Rule(
        table="outreach_runs",
        rows="runs of reminders and sequences",
        setting=RUN_AGE,
        why="the audit chain has the end of each run",
        key="started_at",
        begin=_FIRST_MINUTE,
        created="started_at",
        is_old="w.started_at < %(before)s",
    ),
    Rule(
        table="bulk_actions",
        rows="ended bulk actions",
        setting=STATS_AGE,
        why="the audit chain has each change, with the number of its bulk action",
        created="started_at",
        is_old="w.ended_at < %(before)s",
    ),
    Rule(
        table="monitor_checkins",
        rows="closed check-ins at Sentry",
        setting=STATS_AGE,
        why="only an open check-in is read again",
        created="opened_at",
        is_old="w.closed_at < %(before)s",
    ),
    Rule(
        table="mail_outbox",
        rows="text and parts of sent and refused mails; the row with its key stays",
        setting=MAIL_AGE,
        why="the key never expires, so that no mail is sent twice; files of a month are in the archive store",
        key="created_at",
        scope="w.emptied_at is null",
        begin=_FIRST_MINUTE,
        is_old="""w.status in ('sent', 'refused') and w.created_at < %(before)s
   and not exists (select from work_queue q
                    where q.id = w.work_id and q.status in ('pending', 'error', 'dead'))""",
        action="update {table} w set subject = '', text = '', html = '', headers = '{{}}', "
        "has_parts = false, emptied_at = %(now)s where {is_picked}",
        follow="delete from mail_parts p using gone where p.mail_id = gone.key",
        done="emptied",
    ),
)  # fmt: skip
"""In the order in which they run, after ``EVENTS``."""

_BUSINESS = "the shop's records: a row for each object at the provider, with its last state"
_BOOKS = "the shop's books, kept as the law requires"
_SMALL = "one row for each thing that exists now"

KEPT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "customers", "fulfillment_events", "fulfillment_orders", "fulfillments", "interactions",
                "inventory_items", "inventory_levels", "inventory_shipments", "inventory_transfers",
                "floor_orders", "locations", "merchants", "order_notices", "order_returns", "order_stages",
                "products",
                "reverse_fulfillment_orders", "variant_stock", "variants",
            ),
            _BUSINESS,
        ),
        **dict.fromkeys(
            (
                "balance_entries", "break_corrections", "closed_periods", "order_lines", "order_refund_lines",
                "order_refunds", "order_transactions", "orders", "period_corrections",
                "reconciliation_breaks", "shopify_disputes", "tender_transactions", "transactions",
            ),
            _BOOKS,
        ),
        **dict.fromkeys(
            (
                "connections", "heartbeats", "job_overrides", "job_schedule_state", "jobs", "pauses",
                "rate_limits", "reports", "shop_config", "shop_secrets", "shops", "stage_sets",
                "stock_pool_items",
                "stock_pools", "storefronts", "sync_cursors", "webhook_subscriptions",
            ),
            _SMALL,
        ),
        "canvas_cache": "a row for each phone number and mail address; the next read of Notion replaces it",
        "canvas_invalidations": "a row each time that a person invalidated an entry of the cache",
        "interaction_vectors": "the search by meaning; redaction deletes the vectors of a person",
        "page_parts": "what is on the page of each merchant, so that no block is written twice",
        "archive_keys": "one small row for each shop and person: its secret is destroyed by a redaction",
        "audit_archives": "the index of the audit's archives; the application may not delete it",
        "audit_checkpoints": "one signed row a night and chain: the application may not delete it",
        "audit_verifications": "a row each time that what a chain's verification finds changes",
        "audit_events": "archived and deleted after 90 days by weekly-audit-archive, with the archive role",
        "event_archives": "the index of the archived events: one row for each 2,000 of them",
        "incidents": "what went wrong, one row for each shop, rule and period",
        "incident_entries": "what happened to each incident, and who did it",
        "alert_states": "a row while a figure is beyond its threshold",
        "rule_evaluations": "one row for each rule",
        "rule_settings": "one row for each threshold that a person set",
        "alert_channels": "one row for each channel",
        "topic_backoffs": "one row for each topic whose backoff a person changed",
        "quiet_windows": "a row for each window that a person set",
        **dict.fromkeys(("users", "user_roles", "user_passkeys", "api_tokens"), "people who sign in"),
        "planned_changes": "a row for each change that a person announced to owners",
        "saved_filters": "a row for each filter that a person saved, until it is deleted",
        "mail_events": "the id of an event never expires, so that none is counted twice",
        "mail_suppressions": "kept while it must hold: until a person removes it",
        "metered_costs": "the shop's costs, a row for each day, kind and source",
        "topic_backlogs": "deleted by the evaluation of the rules after 20 minutes",
        "queue_samples": "deleted by the evaluation of the rules after 8 days",
        "statement_texts": "one row for each statement of the program",
        "outreach_people": "one row for each person of a shop, until a redaction",
        "outreach_consents": "proof of each consent and of its withdrawal",
        "outreach_sends": "a row for each person and step, so that none goes twice",
        "outreach_texts": "one row for each text that a shop wrote",
        "mail_parts": "deleted with the text of their mail",
        "privacy_requests": "proof that each request was answered in time",
        "reconciliation_staging": "empty between two comparisons",
        "stage_transitions": "a row for each scan: who moved an order when; a scan id never expires",
        "stock_movements": "the cause of each change of the stock that Shopfleet owns",
        "webhook_refusals": "deleted when the backfill has read the refused data",
    }
)  # fmt: skip
"""Tables without a rule, and why."""
