"""``/``: the morning scan, with filter, search and pages."""

from typing import Any

from flask import g, render_template, request

from services.accounts.roles import Role
from services.console.line_pages import list_filters, make_page, read_states
from services.console.scan import count_states, plan_verdict
from services.console.scan_facts import COLUMNS, RED, STATES
from services.console.scan_reading import ScanReader


def show_scan(scan: ScanReader) -> Any:
    """Return the page of the shops that this person may see; 503 if they cannot be read in time."""
    reading = scan.read()
    if reading is None:
        detail = "The shops could not be read in time. The console's log has the cause."
        return render_template("error.html", title="No figures", detail=detail, is_red=True), 503
    visible = g.access.shops_with(Role.VIEWER)
    shops = [scan for scan in reading.shops if visible is None or scan.shop_id in visible]
    fleet = reading.fleet if visible is None else None
    typed = request.args.get("q", "").strip().lower()
    found = [scan for scan in shops if typed in scan.slug.lower() or typed in scan.name.lower()]
    wanted = read_states(STATES)
    red = sum(scan.state == RED for scan in [*shops, *([fleet] if fleet else [])])
    verdict = plan_verdict(shops, fleet, reading.sources, reading.at)
    return render_template(
        "home.html",
        title=f"({red}) Morning scan" if red else "Morning scan",
        is_red=bool(red),
        verdict=verdict,
        at=reading.at,
        columns=COLUMNS,
        fleet=fleet if fleet and not typed and (not wanted or fleet.state in wanted) else None,
        page=make_page([scan for scan in found if not wanted or scan.state in wanted]),
        filters=list_filters(count_states(found), wanted),
        typed=request.args.get("q", ""),
    )
