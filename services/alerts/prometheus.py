"""Alert rules for Prometheus, made from the table of rules. Pure."""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta

from services.alerts.rule import AlertRule, FigureRule

HEAD = """\
# Alert rules of Shopfleet, made by `fleet alerts export --prometheus` for Prometheus 2.42 and newer.
groups:
  - name: shopfleet
    rules:
"""


def render_prometheus(rules: Iterable[AlertRule]) -> str:
    """Return a file of alert rules in YAML, one for each of ``rules``, over metrics of ``GET /metrics``.

    Source: prometheus.io/docs/prometheus/latest/configuration/alerting_rules.
    """
    return HEAD + "".join(line + "\n" for rule in rules for line in _render(rule))


def _render(rule: AlertRule) -> Iterator[str]:
    yield f"      - alert: {rule.name}"
    yield f"        expr: {_expression(rule)}"
    if isinstance(rule, FigureRule) and rule.lasts:
        yield f"        for: {_seconds(rule.lasts)}"
    if isinstance(rule, FigureRule) and rule.clears:
        yield f"        keep_firing_for: {_seconds(rule.clears)}"
    yield "        labels:"
    yield f"          severity: {rule.severity}"
    yield "        annotations:"
    # A JSON string is a quoted string of YAML.
    yield f"          summary: {json.dumps(rule.about, ensure_ascii=False)}"
    description = f"opens {rule.opens}; do: {rule.steps.fix}"
    yield f"          description: {json.dumps(description, ensure_ascii=False)}"


def _expression(rule: AlertRule) -> str:
    if rule.name == "rule_not_computed" and isinstance(rule, FigureRule):
        # Also true if the evaluation itself has stopped.
        return f"time() - shopfleet_rule_computed_timestamp_seconds > {rule.threshold * 60:g}"
    metric = "shops_beyond" if isinstance(rule, FigureRule) else "incidents_open"
    return f'shopfleet_rule_{metric}{{rule="{rule.name}"}} > 0'


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():.0f}s"
