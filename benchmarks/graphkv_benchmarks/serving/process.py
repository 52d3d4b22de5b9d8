"""`graphkv serve` as a process of its own: started on a free port, killed, started again over the same store, and its memory read."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import httpx

from graphkv.errors import ModelError

START_SECONDS = 120.0


class Server:
    """One server and its folder, in which the store and the log lie.

    Args:
        folder: of its own. model: as ``graphkv serve --model`` takes it; none: the embedded one. more: further arguments of ``graphkv serve``.

    Example:
        >>> with Server(folder) as server:  # doctest: +SKIP
        ...     httpx.get(f"{server.url}/health").status_code
        200
    """

    def __init__(self, folder: Path, model: str | None = None, more: tuple[str, ...] = ()) -> None:
        self.folder, self.model, self.more = folder, model, more
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> float:
        """Start it, and wait until it takes questions. Returns the seconds that took.

        Raises:
            ModelError: it ended, or was not ready in time; with the end of its log.
        """
        begin, port = time.perf_counter(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-c", "from graphkv.cli import app; app()", "serve", "--port", str(port), "--store", str(self.folder / "store")]
        command += [*(("--model", self.model) if self.model else ()), *self.more]
        environment = {name: value for name, value in os.environ.items() if name != "GRAPHKV_API_KEY"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        while time.perf_counter() - begin < START_SECONDS:
            if self._process.poll() is not None:
                raise ModelError(f"the server ended at once with code {self._process.returncode}: {self.last_lines()}")
            if _is_ready(self.url):
                return time.perf_counter() - begin
            time.sleep(0.05)
        self.kill()
        raise ModelError(f"the server was not ready after {START_SECONDS:.0f} s: {self.last_lines()}")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end; it answers what it has begun."""
        self._end(signal.SIGTERM)

    def restart(self) -> float:
        """Kill it and start it over the same store. Returns the seconds until it took questions."""
        self.kill()
        return self.start()

    def memory_mb(self) -> tuple[float, float] | None:
        """MiB of its resident set: all of it, and without what is mapped from files. None where the system does not tell (not Linux), or it has ended."""
        if self._process is None:
            return None
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if name in ("VmRSS", "RssAnon")}
        return (kib["VmRSS"] / 1024, kib["RssAnon"] / 1024) if len(kib) == 2 else None

    def last_lines(self, characters: int = 600) -> str:
        """The end of its log, as one line."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return " ".join(text[-characters:].split()) or "it said nothing"

    def failures(self) -> list[str]:
        """The lines of its log that tell of a failure inside."""
        if not self.log.exists():
            return []
        return [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if '"level": "error"' in line or line.startswith("Traceback")]

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False
