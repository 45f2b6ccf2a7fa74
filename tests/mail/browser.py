"""A headless Chromium over its debugging pipe: one process, any width, light or dark, no driver needed."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import POLLIN, poll
from time import monotonic
from typing import Any, BinaryIO

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")
ANSWER_SECONDS = 60
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
    "--disable-lcd-text",
    "--remote-debugging-pipe",
)

# Chromium reads from descriptor 3 and writes to 4. They are copied first, because one may be the other.
_LAUNCH = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(commands, 3), os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a running Chromium. https://chromedevtools.github.io/devtools-protocol/"""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands, self._answers = commands, answers
        self._poll = poll()  # select cannot watch a descriptor above 1023
        self._poll.register(answers, POLLIN)
        self._last, self._session, self._rest = 0, "", b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.frame = self.call("Page.getFrameTree")["frameTree"]["frame"]["id"]

    def show(self, html: str, *, width: int, dark: bool) -> None:
        """Show ``html``, ``width`` CSS pixels wide, in dark or light mode."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._resize(width, 400)
        self.call("Page.setDocumentContent", frameId=self.frame, html=html)
        self.evaluate("document.fonts.ready.then(() => true)")
        self._resize(
            width, int(self.evaluate("Math.ceil(document.documentElement.getBoundingClientRect().height)"))
        )

    def evaluate(self, script: str) -> Any:
        """Return the value of ``script`` in the page, as JSON."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """Return the page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to one command of the protocol."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._read()).get("id") != self._last:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": max(height, 1), "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def _read(self) -> dict[str, Any]:
        until = monotonic() + ANSWER_SECONDS
        while b"\0" not in self._rest:
            ready = self._poll.poll(max(0.0, until - monotonic()) * 1000)
            assert ready, f"the browser sent nothing for {ANSWER_SECONDS} s"
            chunk = os.read(self._answers.fileno(), 1 << 20)
            assert chunk, "the browser has ended"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def open_browser(path: str, home: Path) -> Iterator[Browser]:
    """Yield a page of a new Chromium, whose profile is under ``home``; it ends with the block."""
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    arguments = [path, *FLAGS, f"--user-data-dir={home / 'profile'}", "about:blank"]
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(their_in), str(their_out), *arguments],
        pass_fds=(their_in, their_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "HOME": str(home)},
    )
    os.close(their_in)
    os.close(their_out)
    try:
        with os.fdopen(our_out, "wb") as commands, os.fdopen(our_in, "rb", buffering=0) as answers:
            yield Browser(commands, answers)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
