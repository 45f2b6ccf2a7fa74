"""``GET /api/v1/platform/verify-audit``: verify the audit chains. Writes nothing, not even a checkpoint."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from services.audit.signing import make_signer
from services.audit.verify import VerifyOptions, VerifyReport, verify_audit
from services.console.answers import RETRY_AFTER_SECONDS, database_unavailable, is_set, json_error
from services.core.db import is_connection_fault, transaction
from services.core.errors import WorkError
from services.core.settings import Settings
from services.ingress.page_stats import note_fault
from services.jobs.audit_jobs import find_slug, list_open, list_open_findings
from services.providers.object_store import open_store
from services.shops.shops import ShopUnknown, list_shops


def audit_blueprint(settings: Settings) -> Blueprint:
    blueprint = Blueprint("audit", __name__)

    @blueprint.get("/api/v1/platform/verify-audit")
    def verify() -> tuple[Response, int]:
        try:
            return _verify(settings, request.args.get("shop", ""))
        except ShopUnknown as fault:
            return json_error(404, "unknown_shop", str(fault))
        except WorkError as fault:  # the archive store, whose anchors are part of the proof
            note_fault(fault)
            return json_error(503, fault.code, fault.detail, {"Retry-After": RETRY_AFTER_SECONDS})
        except Exception as fault:
            if not is_connection_fault(fault):
                raise
            note_fault(fault)
            return database_unavailable()

    return blueprint


def _verify(settings: Settings, slug: str) -> tuple[Response, int]:
    """``?shop=`` is one shop's chain, ``?full=1`` from its first event on. 409 while a finding is open."""
    with transaction() as tx:
        slugs = {shop.id: shop.slug for shop in list_shops(tx)}
    ids = {known: shop_id for shop_id, known in slugs.items()}
    if slug and slug not in ids:
        raise ShopUnknown(f"there is no shop {slug!r}")
    is_full = is_set("full")
    options = VerifyOptions(shop_id=ids.get(slug), is_one_chain=bool(slug), full=is_full, manifests=is_full)
    with transaction() as tx:
        report = verify_audit(tx, options, make_signer(settings), open_store(settings.archive_url))
    with transaction() as tx:
        unresolved = list_open_findings(tx, *([options.shop_id] if slug else []))
    figures: dict[str, Any] = {
        "text_version": report.text_version,
        "chains": len(report.chains),
        "rows": report.rows,
        "seconds": round(report.seconds, 3),
        "anchors": report.anchors,
        "open_findings": list_open(unresolved, slugs),
    }
    if report.findings:
        return jsonify(
            status="altered", first=_first(report, slugs), findings=[*map(str, report.findings)], **figures
        ), 409
    heads = [{"shop": find_slug(chain.shop_id, slugs), **chain.head._asdict()} for chain in report.chains]
    if unresolved:
        return jsonify(status="finding_open", heads=heads, **figures), 409
    return jsonify(status="verified", heads=heads, **figures), 200


def _first(report: VerifyReport, slugs: dict[int, str]) -> dict[str, Any]:
    found = report.findings[0]
    return {
        "shop": find_slug(found.shop_id, slugs),
        "kind": found.kind,
        "seq": found.seq,
        "event_id": found.event_id,
        "detail": str(found),
    }
