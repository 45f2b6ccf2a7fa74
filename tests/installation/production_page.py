"""Runs the commands of ``docs/production.md`` as written, in a folder in place of the machine's root."""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.installation.systemd import Systemd

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "production.md"
_BLOCK = re.compile(r"^## (?P<heading>[^\n]+)$|^```sh\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)


def read_blocks() -> dict[str, list[str]]:
    """Return the blocks of commands by the heading above them."""
    found: dict[str, list[str]] = {}
    for match in _BLOCK.finditer(PAGE.read_text()):
        if match["heading"]:
            found[heading := match["heading"]] = []
        else:
            found[heading].append(match["commands"])
    return found


def list_substitutions(root: Path, ports: Mapping[str, int], certificate: Path) -> list[tuple[str, str]]:
    """Everything that is not run as written: (pattern, replacement), in this order."""
    sandbox = f"http://127.0.0.1:{ports['sandbox']}"
    database = f"-h 127.0.0.1 -p {ports['postgresql']} -U postgres"
    packages = sysconfig.get_path("purelib")
    venv = f"{root}/opt/shopfleet/.venv"
    path_file = f"{venv}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/tests.pth"
    return [
        # Needs root, or changes this machine.
        (r"^(apt-get|useradd|certbot) ", r": \1 "),
        (r" -o \w+ -g \w+", ""),
        (r"runuser -u shopfleet -- ", ""),
        (r"runuser -u postgres -- (psql|pg_dump|pg_restore)", rf"\1 {database}"),
        # The tests' own packages are already downloaded: pip finds that they fulfil requirements.txt.
        (
            r"^python3 -m venv (\S+)$",
            rf"{sys.executable} -m venv \1; echo {packages} > {path_file}; "
            rf"ln -s {Path(sys.executable).parent}/celery \1/bin/",
        ),
        # Host, ports, mail server and providers.
        (
            r"^INGRESS_PORT=",
            f'SHOPIFY_API_BASE="{sandbox}/shopify"\nSTRIPE_API_BASE="{sandbox}/stripe"\n\\g<0>',
        ),
        (r"https://hooks\.example\.com", f"https://localhost:{ports['https']}"),
        (r"https://console\.example\.com", f"https://127.0.0.1:{ports['https']}"),
        (r"hooks\.example\.com", "localhost"),
        (r"console\.example\.com", "127.0.0.1"),
        (r"smtp\+starttls://user:password@mail\.example\.com:587", f"smtp://127.0.0.1:{ports['smtp']}"),
        (r":5432\b", f":{ports['postgresql']}"),
        (r":6379\b", f":{ports['redis-server']}"),
        (r"\b8000\b", str(ports["ingress"])),
        (r"\b8001\b", str(ports["console"])),
        (r"\b5555\b", str(ports["flower"])),
        (r"listen 443 ssl", f"listen 127.0.0.1:{ports['https']} ssl"),
        (r"^nginx -t$", f"nginx -t -q -c {root}/nginx.conf"),
        # Folders.
        (r"file:///var\b", f"file://{root}/var"),
        (r"/etc/letsencrypt/live/localhost", str(certificate)),
        (r"(?<![\w./])/(etc|opt|var|root|usr/local)\b", rf"{root}/\1"),
    ]


class ProductionPage:
    """The page, and the machine on which its commands run."""

    def __init__(
        self,
        root: Path,
        substitutions: list[tuple[str, str]],
        environment: Mapping[str, str],
        systemd: Systemd,
    ) -> None:
        self._root, self._substitutions, self._systemd = root, substitutions, systemd
        self._environment = environment
        self._state = root / "shell-state"
        self._state.touch()
        self.blocks = read_blocks()
        for name in ("etc", "opt", "var/lib", "var/backups", "root", "usr/local/bin"):
            (root / name).mkdir(parents=True)

    def substitute(self, text: str) -> str:
        """Return ``text`` for this machine."""
        for pattern, replacement in self._substitutions:
            text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
        return text

    def run(self, heading: str, before: Mapping[str, Callable[[], None]] | None = None) -> str:
        """Run every block under ``heading``; return what it printed.

        ``before`` has what to do just before a ``systemctl`` command.
        """
        printed = []
        for block in self.blocks[heading]:
            commands: list[str] = []
            for line in block.splitlines():
                if not line.startswith("systemctl "):
                    commands.append(line)
                    continue
                printed.append(self.shell("\n".join(commands)))
                commands.clear()
                if before and line in before:
                    before[line]()
                self._systemd.control(*line.split()[1:])
            printed.append(self.shell("\n".join(commands)))
        return "".join(printed)

    def shell(self, commands: str) -> str:
        """Run ``commands`` in the one shell of the page; fail with their output if one fails."""
        if not commands.strip():
            return ""
        keep = f"{{ export -p; echo cd $PWD; umask -p; }} > {self._state}"
        script = f". {self._state}\n{self.substitute(commands)}\n{keep}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._root,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}"
        return done.stdout


def machine_environment(root: Path, certificate: Path) -> dict[str, str]:
    """The environment of a machine: no setting of the test process."""
    path = f"{root}/usr/local/bin:/usr/sbin:{os.environ['PATH']}"
    pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HOME"))}
    return {
        **pip,
        "PATH": path,
        "LANG": "C.UTF-8",
        "REPOSITORY": str(REPOSITORY),
        "SSL_CERT_FILE": str(certificate / "fullchain.pem"),
    }
