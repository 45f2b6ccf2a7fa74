"""What ``/audit`` has above its list: the last verification, buttons that verify, and the export."""

from collections.abc import Mapping
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import parse_qsl

from flask import Blueprint, abort, flash, g, redirect, request, send_file, url_for
from sqlalchemy import Connection

from services.accounts.roles import Role
from services.audit.append import Mutation, append_change
from services.audit.checkpoints import record_checkpoints
from services.audit.export import export_chains
from services.audit.queries import list_chains
from services.audit.signing import make_signer
from services.audit.verifications import list_broken
from services.audit.verify import VerifyOptions, verify_audit
from services.console.account import make_author
from services.console.shop_pages import get_visible_shop
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import ShopfleetError, WorkError
from services.core.settings import get_settings
from services.jobs.audit_jobs import describe_open, find_signable, list_open_findings, record_findings
from services.jobs.runs import StartOutcome, trigger_job
from services.jobs.store import get_job
from services.ledger.dispatch import send_messages
from services.providers.object_store import open_store
from services.shops.shops import Shop

JOB = "audit-verify"
_FIND_LAST_RUN = """
select id, period, status, stats, error, ended_at from job_runs
 where job = %(job)s and shop_id is null order by due_at desc limit 1
"""
_STATES: Mapping[StartOutcome, str] = {
    StartOutcome.STARTED: "The verification of all chains is started. This page has its result when it ends.",
    StartOutcome.RUNNING: "A verification is running already.",
    StartOutcome.ALREADY_DONE: "A verification is done already.",
}


def audit_pages_blueprint() -> Blueprint:
    blueprint = Blueprint("audit_pages", __name__, url_prefix="/audit")
    blueprint.add_url_rule("/verify", "verify", _verify, methods=["POST"])
    blueprint.add_url_rule("/export", "export", _export, methods=["POST"])
    return blueprint


def read_audit_panel(tx: Connection, slugs: Mapping[int, str]) -> dict[str, Any]:
    """Return the last verification, findings of visible chains, and the shops that the person may export."""
    may = g.access.may
    return {
        "run": tx.exec_driver_sql(_FIND_LAST_RUN, {"job": JOB}).one_or_none(),
        "broken": [row for row in list_broken(tx) if may(Role.VIEWER, row.shop_id)],
        "may_verify": may(Role.OPERATOR),
        "verified": sorted(slug for shop, slug in slugs.items() if shop and may(Role.OPERATOR, shop)),
        "exported": sorted(slug for shop, slug in slugs.items() if shop and may(Role.ADMIN, shop)),
        "may_export_all": may(Role.ADMIN),
    }


def _verify() -> Any:
    given: dict[str, Any] = dict(parse_qsl(request.args.get("back", "")))
    page = url_for("lists.audit", **{name: value for name, value in given.items() if name[0] != "_"})
    try:
        text, faults = verify(request.form.get("shop", ""))
    except (ShopfleetError, WorkError) as fault:
        flash(str(fault), "error")
        return redirect(page)
    for fault_text in faults:
        flash(fault_text, "error")
    if text:
        flash(text)
    return redirect(page)


def verify(slug: str) -> tuple[str, list[str]]:
    """Verify the chain of a shop, or without one start the job that verifies all chains.

    Return what was done, empty if the chain is altered, and each finding. Answers 404 and 403 by the role.
    """
    if slug:
        return _verify_chain(get_visible_shop(slug))
    if not g.access.may(Role.OPERATOR):
        abort(403, "this needs the role operator in the fleet")
    with transaction() as tx:
        author = make_author()
        (run,) = trigger_job(tx, get_job(tx, JOB), "", None, origin="console", force=True, **author)
    if run.found is StartOutcome.STARTED:
        send_messages([ref for ref in (run.ref, *run.checkins) if ref])
    return _STATES[run.found], []


def _verify_chain(shop: Shop) -> tuple[str, list[str]]:
    """Verify the chain from its newest trusted checkpoint on, as ``fleet audit verify --shop`` does."""
    if not g.access.may(Role.OPERATOR, shop.id):
        abort(403, "this needs the role operator at the shop")
    settings = get_settings()
    signer = make_signer(settings)
    with transaction() as tx:
        options = VerifyOptions(shop_id=shop.id, is_one_chain=True)
        report = verify_audit(tx, options, signer, open_store(settings.archive_url))
    with transaction() as tx:
        record_findings(tx, report.findings, f"{g.at:%Y-%m-%d}", g.at)
        unresolved = list_open_findings(tx, shop.id)
        record_checkpoints(tx, find_signable(report, unresolved), signer, g.at)
        rows = format_count(report.rows, "row")
        summary = f"verified the chain of {shop.slug}: {rows}"
        mutation = Mutation("audit_events", shop.slug, summary)
        append_change(tx, "audit.verify", {shop.id: [mutation]}, **make_author())
    faults = [*map(str, report.findings), *map(describe_open, [] if report.findings else unresolved)]
    if faults:
        return "", [f"{shop.slug}: {fault}" for fault in faults]
    text = f"{shop.slug} is verified from its last checkpoint on: {rows}, unaltered."
    return text, []


def _export() -> Any:
    return send_export(request.form.get("shop", ""))


def send_export(slug: str) -> Any:
    """Send what ``fleet audit export`` writes, of one shop or of all chains; the export is audited."""
    shop = get_visible_shop(slug) if slug else None
    if not g.access.may(Role.ADMIN, shop.id if shop else None):
        abort(403, "this needs the role admin at the shop; without a shop, in the fleet")
    what = f"the chain of {slug}" if slug else "all chains"
    with transaction() as tx:
        mutation = Mutation("audit_events", slug, f"exported {what}")
        append_change(tx, "audit.export", {shop.id if shop else None: [mutation]}, **make_author())
    out = TemporaryFile()  # noqa: SIM115 - the response closes it
    with transaction() as tx:
        chains = [shop.id] if shop else list_chains(tx)
    with transaction() as tx:
        export_chains(tx, chains, out, make_signer(get_settings()), g.at)
    out.seek(0)
    name = f"audit-{slug or 'all'}-{g.at:%Y%m%dT%H%M%SZ}.jsonl.gz"
    return send_file(out, "application/gzip", as_attachment=True, download_name=name)
