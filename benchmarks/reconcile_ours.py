"""The product's way: ``stage_breaks`` over the text of Stripe's rows, in this process."""

import gc
import sys
from pathlib import Path

from benchmarks.reconcile_rows import DAY, Break, read_their_rows, report
from services.core.db import make_engine
from services.payments.match import stage_breaks
from services.payments.stripe_lists import render_rows

_FOUND = "select kind, provider_id from reconciliation_staging where token = 'bench'"


def main() -> None:
    """Reconcile the database at ``argv[1]`` with the ``argv[3]`` rows of file ``argv[2]``."""
    url, path, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    engine = make_engine(url, application="bench")
    gc.freeze()  # as the workers do, in tasks/celery.py
    gc.set_threshold(50_000, 20, 20)

    def work() -> set[Break]:
        with engine.begin() as tx:
            stage_breaks(tx, DAY, render_rows(read_their_rows(path)))
        with engine.begin() as tx:
            return {(kind, of) for kind, of in tx.exec_driver_sql(_FOUND)}

    report(work, path, rows)


if __name__ == "__main__":
    main()
