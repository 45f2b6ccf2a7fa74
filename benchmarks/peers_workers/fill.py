"""Queue work rows 1..N the way a peer's documentation queues many: ``python -m ...fill PEER N``."""

import importlib
import sys


def main() -> None:
    """Call the peer's ``fill(N)``."""
    peer, count = sys.argv[1], int(sys.argv[2])
    importlib.import_module(f"benchmarks.peers_workers.{peer}").fill(count)


if __name__ == "__main__":
    main()
