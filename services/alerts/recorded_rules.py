"""The rules whose incidents the rooms record: name, severity, meaning, and when they end. Pure."""

NOT_RUN, JOB_FAILED, AUDIT_FAILED = "cron_did_not_run", "job_failed", "audit_chain_failed"
NOT_EVALUATED = "rules_not_evaluated"

BY_PERSON = "a person resolves it"

AFTER_BACKFILL = "after the first backfill that starts an hour after the last refusal"

RECORDED = (
    (
        AUDIT_FAILED,
        "P1",
        "an audit chain, checkpoint or anchor differs from what was written",
        BY_PERSON,
    ),
    (
        "audit_rows_kept",
        "P2",
        "archived audit events stay in the database, because AUDIT_ARCHIVE_DATABASE_URL is empty",
        "when a run has the archive role",
    ),
    ("audit_work_id_taken", "P2", "a work item has two different events in the audit", BY_PERSON),
    (
        "clocks_apart",
        "P1",
        "the clocks of beat and the database differ by more than two minutes: no job starts",
        "when they agree",
    ),
    (
        NOT_RUN,
        "P2",
        "a run has not started 30 min after it was due, or not ended after its grace",
        "when the run ends",
    ),
    (
        JOB_FAILED,
        "P2",
        "the work of a run is dead",
        "when the run is done; a person resolves it if the run is not needed",
    ),
    (
        "outreach_not_ready",
        "P2",
        "a shop has people to mail, but no sender's postal address or contact, or PUBLIC_URL is not set",
        "with the next run that can send",
    ),
    ("pause_long", "P2", "a pause without an end is older than 4 hours", "when the pause ends"),
    (
        "privacy_export_no_owner",
        "P2",
        "an export of a customer's data has no owner to be mailed to",
        BY_PERSON,
    ),
    ("reconciliation_break", "P2", "payments of a day differ from Stripe's", "when the day agrees"),
    (
        "restore_running",
        "P2",
        "a restore is running: the deploy gate is closed",
        "with `fleet gate --database-restore done`",
    ),
    (
        NOT_EVALUATED,
        "P1",
        "no rule was evaluated for 15 min, and a person opened the deploy gate for the fix",
        "when rules are evaluated",
    ),
    ("run_too_short", "P3", "a run ended in a tenth of its usual time", BY_PERSON),
    (
        "shop_redact_not_confirmed",
        "P2",
        "Shopify requests the erasure of a shop, and nobody has confirmed that the shop left (P1 "
        "from day 20 on)",
        "when the shop is erased, or with `fleet privacy reject`",
    ),
    ("shopify_currency_differs", "P3", "Shopify's currency differs from the recorded one", "when they agree"),
    (
        "shopify_timezone_differs",
        "P3",
        "Shopify's time zone differs from the recorded one",
        "when they agree",
    ),
    (
        "shopify_uninstall_not_confirmed",
        "P2",
        "`app/uninstalled` was received, but Shopify has not refused the token",
        "when Shopify refuses it; a person resolves it if the shop did not leave",
    ),
    (
        "shopify_uninstalled",
        "P2",
        "the app is not installed in the shop any more",
        "when it is installed again",
    ),
    ("stock_oversold", "P2", "shops of a pool sold more than the stock", "when the figure is zero or more"),
    (
        "stripe_events_gap",
        "P2",
        "Stripe was not read for longer than it lists events",
        "with the next pull without a gap",
    ),
    ("volume_too_small", "P3", "a run has a quarter of its usual volume", BY_PERSON),
    (
        "webhook_duplicate_header",
        "P2",
        "signed webhooks repeat a header with different values and are refused",
        AFTER_BACKFILL,
    ),
    ("webhook_missing_header", "P2", "signed webhooks lack a header and are refused", AFTER_BACKFILL),
    (
        "webhook_subscription_lost",
        "P2",
        "Shopify deleted webhook subscriptions",
        "when all wanted subscriptions exist",
    ),
    (
        "webhook_subscription_wrong",
        "P3",
        "a wanted topic has another address, or its format is not JSON",
        "when no topic has",
    ),
    ("webhook_wrong_shop", "P2", "signed webhooks name another shop and are refused", AFTER_BACKFILL),
    (
        "work_dead",
        "P2",
        "work of a shop and topic is dead on a day (UTC): a try cannot help, or all are used",
        "when all of it is done or discarded; work that dies later that day opens it again",
    ),
)
