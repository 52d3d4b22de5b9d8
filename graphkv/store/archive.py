"""Blocks in one tar file, to carry them to another machine. Each is checked on the way out and on the way in."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from graphkv.errors import InputError, StoreError
from graphkv.store.entry import DamagedEntry, check
from graphkv.store.folder import SUFFIX, Folder

Progress = Callable[[int, int], None]

_NAME = re.compile(r"([0-9a-f]{16,128})" + re.escape(SUFFIX))


def export_blocks(folder: Folder, keys: Sequence[str], path: Path, progress: Progress | None = None) -> int:
    """Write blocks into a new tar file, whole or not at all. Returns how many (one that is evicted meanwhile is left out).

    Raises:
        StoreError: a block is damaged, or the file cannot be written. InputError: the file exists.
    """
    if path.exists():
        raise InputError(f"{path} exists: choose another name, or delete it")
    temporary, written = path.with_name(f".{path.name}.{os.getpid()}.part"), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(temporary, "w") as tar:
            for number, key in enumerate(keys, start=1):
                data = folder.read(key)
                if data is None:
                    continue  # evicted meanwhile
                check(data, key)
                member = tarfile.TarInfo(f"{key}{SUFFIX}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                written += 1
                if progress:
                    progress(number, len(keys))
        temporary.replace(path)
    except DamagedEntry as error:
        raise StoreError(f"the block {key[:12]} is damaged ({error}): graphkv cache verify --remove takes it out") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # there may be none, and no folder for it
            temporary.unlink()
    return written


def import_blocks(folder: Folder, path: Path, progress: Progress | None = None) -> tuple[int, int]:
    """Put the blocks of a tar file into a store; each is checked before it is visible.

    Returns:
        How many came in, and how many were there already.

    Raises:
        InputError: not a tar file of blocks. StoreError: a block in it is damaged (those before it are in), or there is no room.
    """
    came = known = 0
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
            for number, member in enumerate(members, start=1):
                match = _NAME.fullmatch(member.name)
                if match is None or not member.isreg() or member.issparse() or not 0 < member.size <= size:
                    raise InputError(f"{path} holds {member.name!r}: expected blocks of graphkv cache export, named <key>{SUFFIX}")
                if match[1] in folder and folder.damage(match[1]) is None:
                    known += 1
                else:
                    file = tar.extractfile(member)
                    data = file.read() if file else b""
                    check(data, match[1])
                    folder.write(match[1], data)
                    came += 1
                if progress:
                    progress(number, len(members))
    except DamagedEntry as error:
        raise StoreError(f"the block {member.name[:12]} in {path} is damaged ({error}); {came} blocks before it came in") from None
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{path} cannot be read as a tar file: {error}") from error
    return came, known
