"""The job ``retention``, run to its end in this process; prints its stats."""

import json
from zoneinfo import ZoneInfo

from benchmarks.memory import peak_mib
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.retention.job import delete_old


def main() -> None:
    """Run the job until it leaves no old row."""
    run = JobRun(
        id=1, job="retention", shop_id=None, period="bench", covers=Covers.DAY, zone=ZoneInfo("UTC"),
        request_id="bench", work_id=1,
    )  # fmt: skip
    result = "more"
    while result == "more":
        finished = delete_old(run)
        result = finished.result
        print(json.dumps({**finished.stats, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
