"""A machine on which ``docs/production.md`` is followed: servers, sandbox, and a folder as its root."""

import shutil
import signal
import sys
from pathlib import Path

import psycopg

from services.fleet.ports import find_free_port
from tests.installation.package_databases import Postgres
from tests.installation.package_servers import PackageServer, make_certificate
from tests.installation.production_page import ProductionPage, list_substitutions, machine_environment
from tests.installation.systemd import Systemd


class Redis(PackageServer):
    """Redis with the configuration that the page extends."""

    program = "redis-server"

    def __init__(self, home: Path, configuration: Path) -> None:
        super().__init__(home)
        self._configuration = configuration

    def command(self) -> list[str]:
        return [self.path, str(self._configuration)]


class Nginx(PackageServer):
    """nginx, which starts when it is reloaded with its first site."""

    program = "nginx"

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(home)
        self._configuration = root / "nginx.conf"
        self._configuration.write_text(
            f"user root;\npid {home}/pid;\nerror_log {home}/log;\nevents {{}}\n"
            f"http {{ access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;\n"
            f"include {root}/etc/nginx/sites-enabled/*; }}\n"
        )

    def command(self) -> list[str]:
        return [self.path, "-c", str(self._configuration), "-g", "daemon off;"]

    def reload(self) -> None:
        """Read the configuration again."""
        self.start() if self._process is None else self.signal(signal.SIGHUP)


class Sandbox(PackageServer):
    """A process of the sandbox: the company's mail server, or Shopify and Stripe."""

    program = sys.executable

    def __init__(self, home: Path, module: str, *options: str) -> None:
        super().__init__(home)
        self._words = ("-m", f"services.sandbox.{module}", "--port", str(self.port), *options)

    def command(self) -> list[str]:
        return [self.path, *self._words]


class Journal:
    """journald, whose configuration the page writes."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def reload(self) -> None: ...


class Installation:
    """A machine on which the page is followed."""

    def __init__(self, home: Path, database: Postgres) -> None:
        root = home / "machine"
        root.mkdir()
        certificate = home / "certificate"
        certificate.mkdir()
        made = make_certificate(certificate, "DNS:localhost,IP:127.0.0.1")
        shutil.copy(made["tls-cert-file"], certificate / "fullchain.pem")
        shutil.copy(made["tls-key-file"], certificate / "privkey.pem")
        self.nginx = Nginx(home / "nginx", root)
        self.redis = Redis(home / "redis", root / "etc/redis/redis.conf")
        self.mail = Sandbox(home / "mail", "mail_sink", "--folder", str(home / "mail/mails")).start()
        self.providers = Sandbox(home / "providers", "serve").start()
        self.ports = {
            "postgresql": database.port,
            "redis-server": self.redis.port,
            "https": self.nginx.port,
            "smtp": self.mail.port,
            "sandbox": self.providers.port,
            **{name: find_free_port() for name in ("ingress", "console", "flower")},
        }
        self.log = home / "log"
        environment = machine_environment(root, certificate)
        services = {
            "postgresql": database,
            "redis-server": self.redis,
            "nginx": self.nginx,
            "systemd-journald": Journal(),
        }
        self.systemd = Systemd(root / "etc/systemd/system", services, environment, self.log)
        substitutions = list_substitutions(root, self.ports, certificate)
        self.page = ProductionPage(root, substitutions, environment, self.systemd)
        self.root = root
        # What the packages bring.
        for folder in ("redis", "nginx/sites-available", "nginx/sites-enabled", "systemd/system"):
            (root / "etc" / folder).mkdir(parents=True)
        (root / "etc/redis/redis.conf").write_text(
            f"port {self.redis.port}\nbind 127.0.0.1\ndir {self.redis.home}\n"
        )

    def count(self, query: str, database: str = "shopfleet") -> int:
        with psycopg.connect(
            f"postgresql://postgres@127.0.0.1:{self.ports['postgresql']}/{database}"
        ) as connection:
            (found,) = connection.execute(query.encode()).fetchone() or (0,)
            return int(found)

    def close(self) -> None:
        self.systemd.close()
        for server in (self.nginx, self.redis, self.mail, self.providers):
            server.stop(signal.SIGKILL)
