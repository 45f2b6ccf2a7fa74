"""Each rule that opens incidents is a row of the table of rules, and the page shows that table."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from services.alerts.channels import CHANNELS
from services.alerts.decide import Change
from services.alerts.rule import AlertRule
from services.alerts.rules import FIGURE_RULES, RULES
from services.alerts.runbook import read_runbook

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "alerts.md"
FROM_SQL = {
    "services.alerts.work_rules": {"work_dead", "pause_long"},
    "services.shopify.shop_profile": {"shopify_currency_differs", "shopify_timezone_differs"},
    "services.ingress.request_stats": {
        "webhook_wrong_shop",
        "webhook_missing_header",
        "webhook_duplicate_header",
    },
}
"""Rules whose names come from a query or an outcome."""


def rules_of(path: Path) -> set[str]:
    """Return the rules of ``Incident`` in the module at ``path``, up to a colon."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    text = path.read_text()
    if "Incident(" not in text:
        return set()
    tree = ast.parse(text)
    found: set[str] = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Incident":
            rule = next((key.value for key in call.keywords if key.arg == "rule"), None)
            if name == "services.alerts.evaluate":
                continue  # the rules that compare figures
            rules = FROM_SQL.get(name) or texts_of(rule or call.args[1], tree, name)
            assert rules, f"{name}:{call.lineno}: unknown rule: use a constant of the module"
            found |= rules
    return found


def texts_of(node: ast.expr, tree: ast.Module, module: str) -> set[str]:
    """Return the texts of ``node``: a literal, a constant, the start of an f-string or a loop variable."""
    if isinstance(node, ast.Constant):
        return {str(node.value).partition(":")[0]}
    if isinstance(node, ast.JoinedStr):
        return texts_of(node.values[0], tree, module)
    if isinstance(node, ast.FormattedValue):
        return texts_of(node.value, tree, module)
    if isinstance(node, ast.Name):
        value = getattr(importlib.import_module(module), node.id, None)
        if isinstance(value, str):
            return {value.partition(":")[0]}
        return {
            text
            for loop in ast.walk(tree)
            if isinstance(loop, ast.For | ast.comprehension) and isinstance(loop.target, ast.Tuple)
            if isinstance(first := loop.target.elts[0], ast.Name) and first.id == node.id
            if isinstance(loop.iter, ast.Tuple)
            for row in loop.iter.elts
            if isinstance(row, ast.Tuple)
            for text in texts_of(row.elts[0], tree, module)
        }
    return set()


def test_every_rule_that_a_room_records_is_in_the_table_of_rules() -> None:
    recorded = {rule for path in (ROOT / "services").rglob("*.py") for rule in rules_of(path)}

    assert recorded == RULES.keys() - FIGURE_RULES.keys()


def list_rules() -> list[AlertRule]:
    return sorted(RULES.values(), key=lambda rule: (rule.severity, rule.name))


def write_table() -> str:
    lines = ["| rule | severity | means | opens | ends |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| [`{rule.name}`](#{rule.name}) | {rule.severity} | {rule.about} | {rule.opens} | {rule.ends} |"
        for rule in list_rules()
    ]
    return "\n".join(lines)


def write_runbook() -> str:
    return "\n\n".join(
        f"### {rule.name}\n\n**Notice.** {rule.about[0].upper()}{rule.about[1:]} ({rule.severity}).\n"
        f"**Confirm.** {rule.steps.confirm}\n**Fix.** {rule.steps.fix}\n**Verify.** {rule.steps.verify}"
        for rule in list_rules()
    )


def write_channels() -> str:
    lines = ["| channel | set with | severities | changes |", "| --- | --- | --- | --- |"]
    for channel in CHANNELS.values():
        changes = "all" if {*Change} - {*channel.changes} == {Change.TEST} else ", ".join(channel.changes)
        severities = ", ".join(channel.severities)
        lines.append(f"| `{channel.name}` | `{channel.setting}` | {severities} | {changes} |")
    return "\n".join(lines)


PARTS = {"rules": write_table, "runbook": write_runbook, "channels": write_channels}


@pytest.mark.parametrize(("name", "write"), PARTS.items(), ids=PARTS)
def test_the_page_of_alerts_is_written_from_the_tables(name: str, write: Callable[[], str]) -> None:
    part = PAGE.read_text().partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0].strip()

    assert part == write(), "run python -m tests.alerts.test_every_rule_is_documented"


def test_every_rule_has_steps_and_every_step_a_rule() -> None:
    assert read_runbook().keys() == RULES.keys()
    assert [name for name, steps in read_runbook().items() if not all(steps)] == []


def write_page() -> None:
    """Write the parts of the page that come from tables."""
    page = PAGE.read_text()
    for name, write in PARTS.items():
        before, _, rest = page.partition(f"<!-- {name} -->")
        after = rest.partition(f"<!-- end of {name} -->")[2]
        page = f"{before}<!-- {name} -->\n{write()}\n<!-- end of {name} -->{after}"
    PAGE.write_text(page)


if __name__ == "__main__":
    write_page()
