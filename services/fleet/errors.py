"""Errors of a fleet on one machine."""

from services.core.errors import ShopfleetError


class FleetError(ShopfleetError):
    """An error of this machine's fleet; the message names the cause and the remedy."""


class AlreadyRunning(FleetError):
    """Another fleet runs on this ``FLEET_HOME``."""


class NotRunning(FleetError):
    """No fleet runs on this ``FLEET_HOME``."""


class PortTaken(FleetError):
    """A port that the fleet needs belongs to another process."""


class ServerFailed(FleetError):
    """An embedded server, or a process of the fleet, did not become ready."""
