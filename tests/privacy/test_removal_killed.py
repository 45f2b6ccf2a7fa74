"""``fleet shops remove`` that is killed before or after any of its commits is finished by the next run."""

from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from services.cli import shops_remove
from services.cli.main import main
from services.core.db import transaction
from services.privacy.shop_removal import count_rows, list_tables
from tests.killed import run_killed
from tests.retention.old_rows import make_old, run_job, select_all

ENTRIES = """
select m.summary, m.after from audit_events e join audit_mutations m on m.event_id = e.id
 where e.action = 'shop.remove' order by e.seq
"""
LEFT = """
select (not settings ? 'removed_at')::int + exists (select from archive_keys where secret is not null)::int
  from shop_config
"""


def count_commits(engine: Engine) -> int:
    """Return the commits that are left: the mark, the keys, each table with rows, and the last entry."""
    with transaction(engine) as tx:
        return select_all(engine, LEFT)[0] + len(count_rows(tx, 1, list_tables(tx))) + 1


def test_a_killed_removal_goes_on_and_records_once_what_all_runs_deleted(
    shop: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shops_remove, "SETTLE_SECONDS", 0.0)
    make_old(shop, "topic = 'orders/create'")
    run_job(shop)
    with transaction(shop) as tx:
        rows = count_rows(tx, 1, list_tables(tx))
    (keys,) = select_all(shop, "select count(*) from archive_keys")
    arguments = ["shops", "remove", "harbour", "--export", str(tmp_path / "data"), "--confirm", "harbour"]

    def remove() -> None:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output

    for step in count(1):
        # The last step is after the commit of the last entry: before it, each run is killed one step later.
        left = 2 * count_commits(shop)
        assert not run_killed(shop, remove, step if step < left else left - 1)
        if left == 2:
            assert not run_killed(shop, remove, 2)
            break

    removed, deleted = select_all(shop, ENTRIES)
    assert removed == ("removed shop harbour: its data is being deleted", None)
    assert deleted[0] == f"deleted {sum(rows.values()) + keys} rows of the removed shop harbour"
    assert deleted[1] == {"rows": rows | {"archive_keys": keys}}
    assert step > 4
    again = CliRunner().invoke(main, arguments)
    assert (again.exit_code, "was removed already" in again.output) == (0, True)
    with transaction(shop) as tx:
        assert count_rows(tx, 1, list_tables(tx)) == {}
