"""Every error that graphkv raises on purpose.

::

    GraphKVError
    ├── InputError (ValueError)     what was passed in cannot be used
    │   ├── DocumentError           a row, document or segment: empty, doubled, malformed
    │   ├── GraphError              the graph: unknown source, cycle in topological mode, no nodes
    │   ├── LayoutError             an unknown layout, or an option the layout does not have
    │   ├── LengthError             something does not fit the model's window
    │   └── KernelError             an unknown kernel, or one that cannot run here
    ├── ModelError                  the checkpoint: missing, unreadable
    │   └── UnsupportedModelError   a feature of the model that cannot be served (no rope, MLA, sliding window ...)
    ├── StoreError                  the store: no room, not writable, another version, not a store
    ├── BusyError                   the queue of questions is full, or takes no more
    └── CancelledError              the caller gave the question up

    StoreWarning (UserWarning)      an answer was had all the same: a damaged entry was encoded again, or nothing could be kept

Each message says what was expected, what came, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable


class GraphKVError(Exception):
    """Root of the tree: ``except GraphKVError`` catches everything that graphkv raises on purpose."""


class InputError(GraphKVError, ValueError):
    """What was passed in cannot be used."""


class DocumentError(InputError):
    """A row, document or segment is empty, doubled or malformed."""


class GraphError(InputError):
    """The graph itself is wrong: an unknown source, a cycle where none may be, no nodes at all."""


class LayoutError(InputError):
    """An unknown layout, or an option that the layout does not have."""


class LengthError(InputError):
    """A segment, the context or the question does not fit into the model's window."""


class KernelError(InputError):
    """An unknown attention kernel, or one that cannot do what was asked or cannot run on this machine."""


class ModelError(GraphKVError):
    """The checkpoint is missing or cannot be read."""


class UnsupportedModelError(ModelError):
    """The model has a feature that graphkv cannot serve; named before any work is done."""


class StoreError(GraphKVError):
    """The store cannot do what was asked: no room, not writable, of another version, or not a store at all."""


class BusyError(GraphKVError):
    """The queue of questions is full, or (`closing`) takes no more; `retry_after` is how many seconds it is likely to take until there is room."""

    def __init__(self, message: str, *, retry_after: float = 1.0, closing: bool = False) -> None:
        super().__init__(message)
        self.retry_after, self.closing = retry_after, closing


class CancelledError(GraphKVError):
    """The caller gave the question up before it was answered."""


class StoreWarning(UserWarning):
    """The answer is right, but the store could not help: a damaged entry was encoded again, or a block could not be kept."""


def one_of(kind: str, got: object, valid: Iterable[object]) -> str:
    """The message for a name that is not known: ``unknown layout 'grpah'; valid: ape, block, ...``."""
    return f"unknown {kind} {got!r}; valid: {', '.join(sorted(str(v) for v in valid))}"


def check_count(name: str, value: object, error: type[InputError] = InputError) -> None:
    """Raises `error` unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise error(f"{name} must be a whole number of at least 1, got {value!r}")
