"""Every table that could contain personal data has a source or a listed reason."""

from sqlalchemy import JSON, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB

from services.privacy.data_sources import list_data_sources
from services.schema.models import metadata

NOBODYS = {
    "webhook_refusals": "names of shops, and which of their deliveries were refused",
    "alembic_version": "a number",
    "audit_archives": "keys and sums",
    "audit_checkpoints": "hashes and signatures",
    "audit_verifications": "numbers of rows, hashes, and what an operator decided about them",
    "audit_events": "by rule ids, figures and statuses: a customer by number only, redacted by reference",
    "balance_entries": "Stripe's ids and kinds",
    "bulk_actions": "filters without texts of payloads, ids of rows, and why an operator acted",
    "break_corrections": "figures, statuses and Stripe's ids of the two sides",
    "closed_periods": "sums of a month, names and sums of its files",
    **dict.fromkeys(
        ("users", "user_roles", "user_passkeys", "user_sessions", "sign_in_locks", "api_tokens"),
        "the fleet's own people: fleet users remove deletes them",
    ),
    "saved_filters": "filters that the fleet's own people saved: never a text searched in payloads",
    "reports": "addresses of the company's own people, who receive its reports",
    "report_runs": "periods, figures and error codes of reports",
    "owner_letters": "figures and incidents of a week, for the shop's owner; a draft names no customer",
    "planned_changes": "what an operator announced to owners",
    "notifications": "codes, and names of reports",
    "outreach_runs": "figures of a run",
    "outreach_texts": "what a shop writes to everybody",
    "connections": "a provider's name, and what it said of our key",
    "reconciliation_staging": "figures, statuses and Stripe's ids of the two sides",
    "fulfillment_orders": "ids, statuses, and Shopify's own words for why one is held",
    "mail_events": "ids, kinds and hashes; what a mail server answered, without addresses",
    "heartbeats": "names of queues and workers",
    "alert_channels": "names of channels",
    "alert_states": "names of rules, queues and providers",
    "incident_entries": "summaries of incidents, and what the operator noted",
    "rule_evaluations": "names of rules",
    "rule_settings": "what an operator set, and why: the fleet's own people",
    "topic_backlogs": "names of topics",
    "queue_samples": "names of queues",
    "quiet_windows": "when an operator wants no messages, and why",
    "topic_backoffs": "what an operator set, and why",
    "incidents": "codes, counts and ids; a customer by number only",
    "inventory_items": "skus",
    "inventory_levels": "skus",
    "inventory_shipments": "the shop's own stock on its way: ids, statuses and counts",
    "inventory_transfers": "the shop's own stock on its way: ids, statuses and counts",
    "job_schedule_state": "names of jobs",
    "job_overrides": "what an operator changed, and why: the fleet's own people",
    "metered_costs": "amounts",
    "cost_references": "amounts, and ids of what was billed",
    "monitor_checkins": "names of jobs",
    "job_runs": "figures of a run, and the operator who asked for it",
    "jobs": "names of jobs",
    "locations": "the shop's own places",
    "pauses": "what an operator paused, and why",
    "period_corrections": "names of accounts, and sums",
    "products": "what the shop sells",
    "sync_cursors": "names of streams",
    "rate_limits": "names of providers, and hashes of keys",
    "canvas_invalidations": "ids, times and the operator who acted",
    "page_parts": "Quo's ids, Notion's ids, and digests of texts",
    "reconciliation_breaks": "figures, statuses and Stripe's ids of the two sides",
    "statement_stats": "names of statements",
    "statement_texts": "statements of the program, with placeholders instead of values",
    "table_sizes": "names of tables",
    "request_counts": "slugs and outcomes",
    "webhook_senders": "addresses of machines that sent forged webhooks; deleted by age",
    "request_errors": "paths and ids of requests, as in the log; nothing of their bodies",
    "reverse_fulfillment_orders": "ids and counts of goods that came back",
    "shop_config": "the owner and the staff, who are no customers of the shop; figures of its last night",
    "shops": "the shop itself",
    "stock_movements": "skus, and ids of lines",
    "stock_pool_items": "names of pools, skus and figures",
    "stock_pools": "names of pools",
    "order_stages": "names of stages and of the shop's own people",
    "stage_sets": "names of stages",
    "stage_transitions": "ids, stages and names of the shop's own people",
    "storefronts": "the shop as Shopify describes it",
    "transactions": "Stripe's ids, amounts, statuses and reasons; no name, no address, no card",
    "variants": "what the shop sells",
    "webhook_subscriptions": "Shopify's topics, and where it sends them",
    "work_stats": "names of topics and workers",
}
"""Tables with texts but without personal data of customers, and why."""


def test_every_table_with_a_column_for_a_persons_data_has_a_holder_or_a_reason() -> None:
    may_hold = {
        table.name
        for table in metadata.sorted_tables
        if any(isinstance(column.type, Text | JSONB | JSON | LargeBinary) for column in table.columns)
    }
    held = {table for source in list_data_sources() for table in source.tables}

    assert may_hold - held - set(NOBODYS) == set(), (
        "give these a source (services/privacy/data_sources.py) or a reason"
    )
    assert held & set(NOBODYS) == set()


def test_holders_and_reasons_are_of_tables_that_exist() -> None:
    named = {table for source in list_data_sources() for table in source.tables} | set(NOBODYS)

    assert named - {table.name for table in metadata.sorted_tables} <= {"alembic_version"}


def test_holders_have_names_and_tables_of_their_own() -> None:
    names = [source.name for source in list_data_sources()]
    tables = [table for source in list_data_sources() for table in source.tables]

    assert len(set(names)) == len(names)
    assert len(set(tables)) == len(tables)


def test_holder_that_identifies_the_subject_is_redacted_last() -> None:
    last = [source.knows_subject for source in list_data_sources()]

    assert last == sorted(last)
    assert {table for source in list_data_sources() if source.knows_subject for table in source.tables} == {
        "archive_keys", "customers", "event_archives", "inbound_events",
    }  # fmt: skip
