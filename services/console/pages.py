"""``/``: the morning scan."""

from typing import Any

from flask import Blueprint

from services.console.scan_page import show_scan
from services.console.scan_reading import ScanReader


def pages_blueprint(scan: ScanReader) -> Blueprint:
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/")
    def home() -> Any:
        return show_scan(scan)

    return blueprint
