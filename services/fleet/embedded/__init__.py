"""PostgreSQL 18 and Valkey 9 from wheels, started and stopped with the process that needs them.

They need no container and no root, create no account, and change no permissions of existing folders.
"""

from services.fleet.embedded.servers import EmbeddedServers

__all__ = ["EmbeddedServers"]
