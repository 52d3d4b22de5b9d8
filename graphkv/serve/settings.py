"""Settings: the limits and names of one server, checked once."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields

from graphkv.errors import InputError, check_count

KEYS = "GRAPHKV_API_KEY"
"""The environment variable that holds the keys, several separated by commas."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

_COUNTS = (
    "max_body_bytes",
    "max_held_bytes",
    "max_documents",
    "max_document_chars",
    "max_edges",
    "max_messages",
    "max_json_depth",
    "max_json_values",
    "max_new_tokens",
    "max_connections",
    "queue",
    "max_rows",
)
_SECONDS = ("request_seconds", "read_seconds", "write_seconds", "stop_seconds")


@dataclass(frozen=True)
class Settings:
    """What a server allows.

    Attributes:
        keys: API keys; without one everybody is served. model_name: the name under which the model is served.
        layout: the layout of a request that names none.
        hosts: names that a request's ``Host`` may have, ports left out; none: any. See :func:`allowed_hosts`.
        max_body_bytes: of one request. max_held_bytes: of all requests that are in work, and half of it of those under one of several keys;
            a request of up to 64 KiB is taken beyond it.
        max_documents, max_document_chars, max_edges, max_messages: in one request.
        max_json_depth, max_json_values: of a body; more would hurt its parser.
        max_new_tokens: the most that a request may ask for.
        request_seconds: a request that is not done by then is cancelled. read_seconds: a client has that long to send its request.
        write_seconds: a client that reads nothing for that long is cut off. stop_seconds: how long a stopping server waits for answers.
        max_connections: open at a time. queue: questions that wait for the model.
        max_rows: questions that are decoded at a time. context_bytes: memory for assembled contexts.

    Raises:
        InputError: a value that is none.

    Example:
        >>> Settings(request_seconds=10).max_body_bytes
        33554432
    """

    keys: tuple[str, ...] = ()
    model_name: str = "embedded"
    layout: str = "graph"
    hosts: tuple[str, ...] = ()
    max_body_bytes: int = 32 * 2**20
    max_held_bytes: int = 256 * 2**20
    max_documents: int = 2_000
    max_document_chars: int = 2_000_000
    max_edges: int = 50_000
    max_messages: int = 200
    max_json_depth: int = 64
    max_json_values: int = 1_000_000
    max_new_tokens: int = 4096
    request_seconds: float = 300.0
    read_seconds: float = 30.0
    write_seconds: float = 30.0
    stop_seconds: float = 60.0
    max_connections: int = 512
    queue: int = 256
    max_rows: int = 64
    context_bytes: int = 2**30

    def __post_init__(self) -> None:
        for name in _COUNTS:
            check_count(name, getattr(self, name))
        if isinstance(self.context_bytes, bool) or not isinstance(self.context_bytes, int) or self.context_bytes < 0:
            raise InputError(f"context_bytes must be a whole number of at least 0, got {self.context_bytes!r}")
        for name in _SECONDS:
            _check_seconds(name, getattr(self, name))
        for name in ("model_name", "layout"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 256:
                raise InputError(f"{name} must be a name of 1 to 256 printable characters, got {value!r}")
        for name in ("keys", "hosts"):
            if not isinstance(getattr(self, name), tuple) or not all(isinstance(part, str) and part for part in getattr(self, name)):
                raise InputError(f"{name} must be a tuple of texts")
        for key in self.keys:
            check_key(key)
        if self.max_held_bytes < self.max_body_bytes:
            raise InputError(f"max_held_bytes ({self.max_held_bytes:,}) must be at least max_body_bytes ({self.max_body_bytes:,})")

    def __repr__(self) -> str:
        """As a dataclass shows itself, without the keys."""
        shown = ((f.name, f"<{len(self.keys)}>" if f.name == "keys" else repr(getattr(self, f.name))) for f in fields(self))
        return f"Settings({', '.join(f'{name}={value}' for name, value in shown)})"


def keys_from_environment() -> tuple[str, ...]:
    """The keys in ``GRAPHKV_API_KEY``; none if it is not set.

    Raises:
        InputError: it is set, but holds no key, or one that cannot be sent in a header: better no server than one that is open by mistake.
    """
    text = os.environ.get(KEYS)
    if text is None:
        return ()
    keys = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not keys:
        raise InputError(f"{KEYS} is set but holds no key: unset it to serve without keys, or give it keys separated by commas")
    for key in keys:
        check_key(key)
    return keys


def check_key(key: str) -> None:
    """Raises InputError, which does not show it, unless a key can be sent in a header and is not guessed at once."""
    if re.fullmatch(r"[!-+\--~]{8,512}", key) is None:
        raise InputError(f"an API key must have 8 to 512 visible ASCII characters and no comma; one of those in {KEYS} does not")


def allowed_hosts(host: str, keys: tuple[str, ...], more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names that ``Host`` may have: any where a key is asked for or the address is public, else those of this machine and `more`.

    Without this a page of any site could reach a server on this machine through the user's browser, by a name that it has pointed here.

    Example:
        >>> allowed_hosts("127.0.0.1", ())
        ('localhost', '127.0.0.1', '::1')
        >>> allowed_hosts("127.0.0.1", ("a-key-of-some-length",))
        ()
    """
    if not more and (keys or not is_loopback(host)):
        return ()
    return tuple(dict.fromkeys((*LOOPBACK, host.lower(), *(name.lower() for name in more))))


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    import ipaddress

    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InputError(f"{name} must be a number of seconds above 0, got {value!r}")
