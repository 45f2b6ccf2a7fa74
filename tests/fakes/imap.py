"""A small IMAP server with one mailbox, for ``imaplib``."""

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class ImapServer:
    """Messages by UID from 1 on; ``seen`` are the UIDs that a client marked."""

    messages: list[bytes] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    password: str = "pass word"
    folder: str = "INBOX"
    fail_next_store: bool = False
    port: int = 0

    @property
    def url(self) -> str:
        return f"imap://bounces%40harbour.example:pass%20word@127.0.0.1:{self.port}/{self.folder}"

    @contextmanager
    def serving(self) -> Iterator["ImapServer"]:
        owner = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"* OK ready\r\n")
                while line := self.rfile.readline():
                    tag, _, command = line.decode().strip().partition(" ")
                    answer = owner.answer(command)
                    if answer is None:
                        return
                    *lines, result = answer
                    for one in lines:
                        self.wfile.write(b"* " + one + b"\r\n")
                    self.wfile.write(f"{tag} {result.decode()} done\r\n".encode())

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
            server.daemon_threads = True
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def answer(self, command: str) -> list[bytes] | None:
        """Return the untagged lines and the result; None closes the connection."""
        verb, _, rest = command.removeprefix("UID ").partition(" ")
        known = {
            "CAPABILITY": lambda _: [b"CAPABILITY IMAP4rev1", b"OK"],
            "LOGIN": self._login,
            "SELECT": self._select,
            "SEARCH": self._search,
            "FETCH": self._fetch,
            "STORE": self._store,
        }
        return known[verb](rest) if verb in known else [b"BAD"]

    def _login(self, rest: str) -> list[bytes]:
        return [b"OK" if rest == f'bounces@harbour.example "{self.password}"' else b"NO"]

    def _select(self, rest: str) -> list[bytes]:
        is_known = rest == f'"{self.folder}"'
        return [b"%d EXISTS" % len(self.messages), b"OK"] if is_known else [b"NO"]

    def _search(self, rest: str) -> list[bytes]:
        assert rest == "UNSEEN"
        unseen = [uid for uid in range(1, len(self.messages) + 1) if uid not in self.seen]
        return [b"SEARCH " + b" ".join(b"%d" % uid for uid in unseen), b"OK"]

    def _fetch(self, rest: str) -> list[bytes]:
        found = re.fullmatch(r"(\d+) \(BODY\.PEEK\[\]<0\.(\d+)>\)", rest)
        assert found
        uid = int(found[1])
        body = self.messages[uid - 1][: int(found[2])]
        return [b"%d FETCH (UID %d BODY[]<0> {%d}\r\n%s)" % (uid, uid, len(body), body), b"OK"]

    def _store(self, rest: str) -> list[bytes] | None:
        found = re.fullmatch(r"([\d,]+) \+FLAGS\.SILENT \(\\Seen\)", rest)
        assert found
        if self.fail_next_store:
            self.fail_next_store = False
            return None
        self.seen |= {int(uid) for uid in found[1].split(",")}
        return [b"OK"]
