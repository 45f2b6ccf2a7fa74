"""``fleet smoke`` on a running fleet leaves nothing behind, and names what is wrong."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.journeys.journey_fleet import JourneyFleet

pytestmark = pytest.mark.xdist_group("journeys")

LEFT = """
select (select count(*) from users where email like 'smoke-test@%'),
       (select count(*) from orders o where o.shop_id = s.id and deleted_at is null),
       (select count(*) from orders o where o.shop_id = s.id and not is_test),
       (select count(*) from floor_orders f where f.shop_id = s.id
         and f.completed_at is null and f.cancelled_at is null)
  from shops s where slug = 'smoke-test'
"""


def run_smoke(fleet: JourneyFleet, url: str, *more: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "services.cli.main", "smoke", "--base-url", url, "--json", *more]
    done = subprocess.run(
        command, env={**os.environ, **fleet.env}, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_smoke_goes_through_every_stage_tells_slack_and_leaves_nothing(fleet: JourneyFleet) -> None:
    url = f"http://127.0.0.1:{fleet.env['INGRESS_PORT']}"
    before = len(fleet.slack.requests)

    for _ in range(2):
        code, result = run_smoke(fleet, url)

        assert (code, result["ok"]) == (0, True), result
        details = {one["step"]: one["detail"] for one in result["steps"]}
        assert details["stages"] == "Filling -> Covering -> Decorating -> Packing -> Complete"
        assert details["alerts"] == "slack: sent, sentry: not set up"
        assert fleet.select(LEFT) == [(0, 0, 0, 0)]
    assert len(fleet.slack.requests) >= before + 2


def test_smoke_names_what_is_wrong_and_cleans_up(fleet: JourneyFleet) -> None:
    code, result = run_smoke(fleet, "http://127.0.0.1:9", "--timeout", "1")

    assert (code, result["ok"]) == (1, False)
    assert [(one["step"], one["ok"]) for one in result["steps"]] == [("health", False), ("clean up", True)]
