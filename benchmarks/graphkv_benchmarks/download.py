"""Fetching the released data sets from the Hugging Face Hub: the folders of a set, one pinned commit, every byte checked.

No checksum is shipped with this code: the Hub could not be reached where it was written. What is checked is what the Hub itself states
for the commit (the SHA-256 of a large file, git's blob hash of a small one); from the first download on, `graphkv_download.json` beside
the files holds the commit and the SHA-256 of every file, and a repeat or ``verify`` goes by that. For the same reason folders are named
here, not files: whatever lies in them comes.

Several runs may write into one folder. Each fetches into a `.graphkv_download-*` of its own, which goes when it ends (only a killed process
leaves it), and reads the record again whenever it writes it.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from graphkv.errors import InputError, one_of

RECORD = "graphkv_download.json"
_STAGING = ".graphkv_download-"
_LOCK_SECONDS = 10.0
_GRAPHKV = "Graph-COM/GraphKV"


@dataclass(frozen=True)
class Source:
    """Where a set lies on the Hub.

    Attributes:
        repo: of a data set. patterns: of file names in it, ``*`` also over folders. layout: what is expected below the folder, for messages.
    """

    repo: str
    patterns: tuple[str, ...]
    layout: str


def _rows(folder: str, files: str, *further: str) -> Source:
    return Source(_GRAPHKV, (f"datahub/rag/{folder}/*", *further), f"datahub/rag/{folder}/{files}")


_RAG = {
    "nq": _rows("nq_eval", "dataset (JSON Lines)"),
    "2wiki": _rows("2wiki_dev", "dataset (JSON Lines)"),
    "tqa": _rows("tqa_eval", "dataset (JSON Lines)"),
    "hotpotqa": _rows("hqa_eval", "dataset (JSON Lines)"),
    "multihop-rag": _rows("multihopqa", "GIST-large-Embedding-v0_retrieval_test.json"),
    # the second pattern is where the official code looks for it
    "morehopqa": _rows("morehopqa", "with_human_verification_ascend.jsonl", "datahub/morehopqa/*"),
}
SOURCES: Mapping[str, Source] = {
    "arxiv-qa": Source(
        _GRAPHKV,
        ("datahub/arxiv/*",),
        "datahub/arxiv/questions/1.txt to 60.txt, datahub/arxiv/answers/1.txt to 60.txt, datahub/arxiv/text_data/<id>.json",
    ),
    "rag": Source(_GRAPHKV, tuple(pattern for source in _RAG.values() for pattern in source.patterns), ", ".join(source.layout for source in _RAG.values())),
    **_RAG,
    "longbench-v2": Source("THUDM/LongBench-v2", ("data.json",), "data.json"),
}
"""The sets by the names of `graphkv bench`; ``rag`` is all of Graph-KV's RAG sets at once."""


@dataclass(frozen=True)
class Downloaded:
    """What lies in a folder, every file checked.

    Attributes:
        set, repo, revision: which commit (40 hex digits) of what. folder: where. files, bytes: how much. fetched: how many of the files came just now.
    """

    set: str
    repo: str
    revision: str
    folder: str
    files: int
    bytes: int
    fetched: int


@dataclass(frozen=True)
class _File:
    """A file as the Hub states it: its size, and the SHA-256 of its bytes or git's hash of them."""

    size: int
    sha256: str | None
    blob: str | None


def download(set: str, to: str | Path, *, revision: str | None = None, endpoint: str | None = None) -> Downloaded:
    """Fetch a set, or what is missing of it. Each file is checked before it lands; one that is there already is checked and left.

    Args:
        set: a name of :data:`SOURCES`. to: the folder; the repository's own paths are kept below it.
        revision: a branch, tag or commit; without it the commit that the folder holds, else the newest. endpoint: of a mirror; else that of huggingface_hub.

    Raises:
        InputError: an unknown set, huggingface_hub is not installed, the Hub cannot be reached or does not have it, a file is not what the Hub states or was
            changed since, the folder holds another commit or cannot be written.

    Example:
        >>> download("nq", "data").files  # doctest: +SKIP
        1
    """
    source, folder = _source(set), Path(to)
    record = _read_record(folder)
    entry = record.get(set)
    if entry is not None and entry["complete"] and revision in (None, entry["revision"]):
        missing = _check(set, folder, entry["files"])
        if not missing:
            return _downloaded(set, folder, entry, 0)
    known = next((other["revision"] for other in record.values() if other["repo"] == source.repo), None)
    commit, files = _listing(source, folder, revision or known, endpoint)
    _same_commit(record, source.repo, commit, folder, revision)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [name for name, file in files.items() if not _is_there(folder / name, file, source.repo)]
        with _recording(folder) as record:
            _same_commit(record, source.repo, commit, folder, revision)  # another run may have begun meanwhile
            record.setdefault(set, {"repo": source.repo, "revision": commit, "complete": False, "files": {}})
        _fetch(set, source, commit, folder, {name: files[name] for name in wanted}, endpoint)
        sums = {name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)} for name in sorted(files)}
        entry = {"repo": source.repo, "revision": commit, "complete": True, "files": sums}
        with _recording(folder) as record:
            record[set] = entry
    return _downloaded(set, folder, entry, len(wanted))


def verify(set: str, to: str | Path, *, revision: str | None = None) -> Downloaded:
    """Check what was downloaded against its record; nothing is fetched, no network is needed.

    Args:
        revision: the commit that it must be, 7 of its digits at least. A branch or a tag cannot be looked up here.

    Raises:
        InputError: there is no record, it is of another commit, or files are missing or changed (they are named).
    """
    _source(set)
    folder = Path(to)
    entry = _read_record(folder).get(set)
    again = f"run `graphkv bench download {set} --to {folder}`"
    if entry is None or not entry["complete"]:
        raise InputError(f"{folder} has no whole download of {set} (by its {RECORD}): {again} first")
    if revision is not None and (len(revision) < 7 or not entry["revision"].startswith(revision.lower())):
        raise InputError(
            f"{folder} holds {set} of commit {entry['revision']}, expected {revision!r}: give a commit (7 digits or more), "
            "as a branch or tag cannot be looked up without the Hub"
        )
    if missing := _check(set, folder, entry["files"]):
        raise InputError(f"{folder}: {len(missing)} of {len(entry['files'])} files of {set} are missing: {_some(missing)}; {again} to fetch them")
    return _downloaded(set, folder, entry, 0)


def _source(set: str) -> Source:
    if set in ("cora", "pubmed"):
        from .tasks import topic_cora, topic_pubmed

        raise InputError(f"{set} is not on the Hub: expected are {(topic_cora if set == 'cora' else topic_pubmed).EXPECTED}")
    if set not in SOURCES:
        raise InputError(one_of("set", set, SOURCES))
    return SOURCES[set]


def _downloaded(set: str, folder: Path, entry: Mapping[str, Any], fetched: int) -> Downloaded:
    return Downloaded(set, entry["repo"], entry["revision"], str(folder), len(entry["files"]), sum(file["bytes"] for file in entry["files"].values()), fetched)


# The record and what it says of the files ----------------------------------------------------------------------------


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        needed = {"repo", "revision", "complete", "files"}
        whole = all(needed <= entry.keys() and all(_is_stated(file) for file in entry["files"].values()) for entry in found.values())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise InputError(f"{path} cannot be read or is not the record of a download: delete it to have the files checked against the Hub again")
    return dict(found)


def _is_stated(file: Mapping[str, Any]) -> bool:
    return isinstance(file["bytes"], int) and isinstance(file["sha256"], str) if {"bytes", "sha256"} <= file.keys() else False


@contextmanager
def _recording(folder: Path) -> Iterator[dict[str, Any]]:
    """The record as it is now, alone with it for a moment: what is changed in it is written at the end."""
    lock, until = folder / f".{RECORD}.lock", time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if time.monotonic() > until:
                raise InputError(f"{lock} has been there for {_LOCK_SECONDS:g} s, and is needed for a moment only: a killed run left it; delete it") from None
            time.sleep(0.02)
    try:
        record = _read_record(folder)
        yield record
        part = folder / f".{RECORD}.part"
        part.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(folder / RECORD)
    finally:
        lock.unlink(missing_ok=True)


def _same_commit(record: Mapping[str, Any], repo: str, commit: str, folder: Path, revision: str | None) -> None:
    """Raises InputError if the folder holds something of the repository at another commit."""
    for name, entry in record.items():
        if entry["repo"] == repo and entry["revision"] != commit:
            raise InputError(
                f"{folder} holds {name} of commit {entry['revision']}, and {revision or 'the newest'} is {commit}: expected one commit of {repo} a folder; "
                "give another --to, or no --revision"
            )


def _check(set: str, folder: Path, files: Mapping[str, Any]) -> list[str]:
    """The files that are missing. Raises InputError for files that are not what they were."""
    missing, changed = [], []
    for name, stated in files.items():
        path = folder / name
        if not path.is_file():
            missing.append(name)
        elif path.stat().st_size != stated["bytes"] or _sha256(path) != stated["sha256"]:
            changed.append(name)
    if changed:
        again = f"run `graphkv bench download {set} --to {folder}`"
        raise InputError(f"{folder}: changed since the download of {set}: {_some(changed)}; delete what is named and {again} to fetch it anew")
    return missing


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is(path: Path, stated: _File) -> bool:
    """Whether a file is what the Hub states."""
    size = path.stat().st_size
    if size != stated.size:
        return False
    if stated.sha256 is not None:
        return _sha256(path) == stated.sha256
    found = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            found.update(chunk)
    return found.hexdigest() == stated.blob


def _is_there(path: Path, stated: _File, repo: str) -> bool:
    if not path.exists():
        return False
    if not path.is_file() or not _is(path, stated):
        raise InputError(
            f"{path} is there already and is not the file of {repo}: expected {stated.size:,} bytes with the Hub's checksum; move it away, or give another --to"
        )
    return True


# The Hub -------------------------------------------------------------------------------------------------------------


def _listing(source: Source, folder: Path, revision: str | None, endpoint: str | None) -> tuple[str, dict[str, _File]]:
    """The commit, and the files of the set in it."""
    with _asking(source, folder, revision, endpoint):
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=endpoint)
        commit = api.dataset_info(source.repo, revision=revision).sha
        if commit is None:
            raise InputError(f"the Hub names no commit for {source.repo} at {revision or 'main'}: try again with --revision and a commit")
        entries = [entry for entry in api.list_repo_tree(source.repo, recursive=True, revision=commit, repo_type="dataset") if isinstance(entry, RepoFile)]
    files = {
        entry.path: _File(entry.size, entry.lfs.sha256 if entry.lfs else None, None if entry.lfs else entry.blob_id)
        for entry in entries
        if any(fnmatch.fnmatchcase(entry.path, pattern) for pattern in source.patterns)
    }
    if not files:
        there = _some(sorted(entry.path for entry in entries))
        raise InputError(f"{source.repo} at {commit} has no {' or '.join(source.patterns)}: expected {source.layout}; it has {there}")
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InputError(f"{source.repo} at {commit} names a file {name!r}, which would lie outside {folder}: not fetched")
    return commit, files


def _fetch(set: str, source: Source, commit: str, folder: Path, files: Mapping[str, _File], endpoint: str | None) -> None:
    """Into a folder beside, checked, then to their places; when something stops it, the files that have come whole are kept."""
    if not files:
        return
    staging = Path(tempfile.mkdtemp(prefix=f"{_STAGING}{set}-", dir=folder))
    damaged: list[str] = []
    try:
        try:
            with _asking(source, folder, commit, endpoint, fetching=True):
                from huggingface_hub import snapshot_download

                # A name may hold a bracket, which is a pattern: then its neighbours may come too, and are thrown away with the folder.
                patterns = [name.replace("[", "?").replace("]", "?") for name in files]
                snapshot_download(source.repo, repo_type="dataset", revision=commit, local_dir=staging, allow_patterns=patterns, endpoint=endpoint)
        finally:
            for name, stated in files.items():
                if (staging / name).is_file() and not _is(staging / name, stated):
                    damaged.append(name)
                elif (staging / name).is_file():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (staging / name).replace(folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if damaged:
        size = f"{files[damaged[0]].size:,} bytes"
        raise InputError(f"{damaged[0]} came damaged: expected {size} with the checksum that {source.repo} states at {commit}; run the command again")
    if lost := [name for name in files if not (folder / name).is_file()]:
        raise InputError(f"{_some(lost)} of {source.repo} did not come: run the command again")


@contextmanager
def _asking(source: Source, folder: Path, revision: str | None, endpoint: str | None, *, fetching: bool = False) -> Iterator[None]:
    """What huggingface_hub raises, as one clear error; `fetching` files, or asking what there is."""
    try:
        from huggingface_hub import errors
    except ImportError:
        raise InputError("downloads need huggingface_hub: pip install 'graphkv[bench]'") from None
    # Its HTTP library differs by version; its own HTTP error derives from that library's, as the library's failed connections do.
    theirs = [base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError" and issubclass(base, Exception)]
    unreachable: tuple[type[Exception], ...] = (ConnectionError, TimeoutError, errors.LocalEntryNotFoundError, *theirs)
    # hf_xet, which fetches large files, has no errors of its own: a lost connection is a RuntimeError.
    unreachable += (RuntimeError,) if fetching else ()
    # What comes of an answer that is not the Hub's: no JSON, or JSON without what belongs there.
    strange: tuple[type[Exception], ...] = () if fetching else (ValueError, KeyError, TypeError, AttributeError)
    at = f"https://huggingface.co/datasets/{source.repo}"
    try:
        yield
    except InputError:
        raise
    except errors.RevisionNotFoundError:
        raise InputError(f"{source.repo} has no revision {revision!r}: expected a branch, a tag or a commit of {at}") from None
    except errors.GatedRepoError:
        raise InputError(f"{source.repo} asks for its terms to be accepted: do so at {at}, then log in with `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"the Hub has no data set {source.repo}, or none that may be seen without `hf auth login`") from None
    except errors.HfHubHTTPError as error:
        raise InputError(f"the Hub did not give {source.repo}: {_one_line(error)}") from None
    except unreachable as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):  # what the library makes of an answer that is no file
            raise InputError(f"the Hub did not give {source.repo}: {_one_line(error.__cause__)}") from None
        raise InputError(_offline(source, folder, revision, endpoint, f"cannot be reached for {source.repo} ({_one_line(error)})")) from None
    except strange as error:
        what = f"answers something that is not the Hub's ({_one_line(error)}); is a login page of the network in between?"
        raise InputError(_offline(source, folder, revision, endpoint, what)) from None


def _offline(source: Source, folder: Path, revision: str | None, endpoint: str | None, what: str) -> str:
    from huggingface_hub.constants import ENDPOINT

    patterns = " ".join(f'--include "{pattern}"' for pattern in source.patterns)
    elsewhere = f"hf download {source.repo} --repo-type dataset --revision {revision or 'main'} {patterns} --local-dir {folder}"
    return (
        f"{endpoint or ENDPOINT} {what}. Expected below {folder}: {source.layout}. "
        f"Where there is a connection, `{elsewhere}` fetches it; copy the folder here. `graphkv bench offline` makes sets that need no download"
    )


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"no room in {folder}: the files that have come whole are kept; make room and run the command again") from None
        if error.errno is None:  # not the system's: a file came in another size than was said, for example
            raise InputError(f"the download into {folder} failed ({_one_line(error)}): run the command again") from None
        raise InputError(f"{error.filename or folder} cannot be written: {os.strerror(error.errno)}; give another --to, or mend its permissions") from None
