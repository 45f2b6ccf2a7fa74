"""A durable fleet under load, and the checks after each fault."""

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.audit.signing import make_signer
from services.audit.verify import VerifyOptions, verify_audit
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.ports import LOOPBACK
from services.core.settings import get_settings
from services.demo import checks
from services.demo.day import plan_opening
from services.demo.delivery import Delivery
from services.demo.directory import isolated_environment, use_fleet_settings
from services.demo.expected import recompute
from services.demo.figures import read_figures, read_outside, read_state, wait_settled
from services.demo.providers import count_stock_levels
from services.demo.sender import WebhookPoster
from services.demo.shops import find_owning, make_shops, record_shops
from services.fleet.ports import find_free_port
from services.fleet.up import RunningFleet, start_fleet
from services.providers.object_store import open_store
from services.shops.fields import OF_POOL
from tests.chaos.faults import Fault, Outages
from tests.chaos.traffic import Traffic, make_posts

RECOVER_WITHIN_SECONDS = 60.0
PORTS = ("INGRESS_PORT", "CONSOLE_PORT", "FLOWER_PORT", "SANDBOX_PORT", "MAIL_SINK_PORT")
BEFORE_SECONDS, AFTER_SECONDS = 3.0, 3.0


@dataclass(slots=True)
class Outcome:
    """Result of one fault."""

    fault: str
    acknowledged: int
    lost: int
    applied_twice: int
    recovery_seconds: float
    workers_ended: int
    failed: list[str] = field(default_factory=list)


class Chaos:
    """A fleet under load, and the webhooks sent to it."""

    def __init__(
        self, fleet: RunningFleet, per_second: float, outages: Outages, recover_within_seconds: float
    ) -> None:
        self.fleet, self._per_second, self._outages = fleet, per_second, outages
        self._recover_within_seconds = recover_within_seconds
        now = utc_now()
        rng = random.Random(7)
        # Every push sets a count, so the result does not depend on the order of arrival.
        self._shops = [
            replace(shop, stock_owner="shopfleet") if shop.stock_owner.startswith(OF_POOL) else shop
            for shop in make_shops(rng)
        ]
        with transaction() as tx:
            record_shops(tx, self._shops, now)
        self._sandbox_url = f"http://{LOOPBACK}:{fleet.values['SANDBOX_PORT']}"
        ingress_url = f"http://{LOOPBACK}:{fleet.values['INGRESS_PORT']}"
        self._sender = WebhookPoster(ingress_url, self._sandbox_url, self._shops, give_up_after_seconds=180)
        self._posts = make_posts(self._shops, rng, now)
        self._sent: list[Delivery] = plan_opening(self._shops, rng, now).accepted
        self._sender.send_all(self._sent)
        wait_settled(RECOVER_WITHIN_SECONDS)
        count_stock_levels(self._shops, now)
        for shop in self._shops:
            self._sender.control({"shop": shop.domain, "slow_seconds": 0.2})
        wait_settled(RECOVER_WITHIN_SECONDS)
        self.log_at_start = (fleet.home / "fleet.log").read_text()

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()

    def run_fault(self, fault: Fault) -> Outcome:
        """Inject ``fault`` under load and return its outcome."""
        supervisor, answers = self.fleet.supervisor, self._sender.answers
        acknowledged = len(answers.ids)
        starts = _worker_starts(self.fleet)
        traffic = Traffic(self._sender, self._posts, self._per_second)
        traffic.start()
        time.sleep(BEFORE_SECONDS)
        fault.inject(self.fleet, self._outages)
        over_at = time.monotonic()
        time.sleep(AFTER_SECONDS)
        traffic.stop()
        waiting = wait_settled(2 * self._recover_within_seconds)
        recovery_seconds = time.monotonic() - over_at
        supervisor.wait_healthy(self._recover_within_seconds)
        self._sent += traffic.sent

        sent = list(dict.fromkeys(self._sent))
        figures, outside = read_figures(self.fleet.home / "mail"), read_outside(self._sandbox_url)
        ended = _worker_starts(self.fleet) - starts
        held = [
            checks.check_accounts(answers, figures),
            checks.check_settled(waiting),
            checks.check_dead(sent, figures),
            *checks.check_effects(recompute(sent, find_owning(self._shops), {}), read_state(), outside),
        ]
        failed = [f"{check.name}: {check.seen}" for check in held if not check.holds]
        failed += answers.wrong[:3]
        failed += _find_broken_chains()
        if recovery_seconds > self._recover_within_seconds:
            failed.append(f"took {recovery_seconds:.0f} s to recover")
        if fault.keeps_workers and ended:
            failed.append(f"{ended} workers ended")
        return Outcome(
            fault=fault.name,
            acknowledged=len(answers.ids) - acknowledged,
            lost=len(answers.ids - figures.event_ids),
            applied_twice=sum(count > 1 for count in outside.applied.values()),
            recovery_seconds=round(recovery_seconds, 1),
            workers_ended=ended,
            failed=failed,
        )


def _find_broken_chains() -> list[str]:
    """Return what is wrong with the audit's chains: a gap, a fork or a misplaced row."""
    settings = get_settings()
    with transaction() as tx:
        report = verify_audit(
            tx, VerifyOptions(full=True), make_signer(settings), open_store(settings.archive_url)
        )
    return [str(found) for found in report.findings] + ([] if report.rows else ["nothing was audited"])


def _worker_starts(fleet: RunningFleet) -> int:
    return sum(count for name, count in fleet.supervisor.restarts().items() if name.startswith("worker-"))


@contextmanager
def open_chaos(
    home: Path,
    per_second: float,
    outages: Outages,
    settings: Mapping[str, str] | None = None,
    *,
    recover_within_seconds: float = RECOVER_WITHIN_SECONDS,
) -> Iterator[Chaos]:
    """Start a fleet in the empty folder ``home``, with ``settings`` over its own; stop it afterwards.

    ``home`` keeps the lines of all processes in ``fleet.log``.
    """
    home.mkdir(parents=True, exist_ok=True)
    with isolated_environment(home), (home / "fleet.log").open("w") as out:
        # Not the usual ports: a fleet of another run could choose them at the same moment.
        os.environ |= {"LOG_LEVEL": "warning", **{name: str(find_free_port()) for name in PORTS}}
        os.environ |= settings or {}
        with (
            start_fleet(home, auto_ports=True, sandbox=True, out=out) as fleet,
            use_fleet_settings(fleet.values),
        ):
            fleet.supervisor.wait_healthy(90)
            chaos = Chaos(fleet, per_second, outages, recover_within_seconds)
            yield chaos
            chaos.close()
