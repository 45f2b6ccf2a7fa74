"""Time of one evaluation of all rules, with the figures of many shops, and the same figures shop by shop.

One database goes through the steps in turn, so that each step finds the states of the one before.
"""

import os
import time
from datetime import datetime

import psycopg
from sqlalchemy import Engine, event, text

from benchmarks.ours import env
from benchmarks.results import Figures, Report
from benchmarks.rows import EMPTY
from benchmarks.servers import Servers, create_database, drop_database
from benchmarks.ways import Bench
from services.alerts.evaluate import EVERY, check_rules
from services.alerts.own_figures import QUERIES, bind_values
from services.alerts.rule import MINUTES_2
from services.alerts.rules import FIGURE_RULES
from services.core.clock import utc_now
from services.core.db import make_engine, transaction
from tasks.collectors import COLLECTORS

DATABASE = "bench_alerts"
COLUMNS = {
    "ms": "ms",
    "statements": "statements",
    "changes": "incidents opened or ended",
    "open": "open incidents",
}

# Each shop has traffic in each minute of an hour, connections, secrets and costs of four weeks.
_FILL = """
insert into shops (slug, name, timezone, currency)
select 'shop' || n, 'Shop', 'America/Toronto', 'CAD' from generate_series(1, %(shops)s) n;
insert into connections (shop_id, provider, status, since, updated_at, token_expires_at)
select s.id, p, 'ok', now(), now(), now() + interval '60 days'
  from shops s cross join unnest(array['shopify', 'stripe', 'quo']) p;
insert into shop_secrets (shop_id, name, sealed)
select s.id, p, 'x'
  from shops s cross join unnest(array['shopify-webhook', 'stripe-webhook', 'quo-webhook']) p;
insert into request_counts (minute, shop, provider, outcome, route, status, count, latency)
select date_trunc('minute', now()) - m * interval '1 minute', s.slug, p, 'accepted', '/webhooks/' || p,
       200, 20, '{10,10,0,0,0,0,0,0,0,0,0,0,0,0}'
  from shops s cross join unnest(array['shopify', 'stripe', 'openphone']) p
 cross join generate_series(0, 59) m;
insert into shop_config (shop_id, ai_cap, sms_budget)
select id, '50.00 CAD', '100.00 CAD' from shops on conflict (shop_id) do nothing;
insert into metered_costs (shop_id, kind, day, source, currency, amount_micros)
select s.id, k, current_date - d, 'bench', 'CAD', 100
  from shops s cross join unnest(array['ai', 'sms']) k cross join generate_series(0, 27) d;
insert into statement_stats (minute, process, statement, count, total_ms, latency)
select date_trunc('minute', now()) - m * interval '1 minute', p, 'select table ' || n, 100, 100,
       '{10,10,0,0,0,0,0,0,0,0,0,0,0,0}'
  from unnest(array['ingress', 'console', 'jobs']) p cross join generate_series(1, 300) n
 cross join generate_series(0, 9) m;
"""

# The causes of five rules, at the first %(beyond)s shops.
_BREAK = """
update connections set status = 'broken', code = '401' where provider = 'quo' and shop_id <= %(beyond)s;
update connections set token_expires_at = now() + interval '9 days'
 where provider = 'stripe' and shop_id <= %(beyond)s;
update shop_secrets set created_at = now() - interval '100 days' where shop_id <= %(beyond)s;
insert into request_counts (minute, shop, provider, outcome, route, status, count, latency)
select date_trunc('minute', now()), slug, 'stripe', 'invalid_signature', '/webhooks/stripe', 401, 30, '{}'
  from shops where id <= %(beyond)s;
insert into incidents (shop_id, rule, period, severity, summary, opened_at, updated_at)
select id, 'reconciliation_break', '2026-01-01', 'P2', 'x', now() - interval '5 days', now()
  from shops where id <= %(beyond)s
    on conflict on constraint uq_incidents_identity do update set status = 'open';
"""
_MEND = """
update connections set status = 'ok', token_expires_at = now() + interval '60 days';
update shop_secrets set created_at = now();
delete from request_counts where outcome = 'invalid_signature';
update incidents set status = 'resolved' where rule = 'reconciliation_break';
"""


def measure(servers: Servers, *, rounds: int, shops: int) -> list[Report]:
    """Return the report of one evaluation in each of five states of the shops, and of the naive way."""
    baseline = "every shop fine"
    report = Report(
        name="alerts",
        title=f"Alerts: one evaluation of {len(FIGURE_RULES)} rules for {shops:,} shops",
        columns=COLUMNS,
        baseline=baseline,
        settings={"shops": shops, "rules": len(FIGURE_RULES), "minutes_of_traffic": 60},
        is_less_better=True,
    )
    for _ in range(rounds):
        url = create_database(servers, DATABASE, template=EMPTY)
        engine, now = make_engine(url, application="bench", pool_size=1), utc_now()
        os.environ.update(env(Bench(servers=servers, database_url=url, logs=servers.home)))
        try:
            _run(url, f"truncate shops restart identity cascade; {_FILL}", shops=shops)
            report.add(baseline, _evaluate(engine, now))
            _run(url, _MEND + _BREAK, beyond=50)
            report.add("5 rules open at 50 shops", _evaluate(engine, now + 2 * EVERY))
            _run(url, _MEND + _BREAK, beyond=shops)
            report.add("5 rules open at every shop", _evaluate(engine, now + 4 * EVERY))
            report.add("they stay open", _evaluate(engine, now + 6 * EVERY))
            report.add("one query for each rule and shop", _query_each(engine, shops, now))
            _run(url, _MEND)
            _evaluate(engine, now + 8 * EVERY)
            report.add("after two minutes most end", _evaluate(engine, now + 8 * EVERY + MINUTES_2))
        finally:
            engine.dispose()
            drop_database(servers, DATABASE)
    return [report]


def _evaluate(engine: Engine, now: datetime) -> Figures:
    statements: list[str] = []
    with transaction(engine) as tx:
        event.listen(tx, "before_cursor_execute", lambda *args: statements.append(args[2]))
        began = time.perf_counter()
        changes = check_rules(tx, COLLECTORS, now)
        took = time.perf_counter() - began
        opened = tx.execute(text("select count(*) from incidents where status = 'open'")).scalar_one()
    assert engine.pool.checkedin() == 1, "one connection is used"  # type: ignore[attr-defined]
    return {
        "ms": round(took * 1000, 1),
        "statements": len(statements) - 1,
        "changes": len(changes),
        "open": opened,
    }


def _query_each(engine: Engine, shops: int, now: datetime) -> Figures:
    """Read the same figures with one query for each rule and shop, and decide nothing."""
    queries = {
        rule: f"select * from ({query}) q where shop_id::text = %(shop)s::text"
        for rule, query in QUERIES.items()
    }
    began = time.perf_counter()
    with transaction(engine) as tx:
        for shop in range(1, shops + 1):
            for rule, query in queries.items():
                tx.exec_driver_sql(query, bind_values(rule, now) | {"shop": shop}).all()
    took = time.perf_counter() - began
    return {"ms": round(took * 1000, 1), "statements": shops * len(queries), "changes": 0, "open": 0}


def _run(url: str, statements: str, **values: int) -> None:
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(statements, values)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
