"""Roles of people, and what each may do. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from services.core.errors import InputInvalid


class Role(IntEnum):
    """A role may do all that a lower one may."""

    FLOOR = 1
    VIEWER = 2
    OPERATOR = 3
    ADMIN = 4
    OWNER = 5

    @property
    def title(self) -> str:
        return self.name.lower()


WITHOUT_SECOND_FACTOR = Role.OPERATOR
"""The highest role of a session that a password alone began."""

ABOUT: Mapping[Role, str] = {
    Role.FLOOR: "scans and assigns orders on the shop floor, and sees no other page",
    Role.VIEWER: "reads every page",
    Role.OPERATOR: "requeues, discards, replays, pauses, runs jobs and works on incidents",
    Role.ADMIN: "changes settings, schedules, secrets and people, and sees unmasked payloads",
    Role.OWNER: "edits and replays payments, and changes owners",
}

ROLE_NAMES = tuple(role.title for role in Role)


def parse_role(name: str) -> Role:
    """Return the role ``name``; raise ``InputInvalid`` for another text."""
    try:
        return Role[name.upper()]
    except KeyError:
        raise InputInvalid(f"role={name!r} should be one of {', '.join(ROLE_NAMES)}") from None


@dataclass(frozen=True, slots=True)
class Access:
    """What a person may do: their role by shop; the key None is every shop and the fleet itself."""

    user_id: int
    email: str
    name: str
    roles: Mapping[int | None, Role]

    @property
    def highest(self) -> Role:
        return max(self.roles.values())

    def may(self, role: Role, shop_id: int | None = None) -> bool:
        """Return whether this person has at least ``role`` at the shop; None: in the whole fleet."""
        found = max(self.roles.get(None, 0), self.roles.get(shop_id, 0))
        return found >= role

    def shops_with(self, role: Role) -> frozenset[int] | None:
        """Return the shops at which this person has at least ``role``; None: all of them."""
        if self.may(role):
            return None
        return frozenset(shop for shop, found in self.roles.items() if shop is not None and found >= role)

    def limited_to(self, role: Role) -> "Access":
        """Return the same person with no role above ``role``."""
        roles = {shop: min(found, role) for shop, found in self.roles.items()}
        return Access(self.user_id, self.email, self.name, roles)
