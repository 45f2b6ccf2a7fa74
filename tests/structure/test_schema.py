"""A new database has the tables of the models, and the application's role can do no more than it needs."""

from collections.abc import Iterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from services.core.db import driver_url
from services.core.errors import ShopfleetError
from services.core.setting_urls import find_role
from services.fleet.embedded.servers import EmbeddedServers
from services.schema.migrate import (
    REMOVED,
    SchemaUnknown,
    alembic_config,
    apply_migrations,
    find_revision,
    head_revision,
)  # fmt: skip
from services.schema.models import metadata


def test_migrating_twice_changes_nothing(servers: EmbeddedServers) -> None:
    before, after = apply_migrations(servers.migrate_database_url, "shopfleet_app", "shopfleet_archive")
    assert before == after == head_revision()


@pytest.mark.parametrize(
    "statement",
    [
        "create table intruder (id int)",
        "drop table orders",
        "alter table orders add column x int",
        "truncate work_queue",
        "update audit_events set hash = ''",
        "delete from audit_events",
        "update audit_checkpoints set hash = ''",
        "truncate audit_archives",
        "update audit_verifications set resolved_at = now()",
        "delete from audit_verifications",
        "insert into audit_verifications (at, findings, open_until) values (now(), '[]', now())",
        "truncate audit_events cascade",
        "update alembic_version set version_num = 'x'",
        "delete from archive_keys",
    ],
)
def test_the_applications_role_may_not(engine: Engine, statement: str) -> None:
    with engine.connect() as tx, pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        tx.execute(text(statement))


def test_the_runbooks_sql_runs_as_written(engine: Engine) -> None:
    statements = (
        "select status, count(*) from work_queue group by status",
        "select * from work_queue where status='pending' and locked_at < now() - interval '15 minutes'",
        "update work_queue set locked_at=null, locked_by=null where status='pending'",
        "select e.at, e.staff_label, m.summary from audit_events e"
        " join audit_mutations m on m.event_id = e.id"
        " where e.at > now() - interval '1 day' order by e.at desc",
    )
    with engine.begin() as tx:
        for statement in statements:
            tx.execute(text(statement))


@pytest.fixture
def other_database(servers: EmbeddedServers) -> Iterator[str]:
    """An empty database."""
    admin = create_engine(driver_url(servers.admin_database_url), isolation_level="AUTOCOMMIT")
    with admin.connect() as tx:
        tx.execute(text("create database another owner shopfleet_owner"))
    yield servers.migrate_database_url.rsplit("/", 1)[0] + "/another"
    with admin.connect() as tx:
        tx.execute(text("drop database if exists another with (force)"))
    admin.dispose()


def test_a_new_database_equals_the_models(other_database: str) -> None:
    apply_migrations(other_database)
    engine = create_engine(driver_url(other_database))
    with engine.connect() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, metadata) == []
        assert find_revision(tx) == head_revision()
    engine.dispose()


def test_a_migrated_database_equals_the_models_and_keeps_its_totals(other_database: str) -> None:
    apply_migrations(other_database)
    engine = create_engine(driver_url(other_database))
    with engine.begin() as tx:
        options = tx.execute(text(_STORAGE_OPTIONS)).all()
        for statement in _TO_S0001:
            tx.execute(text(statement))

    assert apply_migrations(other_database) == ("s0001", head_revision())

    with engine.connect() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, metadata) == []
        assert tx.execute(text(_STORAGE_OPTIONS)).all() == options
        totals = "select topic, worker, done, retried, dead from work_stats where minute = '1970-01-01Z'"
        assert tx.execute(text(totals)).all() == [("order_ingest", "", 5, 0, 0)]
        requests = "select shop, provider, outcome, count from request_counts where minute = '1970-01-01Z'"
        assert tx.execute(text(requests)).all() == [("", "stripe", "accepted", 7)]
        found = tx.execute(text("select findings from audit_verifications order by findings")).scalars()
        assert found.all() == [["row 2"], ["row 3"]], "open findings close the deploy gate"
    engine.dispose()


ODD_NAMES = ("50%s %%", "a:b :c", 'a"b', "it's", "$do$ {role}", "Größe", "select", "user@host/x?y#z")


def test_any_role_name_gets_its_rights_and_no_others(other_database: str, servers: EmbeddedServers) -> None:
    roles = [f"{name}{suffix}" for name in ODD_NAMES for suffix in ("", " archive")]
    with psycopg.connect(servers.admin_database_url, autocommit=True) as admin:
        for role in roles:
            admin.execute(sql.SQL("create role {} login password 'p'").format(sql.Identifier(role)))
        admin.execute("revoke temporary on database another from public")
        for app, archive in zip(roles[::2], roles[1::2], strict=True):
            for _ in range(2):
                apply_migrations(other_database, app, archive)
            url = make_url(other_database).set(username=app, password="p")
            rendered = url.render_as_string(hide_password=False)
            assert find_role(rendered) == app
            engine = create_engine(driver_url(rendered))
            with engine.begin() as tx:
                tx.execute(text("delete from work_stats"))
                found = tx.execute(text(RIGHTS), {"app": app, "archive": archive}).one()
            engine.dispose()
            assert found == (False, True, False, True), app
        admin.execute("drop database another with (force)")
        for role in roles:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


RIGHTS = """
select has_table_privilege(:app, 'audit_events', 'delete'),
       has_database_privilege(:app, 'another', 'temporary'),
       has_function_privilege(:app, 'audit_truncate(integer, bigint, text)', 'execute'),
       has_function_privilege(:archive, 'audit_truncate(integer, bigint, text)', 'execute')
"""


_STORAGE_OPTIONS = """
select relname, reloptions from pg_class
 where relnamespace = 'public'::regnamespace and relkind = 'r' and reloptions is not null order by relname
"""
_TO_S0003 = (
    "drop table stage_sets, floor_orders, order_stages, stage_transitions",
    "alter table shop_config drop column shop_floor",
    "drop table interaction_vectors",
    "alter table shop_config drop column ai_uses",
    "drop table page_parts, canvas_invalidations, canvas_cache, merchants",
    "alter table interactions drop column merchant_id, drop column page_id, drop column page_state",
    "alter table shop_config drop column notion_data_source",
    "alter table mail_outbox reset (toast_tuple_target)",
    "drop table mail_suppressions, mail_events",
    "alter table mail_outbox drop column delivered_at, drop column bounced_at, drop column complained_at",
    "drop index ix_mail_outbox_provider_id",
    "alter table mail_outbox drop column is_commercial",
    "drop table outreach_texts, outreach_runs, outreach_sends, outreach_consents, outreach_people",
    "alter table shop_config drop column postal_address, drop column mail_contact, drop column mails_per_day",
    "drop table webhook_senders",
    "drop table owner_letters, planned_changes",
    "drop table report_runs, reports, notifications",
    "alter table shop_secrets drop column last_used_at",
    "drop table queue_samples",
    "drop table bulk_actions",
    "drop index ix_inbound_events_replay_of, ix_audit_events_by_people",
    "drop function read_json(bytea)",
    "drop index ix_mail_outbox_shop_id",
    "drop table saved_filters, api_tokens, sign_in_locks, user_passkeys, user_roles, user_sessions, users",
    "alter table incidents add column mailed_at timestamptz",
    "create index ix_incidents_mailed on incidents (rule, period) where mailed_at is not null",
    "drop table request_errors, statement_stats, statement_texts, table_sizes",
    "drop table alert_channels, quiet_windows",
    "alter table incidents drop column escalated_at",
    "alter table request_counts drop column route, drop column status, drop column latency, "
    "add constraint pk_request_counts primary key (minute, shop, provider, outcome)",
    "alter table pauses drop column cost",
    "alter table pauses add constraint uq_pauses_scope unique nulls not distinct (queue, topic, shop_id)",
    "alter table shop_config drop column ai_cap, drop column sms_budget, drop column exchange_rates",
    "alter table work_stats drop column timings",
    "drop table audit_verifications",
    "drop table alert_states, rule_evaluations, incident_entries, rule_settings",
    "drop table topic_backlogs, topic_backoffs, metered_costs, cost_references",
    "alter table incidents drop column notified_change, drop column notified_at, drop column worsened_at, "
    "drop column reopened_at, drop column acknowledged_by, drop column acknowledged_at, "
    "drop column snoozed_until",
)
_TO_S0001 = (
    "drop index uq_shop_config_shopify_domain",
    *_TO_S0003,
    "drop table archive_keys, event_archives",
    "alter table mail_outbox drop column emptied_at",
    "create index ix_mail_outbox_created_at on mail_outbox (created_at)",
    "alter table work_stats alter column done type int, alter column retried type int, "
    "alter column dead type int",
    "insert into work_stats (minute, topic, worker, done, last_at) values "
    "(now(), 'order_ingest', 'w1', 2, now()), (now(), 'order_ingest', 'w2', 3, now())",
    "insert into request_counts (minute, shop, provider, outcome, count) "
    "values (now(), 'a', 'stripe', 'accepted', 3), (now(), 'b', 'stripe', 'accepted', 4)",
    "insert into incidents (rule, period, severity, summary, detail, status, opened_at, updated_at) values "
    "('audit_chain_failed', 'a', 'P1', 'x', '{\"findings\": [\"row 2\"]}', 'open', now(), now()), "
    "('audit_chain_failed', 'b', 'P1', 'row 3', '{}', 'open', now(), now()), "
    "('audit_chain_failed', 'c', 'P1', 'row 4', '{}', 'resolved', now(), now())",
    "update alembic_version set version_num = 's0001'",
)
"""What the later revisions change, backwards: a database at s0001."""


def test_shops_with_one_shopify_domain_are_named_before_anything_is_migrated(other_database: str) -> None:
    apply_migrations(other_database)
    engine = create_engine(driver_url(other_database))
    with engine.begin() as tx:
        for statement in (*_TO_S0003, "drop index uq_shop_config_shopify_domain"):
            tx.execute(text(statement))
        tx.execute(text("update alembic_version set version_num = 's0002'"))
        for slug, settings in (("quay", "{}"), ("harbour", "{}"), ("gone", '{"removed_at": "2026-11-20"}')):
            values = {"slug": slug, "settings": settings}
            tx.execute(
                text(
                    "with s as (insert into shops (slug, name, timezone, currency)"
                    " values (:slug, '', 'UTC', 'CAD') returning id)"
                    " insert into shop_config (shop_id, shopify_domain, settings)"
                    " select id, 'a.myshopify.com', cast(:settings as jsonb) from s"
                ),
                values,
            )

    with pytest.raises(ShopfleetError, match=r"same Shopify domain: a.myshopify.com \(harbour, quay\)"):
        apply_migrations(other_database)

    with engine.begin() as tx:
        assert find_revision(tx) == "s0002"
        tx.execute(
            text("update shop_config set shopify_domain = '' from shops where id = shop_id and slug = 'quay'")
        )
    assert apply_migrations(other_database) == ("s0002", head_revision())
    engine.dispose()


def test_no_migration_has_the_revision_of_a_removed_one() -> None:
    scripts = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    assert {script.revision for script in scripts} & REMOVED == set()


def put_at_revision(url: str, revision: str) -> None:
    engine = create_engine(driver_url(url))
    with engine.begin() as tx:
        tx.execute(text("create table alembic_version (version_num varchar(32) primary key)"))
        tx.execute(text("insert into alembic_version values (:revision)"), {"revision": revision})
    engine.dispose()


@pytest.mark.parametrize(
    ("revision", "advice"),
    [
        ("0001", "Export its data, create a new database"),
        ("0017", "the last version that has the migrations 0001 to 0017"),
        ("s9999", "Run the version that migrated this database, or a newer one"),
    ],
)
def test_a_database_at_an_unknown_revision_is_refused_by_name_and_left_alone(
    other_database: str, revision: str, advice: str
) -> None:
    put_at_revision(other_database, revision)

    with pytest.raises(SchemaUnknown, match=f"at revision {revision}, .*{advice}"):
        apply_migrations(other_database)

    engine = create_engine(driver_url(other_database))
    with engine.connect() as tx:
        assert find_revision(tx) == revision
        tables = tx.execute(text("select tablename from pg_tables where schemaname = 'public'")).scalars()
        assert set(tables) == {"alembic_version"}
    engine.dispose()


def test_a_failed_migration_leaves_the_database_as_it_was(other_database: str) -> None:
    engine = create_engine(driver_url(other_database))
    with engine.begin() as tx:
        tx.execute(text("create table work_queue (in_the_way int)"))
    with pytest.raises(ProgrammingError, match="already exists"):
        apply_migrations(other_database, "shopfleet_app")
    with engine.connect() as tx:
        tables = tx.execute(text("select tablename from pg_tables where schemaname = 'public'")).scalars()
        assert set(tables) == {"work_queue"}
    engine.dispose()
