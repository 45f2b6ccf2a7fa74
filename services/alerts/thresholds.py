"""Thresholds that a person set for one shop or for the fleet, in place of those of the table of rules."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Unpack

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects.postgresql import insert

from services.alerts.rule import FigureRule
from services.alerts.rules import FIGURE_RULES
from services.alerts.tables import rule_settings
from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid
from services.ledger.work import FLEET

LARGEST = 1e9


class Thresholds(dict[tuple[str, int], float]):
    """By rule and shop; shop ``FLEET``: for every shop without one of its own."""

    def find(self, rule: FigureRule, shop_id: int) -> float:
        """Return the threshold in force for ``shop_id``."""
        return self.get((rule.name, shop_id), self.get((rule.name, FLEET), rule.threshold))


def load_thresholds(tx: Connection) -> Thresholds:
    """Return the thresholds that a person set."""
    return Thresholds({(row.rule, row.shop_id): row.threshold for row in list_rule_settings(tx)})


def list_rule_settings(tx: Connection) -> Sequence[Row[Any]]:
    """Return the rows of ``rule_settings``, by rule; the fleet's (``shop_id`` 0) first."""
    return tx.execute(select(rule_settings).order_by(rule_settings.c.rule, rule_settings.c.shop_id)).all()


def set_threshold(
    tx: Connection, name: str, shop_id: int, threshold: float, **author: Unpack[Author]
) -> float | None:
    """Set the threshold of the rule ``name`` from the next evaluation on; return the one that was set before.

    ``shop_id`` ``FLEET``: for every shop without one of its own. An equal threshold changes nothing. Raises
    ``InputInvalid`` for a number that is not from 0 to ``LARGEST``, for a missing reason, and for a shop at
    a rule whose figures belong to no shop.
    """
    rule = FIGURE_RULES[name]
    if not (isfinite(threshold) and 0 <= threshold <= LARGEST):
        raise InputInvalid(f"threshold={threshold:g} should be from 0 to {LARGEST:g} {rule.unit}")
    if shop_id != FLEET and rule.is_of_fleet:
        raise InputInvalid(f"shop={shop_id} should be left out: the figures of {name} belong to no shop")
    before = _check_and_find(tx, name, shop_id, author)
    if before == threshold:
        return before
    values = {"threshold": threshold, "by": author["by"], "reason": author["reason"], "at": author["now"]}
    statement = insert(rule_settings).values(rule=name, shop_id=shop_id, **values)
    tx.execute(statement.on_conflict_do_update(constraint="pk_rule_settings", set_=values))
    summary = f"set the threshold of {name} to {threshold:g} {rule.unit}: {author['reason']}"
    _audit(tx, "rule.set", name, shop_id, summary, before, {"threshold": threshold}, **author)
    return before


def unset_threshold(tx: Connection, name: str, shop_id: int, **author: Unpack[Author]) -> float:
    """Return to the threshold of the fleet, or of the table of rules; return the one that was set before.

    Raises ``InputInvalid`` if none is set, and for a missing reason.
    """
    before = _check_and_find(tx, name, shop_id, author)
    if before is None:
        raise InputInvalid(f"no threshold of {name} is set here: `fleet alerts list` shows what is set")
    is_this = (rule_settings.c.rule == name) & (rule_settings.c.shop_id == shop_id)
    tx.execute(delete(rule_settings).where(is_this))
    summary = f"unset the threshold {before:g} of {name}: {author['reason']}"
    _audit(tx, "rule.unset", name, shop_id, summary, before, None, **author)
    return before


def _check_and_find(tx: Connection, name: str, shop_id: int, author: Author) -> float | None:
    if not author.get("reason", "").strip():
        raise InputInvalid("reason is empty: it should say why this threshold is right")
    is_this = (rule_settings.c.rule == name) & (rule_settings.c.shop_id == shop_id)
    found: float | None = tx.scalar(select(rule_settings.c.threshold).where(is_this).with_for_update())
    return found


def _audit(
    tx: Connection,
    action: str,
    name: str,
    shop_id: int,
    summary: str,
    before: float | None,
    after: Mapping[str, float] | None,
    **author: Unpack[Author],
) -> None:
    was = None if before is None else {"threshold": before}
    mutation = Mutation("rule_settings", f"{name}/{shop_id}", summary, was, after)
    append_change(tx, action, {shop_id or None: [mutation]}, **author)
