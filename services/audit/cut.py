"""Delete the rows of a verified archive, as the archive role.

That role may execute ``audit_truncate`` and nothing else; the application's role may not execute it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg.errors import InsufficientPrivilege, UndefinedFunction
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from services.audit.archive_reader import Archive
from services.core.db import make_engine, transaction
from services.core.errors import Misconfigured, Refused, RetryLater

Cut = Callable[[Archive], int]
"""Deletes the rows of an archive and returns how many. The caller has verified the archive."""

_TRUNCATE = "select audit_truncate(%(shop_id)s, %(last_seq)s, %(manifest_sha256)s)"


@contextmanager
def open_cut(url: str) -> Iterator[Cut | None]:
    """Yield a function that deletes archived rows as the role of ``url``; None where ``url`` is empty.

    It raises ``Refused`` where the database refuses the range, ``Misconfigured`` where the role may not
    execute ``audit_truncate``, ``RetryLater`` where the role cannot connect.
    """
    if not url:
        yield None
        return
    engine = make_engine(url, application="shopfleet-archive", pool_size=1)

    def cut(archive: Archive) -> int:
        values = {
            "shop_id": archive.shop_id,
            "last_seq": archive.last_seq,
            "manifest_sha256": archive.manifest_sha256,
        }
        try:
            with transaction(engine) as tx:
                return int(tx.exec_driver_sql(_TRUNCATE, values).scalar_one())
        except DBAPIError as fault:
            _raise_named(fault)
            raise

    try:
        yield cut
    finally:
        engine.dispose()


def _raise_named(fault: DBAPIError) -> None:
    why = str(fault.orig).strip().partition("\n")[0]
    if isinstance(fault, IntegrityError):
        raise Refused(
            "audit.cut_refused",
            f"the database refused to delete archived rows: {why}. Check the chain: "
            "`fleet audit verify --full --archives`",
        ) from fault
    if isinstance(fault.orig, InsufficientPrivilege | UndefinedFunction):
        raise Misconfigured(
            "audit.archive_role_refused",
            f"the role of AUDIT_ARCHIVE_DATABASE_URL may not delete archived rows: {why}. Run "
            "`fleet migrate` with this setting, then requeue",
        ) from fault
    if isinstance(fault, OperationalError):
        raise RetryLater(
            "audit.archive_role_unavailable",
            f"the role of AUDIT_ARCHIVE_DATABASE_URL cannot connect: {why}. `fleet doctor` checks it",
        ) from fault
