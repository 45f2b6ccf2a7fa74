"""What can go wrong with a fleet on one machine. Each message says what would be right."""

from services.core.errors import ShopfleetError


class FleetError(ShopfleetError):
    """The fleet cannot do what was asked; the message names the cause and the remedy."""


class AlreadyRunning(FleetError):
    """Another fleet holds this ``FLEET_HOME``."""


class NotRunning(FleetError):
    """No fleet holds this ``FLEET_HOME``."""


class PortTaken(FleetError):
    """A port that the fleet needs belongs to another process."""


class ServerFailed(FleetError):
    """An embedded server, or a process of the fleet, did not become ready."""
