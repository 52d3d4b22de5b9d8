"""The file of a RAG set: where it is looked for, and rows by byte offsets in whatever shape the file has."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from graphkv.errors import DocumentError
from graphkv_benchmarks.tasks import rag_file
from graphkv_benchmarks.tasks.rag_file import FILES, digest, find_file, places, read_row


def ids(path: Path) -> list[str]:
    return list(places(path))


def write(path: Path, content: bytes) -> Path:
    file = path / "rows"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("name", FILES)
def test_a_set_is_found_from_every_folder_above_it(tmp_path: Path, name: str) -> None:
    for number, relative in enumerate(FILES[name]):
        root = tmp_path / str(number)
        file = root / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}\n", encoding="utf-8")
        place = file
        while place != tmp_path:
            assert find_file(name, place) == file
            place = place.parent


def test_another_sets_folder_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / FILES["2wiki"][0]
    file.parent.mkdir(parents=True)
    file.write_text("{}\n", encoding="utf-8")
    for place in (file.parent, tmp_path):
        with pytest.raises(DocumentError, match=r"nq needs the file datahub/rag/nq_eval/dataset.*bench download.*bench offline rag"):
            find_file("nq", place)
    with pytest.raises(DocumentError, match="no such file or folder"):
        find_file("nq", tmp_path / "nowhere")
    own = tmp_path / "my rows"
    own.mkdir()
    (own / "dataset").write_text("{}\n", encoding="utf-8")
    assert find_file("nq", own) == own / "dataset"


def test_another_sets_file_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file by its own path too, whatever it is called; also by a relative path, and by a link, as caches of the Hub have them."""
    file = tmp_path / FILES["2wiki"][0]
    file.parent.mkdir(parents=True)
    (tmp_path / "blob").write_text("{}\n", encoding="utf-8")
    file.symlink_to(tmp_path / "blob")
    (file.parent / "part.jsonl").write_text("{}\n", encoding="utf-8")
    monkeypatch.chdir(file.parent)
    for path in (file, file.parent / "part.jsonl", Path("dataset"), file.parent / "x" / ".." / "dataset"):
        (file.parent / "x").mkdir(exist_ok=True)
        assert find_file("2wiki", path) == path
        with pytest.raises(DocumentError, match=r"lies in 2wiki_dev, the folder of the set 2wiki: ask for that set, or give --data the file of nq"):
            find_file("nq", path)
    assert find_file("nq", tmp_path / "blob") == tmp_path / "blob"


LINES = [b'{"a": "\xc3\xa9\\n"}', b'{"_id": "x", "a": 1}', b"{broken", b'{"id": 7}', '{"a": "line\u2028separator"}'.encode()]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\n  \t\n", b"\r\n\r\n"])
@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b"\n", b"\xef\xbb\xbf\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_of_every_shape(tmp_path: Path, end: bytes, head: bytes, last: bool) -> None:
    path = write(tmp_path, head + end.join(LINES) + (end if last else b""))
    found = places(path)
    assert list(found) == ["0", "x", "2", "7", "4"]
    step = end.count(b"\n")
    assert [place.line - (b"\n" in head) for place in found.values()] == [1 + step * i for i in range(5)]
    assert read_row(path, found["0"]) == {"a": "é\n"} and read_row(path, found["4"]) == {"a": "line\u2028separator"}
    with pytest.raises(DocumentError, match=rf"rows, line {found['2'].line}: not valid JSON .* expected one JSON object a row"):
        read_row(path, found["2"])


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b" \n\n"])
def test_a_list_of_every_shape(tmp_path: Path, indent: int | None, head: bytes) -> None:
    rows = [{"_id": "x", "t": 'a "quoted, [text] {'}, {"t": "\\"}, {"domain": "d", "in": [[1, {"b": "]"}], "é,"]}, {"_id": "x"}, {}]
    path = write(tmp_path, head + json.dumps(rows, indent=indent, ensure_ascii=False).encode() + b"\n")
    found = places(path)
    assert list(found) == ["x", "1", "2", "x#3", "4"] and found["2"].domain == "d" and found["1"].domain is None
    assert [read_row(path, place) for place in found.values()] == rows
    text = path.read_bytes()
    for place in found.values():
        assert place.line == text[: place.start].count(b"\n") + 1 and text[place.start : place.start + 1] == b"{"


def test_a_broken_row_in_a_list_is_one_row(tmp_path: Path) -> None:
    path = write(tmp_path, b'[{"_id": "a"},\n {"_id": oh},\n 5, "text, more", null,,\n {"_id": "b"}, ]')
    found = places(path)
    assert list(found) == ["a", "1", "2", "3", "4", "5", "b"] and found["b"].line == 4
    for id, said in (("1", "line 2: not valid JSON"), ("2", "line 3: got int"), ("3", "got str"), ("4", "got NoneType"), ("5", "not valid JSON")):
        with pytest.raises(DocumentError, match=said):
            read_row(path, found[id])


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b"\n \n"])
@pytest.mark.parametrize("first", [b"[1]", b"[]", b'[{"_id": "a"}, {"_id": "b"}]'])
def test_lines_that_begin_with_a_list(tmp_path: Path, head: bytes, first: bytes) -> None:
    """A list in the first line and rows behind it are JSON Lines with one broken row."""
    path = write(tmp_path, head + first + b' \r\n{"_id": "x"}\n\n{"a": 1}')
    found = places(path)
    assert len(found) == 3 and list(found)[1:] == ["x", "2"] and read_row(path, found["2"]) == {"a": 1}
    with pytest.raises(DocumentError, match=r"line \d: got list; expected one JSON object a row"):
        read_row(path, found[next(iter(found))])


@pytest.mark.parametrize(
    ("content", "line"),
    [(b'[{"a": 1}] {"b": 2}\n', 1), (b'[\n{"a": 1}\n]\n{"b": 2}\n', 4), (b'[{"a": 1},\n{"b": 2}]\n\n]', 4), (b'[{"a": 1}],\n{"b": 2}]', 1), (b"[[1]] [", 1)],
)
def test_nothing_behind_a_list_is_dropped(tmp_path: Path, content: bytes, line: int) -> None:
    with pytest.raises(DocumentError, match=rf"rows, line {line}: there is more behind the end of the JSON list"):
        places(write(tmp_path, content))


def test_rows_that_no_decoder_takes(tmp_path: Path) -> None:
    """Not UTF-8, nested too deep, a number too long: each is one broken row, with its number as id."""
    strange = (b'{"_id": "\xff"}', b'{"_id": ' + b"[" * 100_000, b'{"_id": ' + b"9" * 5000 + b"}", b'{"_id": true}', b'{"_id": ""}', b'{"_id": "end"}')
    path = write(tmp_path, b"\n".join(strange))
    assert ids(path) == ["0", "1", "2", "3", "4", "end"]
    for id in ("0", "1", "2"):
        with pytest.raises(DocumentError, match="expected one JSON object a row"):
            read_row(path, places(path)[id])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "holds no rows"),
        (b"[]", "holds no rows"),
        (b'[{"a": 1}, {"b"', "a JSON list that does not end"),
        (b'[{"a": "1}, {"b": 2}]', "a JSON list that does not end"),
        (b'[{"a": 1}, {"b": 2}}', "or a quotation mark or bracket too many"),
    ],
)
def test_files_without_rows(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        places(write(tmp_path, content))
    with pytest.raises(DocumentError, match="cannot be read"):
        places(tmp_path / "nowhere")


def test_ids_are_unique(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"id": "1"}\n{"id": 1}\n{"a": 0}\n{"id": "1#1"}\n{"id": 2}\n')
    found = places(path)
    assert len(found) == 5 and list(found) == ["1", "1#1", "2", "1#1#3", "2#4"]


def test_a_file_is_gone_through_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, b'{"id": "a"}\n')
    assert ids(path) == ["a"] and digest(path) == digest(path)
    before = digest(path)
    with monkeypatch.context() as patch:
        patch.setattr(rag_file, "_lines", lambda *rest: pytest.fail("gone through again"))
        assert ids(path) == ["a"]
    path.write_bytes(b'{"id": "b"}\n')
    os.utime(path, ns=(1, 1))
    assert ids(path) == ["b"] and digest(path) != before


def test_rows_with_long_lists_are_not_decoded_to_find_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = json.dumps({"question": "q", "inputs": {"input_ids": [7] * 2000}}).encode()
    path = write(tmp_path, b"\n".join([row] * 50))
    monkeypatch.setattr(rag_file, "_decoded", lambda raw: pytest.fail("decoded"))
    assert len(ids(path)) == 50
