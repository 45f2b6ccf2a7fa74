"""``python -m benchmarks.setup_peers``: install the peers of the benchmarks, separate from the product.

Python peers go into ``benchmarks/.venv-peers``, Node peers into the ``node_modules`` beside their programs.
Node.js and ``wrk`` are used if they are there; without them the benchmark runs and says what it left out.
"""

import shutil
import subprocess
import sys

from benchmarks.load import has_wrk
from benchmarks.processes import NODE_FOLDER, PEERS_PYTHON, ROOT

NPM_FLAGS = ("--no-save", "--ignore-scripts", "--no-fund", "--no-audit")
"""``install``, not ``ci``, which refuses where a registry lacks other platforms' optional packages."""


def main() -> int:
    """Install the peers; return 1 if an installer failed."""
    if not PEERS_PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS_PYTHON.parent.parent], check=True)
    requirements = ROOT / "benchmarks" / "requirements-peers.txt"
    failed = _run(PEERS_PYTHON, "-m", "pip", "install", "-q", "-r", requirements)
    if shutil.which("npm"):
        failed |= _run("npm", "install", *NPM_FLAGS, "--prefix", NODE_FOLDER)
    else:
        print("Node.js is not installed: its peers will be reported as not run", file=sys.stderr)
    if not has_wrk():
        print("wrk is not installed (Debian: apt-get install wrk): a slower client posts", file=sys.stderr)
    return failed


def _run(*argv: object) -> int:
    return 1 if subprocess.run([str(part) for part in argv], check=False).returncode else 0


if __name__ == "__main__":
    sys.exit(main())
