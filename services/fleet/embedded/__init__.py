"""PostgreSQL 18 and Valkey 9 from wheels, started and ended with the process that wants them.

No container, no root, no system account made, no permissions changed on anybody's folders.
"""

from services.fleet.embedded.servers import EmbeddedServers

__all__ = ["EmbeddedServers"]
