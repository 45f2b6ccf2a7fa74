"""Helper: runs a part of the product in a process that is killed at one of its steps."""

import os
import re
import signal
import traceback
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event, text

from services.core import db
from services.providers.object_store import FolderStore
from tests.fleet.waiting import wait_for

_BUSY = """
select count(*) from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
"""
_CHANGES = re.compile(r"\b(insert|update|delete)\b(?! of| skip)", re.IGNORECASE)


def run_killed(engine: Engine, act: Callable[[], object], step: int) -> bool:
    """Run ``act`` in a child process that is killed (SIGKILL) at its ``step``-th step, counted from 1.

    Steps are the moments before and after each commit of a change, and before and after a file of the archive
    store is linked or read. Returns True if ``act`` ended before that.
    """
    child = os.fork()
    if not child:
        try:
            db.drop_engine()
            _kill_at(step)
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on as a test process
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), "the child failed: see its traceback"
    wait_for(lambda: _is_idle(engine))
    return status == 0


def _is_idle(engine: Engine) -> bool:
    """Return whether no other connection has an open transaction: the server noticed the killed process."""
    with engine.connect() as tx:
        return not tx.execute(text(_BUSY)).scalar_one()


def _kill_at(step: int) -> None:
    left = step

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            count()
            result = call(*arguments)
            count()
            return result

        return wrapper

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if _CHANGES.search(statement) and cursor.rowcount:
            connection.info["changed"] = True

    engine = db.get_engine()
    event.listen(engine, "after_cursor_execute", note)
    commit = engine.dialect.do_commit
    engine.dialect.do_commit = lambda pooled: (
        counted(commit)(pooled) if _pop(pooled, engine) else commit(pooled)
    )
    os.link = counted(os.link)
    FolderStore.get = counted(FolderStore.get)  # type: ignore[method-assign]


def _pop(pooled: Any, _engine: Engine) -> bool:
    return bool(pooled.info.pop("changed", False))
