"""Whole files under one folder: read, written at once, listed. Locally by memory maps and renames, elsewhere through fsspec.

A reader never locks: a file is either the old one or the new one. Paths are made of keys and fixed names, so they stay in the folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from graphkv.errors import InputError, StoreError

_POPULATE_READ = 22  # MADV_POPULATE_READ, Linux 5.14: one call instead of a fault a page
Mapper = Callable[[str, int], Any]
"""From a path and a size to a buffer over the mapped file."""
_ATOMIC = frozenset({"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"})
"""File systems whose whole-file write is all or nothing, and whose rename is a copy."""


def populate(address: int, size: int) -> None:
    """Read a mapping's pages now, in one call instead of a fault a page. Raises OSError if the disk fails, which would be a signal later on."""
    madvise = _madvise()
    if madvise is None:
        return  # no such call here: pages come one by one
    if madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _POPULATE_READ) != 0 and ctypes.get_errno() in (errno.EFAULT, errno.EIO, getattr(errno, "EHWPOISON", 133)):
        raise OSError(errno.EIO, "the disk cannot read the file")


@functools.cache
def _madvise() -> Any | None:
    """libc's madvise, looked up once: opening the library takes longer than mapping a small file."""
    try:
        return ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError, TypeError):
        return None


class Found:
    """A file in a listing: path under the folder, bytes, and when it was last written or used."""

    __slots__ = ("name", "size", "used")

    def __init__(self, name: str, size: int, used: float) -> None:
        self.name, self.size, self.used = name, size, used


class Files(Protocol):
    """What a store needs of a file system. Names are relative, with ``/``. OSErrors come through."""

    place: str

    def read(self, name: str) -> Any | None:
        """The whole file as a buffer that is never changed under its reader; None if there is none."""

    def head(self, name: str, size: int) -> bytes | None:
        """The first bytes; None if there is no file."""

    def write(self, name: str, data: Any) -> None:
        """The whole file or nothing: a reader, or a kill, sees the old one or the new one."""

    def remove(self, name: str) -> bool:
        """False if there was none."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    def touch(self, name: str) -> None:
        """Mark as used now, where that can be done."""

    def walk(self, folder: str) -> Iterator[Found]:
        """All files in and under a folder."""

    def sweep(self, older_than: float) -> int:
        """Remove what killed writers left, if it is that many seconds old. Returns how many files."""

    def others(self) -> list[str]:
        """Names directly in the folder."""


class LocalFiles:
    """A local folder."""

    def __init__(self, folder: Path, mapper: Mapper | None = None) -> None:
        self.mapper = mapper
        try:
            self.folder = folder.expanduser().absolute()
            is_file = self.folder.exists() and not self.folder.is_dir()
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(f"the store {folder} cannot be opened: {error}") from error
        self.place = str(self.folder)
        if is_file:
            raise StoreError(f"the store {self.folder} is a file: expected a folder, or a name where one can be made")

    def _path(self, name: str) -> str:
        return f"{self.place}/{name}"

    def read(self, name: str) -> Any | None:
        try:
            fd = os.open(self._path(name), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            size = os.fstat(fd).st_size
            if size == 0:
                return b""
            # A private map: whoever writes to a tensor writes to a copy of the page, never to the file.
            if self.mapper is not None:
                try:
                    return self.mapper(self._path(name), size)
                except RuntimeError as error:  # torch's word for a file that went away, or became shorter, since it was opened above
                    if not self.exists(name):
                        return None  # evicted this very moment
                    raise OSError(errno.EIO, f"the file could not be mapped: {error}") from error
            mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
        finally:
            os.close(fd)
        return mapped

    def head(self, name: str, size: int) -> bytes | None:
        try:
            fd = os.open(self._path(name), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return os.read(fd, size)
        finally:
            os.close(fd)

    def write(self, name: str, data: Any) -> None:
        # No fsync: after a power cut a file may be cut or empty, and the checksum tells.
        path = self._path(name)
        temporary = self._path(f"tmp/{os.getpid()}-{secrets.token_hex(8)}")
        try:
            fd = self._create(temporary)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            try:
                os.replace(temporary, path)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.replace(temporary, path)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise

    def _create(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            if not self.folder.exists():
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                self.folder.mkdir(mode=0o700, exist_ok=True)  # the documents' texts can be read off their token ids
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, flags, 0o666)

    def remove(self, name: str) -> bool:
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            return False
        return True

    def exists(self, name: str) -> bool:
        return os.path.isfile(self._path(name))

    def touch(self, name: str) -> None:
        os.utime(self._path(name))

    def walk(self, folder: str) -> Iterator[Found]:
        try:
            with os.scandir(self._path(folder)) as listing:
                items = sorted(listing, key=lambda item: item.name)
        except FileNotFoundError:
            return
        for item in items:
            if item.is_dir(follow_symlinks=False):
                yield from self.walk(f"{folder}/{item.name}")
                continue
            try:
                about = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # evicted meanwhile
            yield Found(f"{folder}/{item.name}", about.st_size, about.st_mtime)

    def sweep(self, older_than: float) -> int:
        old = [f for f in self.walk("tmp") if f.used < time.time() - older_than]
        return sum(self.remove(f.name) for f in old)

    def others(self) -> list[str]:
        try:
            return os.listdir(self.place)
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Each cloud's library has errors of its own (no credentials, no route): all become OSErrors, which the store words."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class RemoteFiles:
    """Any file system of fsspec."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        from fsspec.core import url_to_fs

        try:
            with _as_os_error():  # network and credentials, and ImportError for a package that is missing
                self.fs, self.root = url_to_fs(url, **options)
        except OSError as error:
            raise StoreError(f"the store {url!r} cannot be opened: {error}") from error
        self.place = url.rstrip("/")
        self.root = self.root.rstrip("/")
        protocols = {self.fs.protocol} if isinstance(self.fs.protocol, str) else set(self.fs.protocol)
        self.atomic = bool(protocols & _ATOMIC)
        try:
            is_file = self._is_file(self.root)
        except OSError as error:
            raise StoreError(f"the store {url!r} cannot be opened: {error}") from error
        if is_file:
            raise StoreError(f"the store {url} is a file: expected a folder, or a name where one can be made")

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    @_as_os_error()
    def read(self, name: str) -> Any | None:
        try:
            return bytearray(self.fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    @_as_os_error()
    def head(self, name: str, size: int) -> bytes | None:
        try:
            return bytes(self.fs.cat_file(self._path(name), start=0, end=size))
        except FileNotFoundError:
            return None

    @_as_os_error()
    def write(self, name: str, data: Any) -> None:
        path = self._path(name)
        if self.atomic:
            self.fs.pipe_file(path, bytes(data))
            return
        temporary = self._path(f"tmp/{os.getpid()}-{secrets.token_hex(8)}")
        self.fs.makedirs(self._path("tmp"), exist_ok=True)
        try:
            self.fs.pipe_file(temporary, bytes(data))
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.fs.mv(temporary, path)
        except BaseException:
            if self.fs.exists(temporary):
                self.fs.rm_file(temporary)
            raise

    @_as_os_error()
    def remove(self, name: str) -> bool:
        try:
            self.fs.rm_file(self._path(name))
        except FileNotFoundError:
            return False
        return True

    @_as_os_error()
    def exists(self, name: str) -> bool:
        return self._is_file(self._path(name))

    @_as_os_error()
    def _is_file(self, path: str) -> bool:
        """Not by fsspec's own isfile(), which takes every error for a no."""
        self.fs.invalidate_cache()
        try:
            return bool(self.fs.info(path).get("type") == "file")
        except FileNotFoundError:
            return False

    def touch(self, name: str) -> None:
        """An object store has no time of use: there, what was written first goes first."""

    def walk(self, folder: str) -> Iterator[Found]:
        try:
            with _as_os_error():
                self.fs.invalidate_cache()
                found = self.fs.find(self._path(folder), detail=True)
        except FileNotFoundError:
            return
        for path, about in sorted(found.items()):
            yield Found(path[len(self.root) + 1 :] if path.startswith(f"{self.root}/") else path, int(about.get("size") or 0), _written(about))

    def sweep(self, older_than: float) -> int:
        if self.atomic:
            return 0
        old = [f for f in self.walk("tmp") if f.used < time.time() - older_than]
        return sum(self.remove(f.name) for f in old)

    @_as_os_error()
    def others(self) -> list[str]:
        self.fs.invalidate_cache()
        try:
            return [str(path).rstrip("/").rpartition("/")[2] for path in self.fs.ls(self.root, detail=False)]
        except FileNotFoundError:
            return []


def _written(about: dict[str, Any]) -> float:
    """When a file was written, by whatever name its file system has for that."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value: Any = about.get(name)
        if isinstance(value, int | float):
            return float(value)
        if hasattr(value, "timestamp"):
            return float(value.timestamp())
    return 0.0


def files_at(place: str | os.PathLike[str], options: dict[str, Any], mapper: Mapper | None = None) -> Files:
    """The files under a folder or an fsspec address (``s3://bucket/kv``, ``memory://kv``).

    Args:
        mapper: how local files are mapped; Python's own mmap without it.

    Raises:
        StoreError: a file stands there, or fsspec lacks what the address needs. InputError: no place, or options for a local folder.
    """
    if not isinstance(place, str | os.PathLike) or not os.fspath(place):
        raise InputError(f"expected the place of a store, a folder or an address, got {place!r}")
    text = os.fspath(place)
    protocol, sep, rest = text.partition("://")
    if sep and protocol not in ("file", "local"):
        return RemoteFiles(text, options)
    if options:
        raise InputError(f"a local folder takes no options, got {', '.join(sorted(options))}")
    return LocalFiles(Path(rest if sep else text), mapper)
