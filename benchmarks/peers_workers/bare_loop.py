"""The limit: no queue. Two processes read half of the rows each, in sets of 100, a commit per set."""

import sys

from benchmarks.peers_workers.effect import ingest_set

SET = 100


def main() -> None:
    """Take every second set: ``python -m benchmarks.peers_workers.bare_loop WHICH COUNT``."""
    which, count = int(sys.argv[1]), int(sys.argv[2])
    for first in range(1 + which * SET, count + 1, 2 * SET):
        ingest_set(range(first, min(first + SET, count + 1)))


if __name__ == "__main__":
    main()
