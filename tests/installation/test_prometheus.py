"""Debian's promtool takes the exported alert rules, and they fire when the rule does."""

import json
import subprocess
from pathlib import Path

import pytest

from services.alerts.prometheus import render_prometheus
from services.alerts.rules import RULES
from tests.installation.package_servers import need

# ``beyond`` is 1 from minute 5 to 30; requests_failed lasts ten minutes and clears after ten.
CASES = """
rule_files: [shopfleet.rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'shopfleet_rule_shops_beyond{rule="requests_failed"}'
        values: '0x4 1x25 0x60'
      - series: 'shopfleet_rule_incidents_open{rule="audit_chain_failed"}'
        values: '0x4 1x60'
      - series: 'shopfleet_rule_computed_timestamp_seconds{rule="secret_old"}'
        values: '0x60'
    alert_rule_test:
      - {eval_time: 14m, alertname: requests_failed, exp_alerts: []}
      - {eval_time: 16m, alertname: requests_failed, exp_alerts: [EXPECTED]}
      - {eval_time: 38m, alertname: requests_failed, exp_alerts: [EXPECTED]}
      - {eval_time: 45m, alertname: requests_failed, exp_alerts: []}
      - {eval_time: 4m, alertname: audit_chain_failed, exp_alerts: []}
      - {eval_time: 5m, alertname: audit_chain_failed, exp_alerts: [CHAIN]}
      - {eval_time: 17m, alertname: rule_not_computed, exp_alerts: []}
      - {eval_time: 18m, alertname: rule_not_computed, exp_alerts: [OLD]}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "shopfleet.rules.yml"
    file.write_text(render_prometheus(RULES.values()))
    return file


def promtool(*arguments: str) -> str:
    done = subprocess.run([need("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_every_rule(rules: Path) -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", str(rules))


def test_an_alert_fires_after_the_time_of_its_rule_and_ends_after_its_recovery(rules: Path) -> None:
    cases = CASES
    for word, rule in (
        ("EXPECTED", "requests_failed"),
        ("CHAIN", "audit_chain_failed"),
        ("OLD", "rule_not_computed"),
    ):
        spec = RULES[rule]
        source = {"OLD": "secret_old"}.get(word, rule)
        description = json.dumps(f"opens {spec.opens}; do: {spec.steps.fix}")
        alert = (
            f"{{exp_labels: {{severity: {spec.severity}, rule: {source}}}, exp_annotations: "
            f'{{summary: "{spec.about}", description: {description}}}}}'
        )
        cases = cases.replace(word, alert)
    file = rules.with_name("cases.yml")
    file.write_text(cases)

    promtool("test", "rules", str(file))
