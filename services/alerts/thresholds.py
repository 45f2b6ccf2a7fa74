"""Thresholds that a person set for one shop or for the fleet, in place of those of the table of rules."""

from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Unpack

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects.postgresql import insert

from services.alerts.rule import FigureRule
from services.alerts.rules import FIGURE_RULES
from services.alerts.tables import rule_settings
from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid, NothingToDo
from services.ledger.work import FLEET

LARGEST = 1e9


class Thresholds(dict[tuple[str, int], float]):
    """By rule and shop; shop ``FLEET``: for every shop without one of its own."""

    settings: Sequence[Row[Any]] = ()

    def find_change(self, rule: FigureRule, shop_id: int, since: datetime | None) -> Row[Any] | None:
        """Return the setting in force for ``shop_id`` if a person made it at ``since`` or later."""
        found = {row.shop_id: row for row in self.settings if row.rule == rule.name}
        row = found.get(shop_id, found.get(FLEET))
        return row if row is not None and since is not None and row.at >= since else None

    def find(self, rule: FigureRule, shop_id: int) -> float:
        """Return the threshold in force for ``shop_id``."""
        return self.get((rule.name, shop_id), self.get((rule.name, FLEET), rule.threshold))


def load_thresholds(tx: Connection) -> Thresholds:
    """Return the thresholds that a person set."""
    rows = list_rule_settings(tx)
    found = Thresholds({(row.rule, row.shop_id): row.threshold for row in rows})
    found.settings = rows
    return found


def list_rule_settings(tx: Connection) -> Sequence[Row[Any]]:
    """Return the rows of ``rule_settings``, by rule; the fleet's (``shop_id`` 0) first."""
    return tx.execute(select(rule_settings).order_by(rule_settings.c.rule, rule_settings.c.shop_id)).all()


def set_threshold(
    tx: Connection, name: str, shop_id: int, threshold: float | None, **author: Unpack[Author]
) -> float | None:
    """Set the threshold of the rule ``name`` from the next evaluation on; return the one that was set before.

    ``shop_id`` ``FLEET``: for every shop without one of its own. ``threshold`` None removes it. An equal one
    changes nothing. Raises ``NothingToDo`` if there is none to remove, ``InputInvalid`` for a number
    that is not from the rule's ``lowest`` to ``LARGEST``, for a missing reason, and for a shop at a rule
    whose figures belong to no shop.
    """
    rule, reason = FIGURE_RULES[name], author.get("reason", "")
    if threshold is not None and not (isfinite(threshold) and rule.lowest <= threshold <= LARGEST):
        raise InputInvalid(
            f"threshold={threshold:g} should be from {rule.lowest:g} to {LARGEST:g} {rule.unit}"
        )
    if shop_id != FLEET and rule.is_of_fleet:
        raise InputInvalid(f"the figures of {name} belong to no shop: set it without a shop")
    if not reason.strip():
        raise InputInvalid("reason is empty: it should say why this threshold is right")
    is_this = (rule_settings.c.rule == name) & (rule_settings.c.shop_id == shop_id)
    before: float | None = tx.scalar(select(rule_settings.c.threshold).where(is_this).with_for_update())
    if before == threshold:
        if threshold is None:
            raise NothingToDo(f"no threshold of {name} is set here: `fleet alerts list` shows what is set")
        return before
    if threshold is None:
        tx.execute(delete(rule_settings).where(is_this))
        action, summary = "rule.unset", f"unset the threshold {before:g} of {name}: {reason}"
    else:
        values = {"threshold": threshold, "by": author["by"], "reason": reason, "at": author["now"]}
        statement = insert(rule_settings).values(rule=name, shop_id=shop_id, **values)
        tx.execute(statement.on_conflict_do_update(constraint="pk_rule_settings", set_=values))
        action, summary = "rule.set", f"set the threshold of {name} to {threshold:g} {rule.unit}: {reason}"
    states = [None if one is None else {"threshold": one} for one in (before, threshold)]
    mutation = Mutation("rule_settings", f"{name}/{shop_id}", summary, *states)
    append_change(tx, action, {shop_id or None: [mutation]}, **author)
    return before
