"""Sources → records → references matched → one graph of segments, with a report of everything that was found or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graphkv.edges import DERIVED, POLICIES, with_policies
from graphkv.errors import DocumentError, InputError, one_of
from graphkv.graph import Edge, SegmentGraph
from graphkv.importers.formats import FORMATS
from graphkv.importers.gather import Found, Progress, gather
from graphkv.importers.match import Catalogue, merged, same_work, stub, unique
from graphkv.importers.parts import Part, parts_of
from graphkv.importers.reading import MAX_BYTES, Reading
from graphkv.importers.record import Link, Record, Reference
from graphkv.importers.report import BuildReport, PaperCount, Unresolved
from graphkv.segments import Segment

References = Literal["all", "matched"]


@dataclass(frozen=True)
class Build:
    """A graph and what there is to tell about how it came."""

    graph: SegmentGraph
    report: BuildReport


def build_graph(
    sources: str | Path | Sequence[str | Path],
    *,
    format: str | None = None,
    sections: bool = True,
    references: References = "all",
    edges: Sequence[str] | None = None,
    reverse: bool = False,
    edge_pairs: Sequence[tuple[str, str]] = (),
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> Build:
    """Make one graph of files and folders.

    A cited work's head (title and abstract) is read by each section that cites it; the edge's weight is the number of times it does.

    Args:
        sources: files and folders of any of :data:`graphkv.importers.formats.FORMATS`, mixed as you like; records of one work are merged.
        format: what the files are, where their endings do not say.
        sections: a segment for each section; False makes one segment of a record.
        references: ``all`` also makes a segment of the printed entry of each work that is not among the sources; ``matched`` does not.
        edges: names of :data:`graphkv.edges.POLICIES`. Without them: every edge that was found, and sections read the head of their paper.
        reverse: edges of graph files run from the reader to what is read (citing → cited).
        edge_pairs: for LangChain documents, ``(metadata field, metadata field or "$id")``.
        max_bytes: larger files and longer lines are refused.
        progress: called with (files read, files to read).

    Raises:
        DocumentError: a source is missing or unusable, or nothing usable is in any of them. InputError: an unknown format, policy or setting.

    Example:
        >>> build = build_graph("papers")  # doctest: +SKIP
        >>> print(build.graph, build.report)  # doctest: +SKIP
    """
    paths = [Path(s) for s in ([sources] if isinstance(sources, str | Path) else sources)]
    if not paths:
        raise InputError("no sources: name at least one file or folder")
    reading = Reading(max_bytes=max_bytes, reverse=reverse, edge_pairs=tuple(edge_pairs))
    items = gather(paths, reading, format=format, progress=progress)
    return build_records(items, reading, sections=sections, references=references, edges=edges, what=", ".join(map(str, paths)))


def build_records(
    items: Iterable[Found],
    reading: Reading | None = None,
    *,
    sections: bool = True,
    references: References = "all",
    edges: Sequence[str] | None = None,
    what: str = "the records",
) -> Build:
    """Make one graph of records and links, from wherever they come; see :func:`build_graph`.

    Args:
        items: each with its place, in which names mean what is there first. reading: what it skipped and noted is reported.
        what: what the items are, for the message that there are none.

    Raises:
        DocumentError: there are no records. InputError: an unknown setting or policy.

    Example:
        >>> from graphkv.importers.record import Section
        >>> build_records([Found(Record("a", sections=(Section("", "Text."),))), Found(Link("a", "a"))]).graph.edges
        (('a', 'a'),)
    """
    if references not in ("all", "matched"):
        raise InputError(one_of("setting of references", references, ("all", "matched")))
    for name in edges or ():
        if name not in POLICIES:
            raise InputError(one_of("edge policy", name, POLICIES))
    reading = reading or Reading()
    builder = _Builder(reading)
    builder.take(items)
    if not builder.catalogue.records:
        reasons = [f"{s.where}: {s.reason}" for s in (*reading.skipped, *reading.notes)[:3]]
        if builder.links:
            reasons.insert(0, f"{len(builder.links):,} edges, but no texts: name the folder or the table of their ends too")
        why = "; ".join(reasons) or "no file of a known format"
        raise DocumentError(f"no documents in {what} ({why}); expected at least one file of {', '.join(FORMATS)}")
    return builder.build(sections, references, edges)


class _Builder:
    def __init__(self, reading: Reading) -> None:
        self.catalogue = Catalogue()
        self.links: list[Found] = []
        self.reading = reading
        self.report = BuildReport(skipped=reading.skipped, notes=reading.notes)
        self._places: dict[str, tuple[str, str]] = {}
        """Where the references of each record stand: in them names mean what is in the same file or folder first."""
        self._texts: dict[str, dict[int, str]] = {}
        """For each id that records had when they came: what became of each text, by its hash."""
        self._renamed: dict[tuple[str, str], list[str]] = {}

    def take(self, items: Iterable[Found]) -> None:
        """Records into the catalogue: the same work once, another work under another id."""
        for found in items:
            if isinstance(found.item, Link):
                self.links.append(found)
            else:
                self._take(found.item, (found.file, found.folder))
        for (id, where), names in self._renamed.items():
            self.reading.note(where, f"{len(names):,} more records have the id {id!r}; they are called {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}")

    def _take(self, record: Record, places: tuple[str, str]) -> None:
        came = record.id
        texts = self._texts.setdefault(came, {})
        text = hash((record.abstract, record.sections))
        before = self.catalogue.records.get(texts.get(text, came))
        if before is not None and text not in texts and not _one(before, record):
            record = record.renamed(self._free(came, places, before))
            self._renamed.setdefault((came, places[0] or record.where), []).append(record.id)
            before = None
        before = before or self.catalogue.same(record)
        if before is None:
            self.catalogue.add(record)
        else:
            self._merge(before, record)
        id = record.id if before is None else before.id
        texts[text] = id
        if self.catalogue.records[id].references is record.references:
            self._places[id] = places
        for place in places:
            self.catalogue.own(place, came, id)

    def _free(self, id: str, places: tuple[str, str], before: Record) -> str:
        """Another id for a record of another text: in its folder's name if it comes from another one, else with a number."""
        elsewhere = f"{Path(places[1]).name}/{id}"
        if self._places.get(before.id, places)[1] != places[1] and elsewhere not in self.catalogue.records:
            return elsewhere
        number = max(2, len(self._texts[id]) + 1)
        name = f"{id} ({number})"
        return name if name not in self.catalogue.records else unique(name, self.catalogue.records)

    def _merge(self, before: Record, record: Record) -> None:
        """Two records of one work as one; a text that is left out is noted."""
        self.report.merged += 1
        one = merged(before, record)
        if before.size and record.size and (before.abstract, before.sections) != (record.abstract, record.sections):
            lost = record if one.sections is before.sections and one.abstract == before.abstract else before
            kept = before if lost is record else record
            self.reading.note(lost.where or lost.id, f"is the same work as {kept.where or kept.id} (called {before.id!r}), whose fuller text is kept")
        self.catalogue.add(one)

    def build(self, sections: bool, references: References, policies: Sequence[str] | None) -> Build:
        given = list(self.catalogue.records.values())
        meant = {record.id: self._match(record, references) for record in given}
        parts = {record.id: parts_of(record, sections=sections, taken=self.catalogue.records) for record in self.catalogue.records.values()}
        anchors = {f"{id}#{anchor}": part.id for id, found in parts.items() for part in found for anchor in part.anchors}
        found = _Edges(self.reading)
        cited: dict[str, list[dict[str, object]]] = {}
        for record in given:
            self._cite(record, meant[record.id], parts[record.id], anchors, found, cited)
        for place in self.links:
            if isinstance(place.item, Link):
                self._link(place.item, (place.file, place.folder), found)
        self._note_lost(found, policies)
        for id, of in parts.items():
            for part in of[1:]:
                found.add_missing(id, part.id, "section_of")
        segments = [_segment(part, self.catalogue.records[id], cited) for id, of in parts.items() for part in of]
        graph = SegmentGraph(segments, found.edges())
        if policies is not None:
            graph = with_policies(graph, policies)
        self.report.count(graph)
        return Build(graph, self.report)

    def _note_lost(self, found: _Edges, policies: Sequence[str] | None) -> None:
        """Edges of the data that no policy will take, because they are called like computed ones."""
        named = Counter(edge.kind for edge in found.edges() if edge.kind in DERIVED and edge.kind not in (policies or ()))
        if named and policies and "cites" in policies:
            kinds = ", ".join(f"{count} {kind}" for kind, count in named.items())
            self.reading.note("--edges", f"edges of kinds that policies compute are not taken for citations and are left out: {kinds}")

    def _match(self, record: Record, references: References) -> dict[str, list[tuple[Reference, Record]]]:
        """For each key of a record, the records that it means; works that are known from their entry only become records."""
        meant: dict[str, list[tuple[Reference, Record]]] = {}
        matched = 0
        lost: set[str] = set()
        for reference in record.references:
            found = self.catalogue.find(reference, record.id, self._places.get(record.id, ()))
            if found is not None:
                records, how = found
                if len(records) > 1 and not (reference.target or "").startswith("link:"):
                    self.reading.note(record.where or record.id, f"{reference.target!r} could mean {', '.join(r.id for r in records)}; the first is taken")
                    records = records[:1]
                meant[reference.key] = [(reference, r) for r in records]
                if records[0].where == _ENTRY:
                    self.report.outside += 1
                else:
                    matched += 1
                    self.report.matched[how] += 1
                continue
            if reference.target is not None and not reference.title and not reference.text:
                lost.add(reference.key)
                self.report.unresolved.append(Unresolved(record.where or record.id, reference.target, "no record of this name among the sources"))
            elif references == "all" and (reference.title or reference.text.strip()):
                entry = stub(reference, self._entry_id(record, reference), _ENTRY)
                self.catalogue.add(entry)
                self.report.entries += 1
                self.report.outside += 1
                meant[reference.key] = [(reference, entry)]
            else:
                name = reference.title or reference.text or reference.key
                self.report.unmatched.append(Unresolved(record.where or record.id, name, "the work is not among the sources"))
        resolved = {r.key for r in record.references if r.key not in lost}
        citations = [c.key for section in record.sections for c in section.citations]
        for key in citations:
            entry_of_key = self.catalogue.records.get(key)
            if key not in resolved and entry_of_key is not None and entry_of_key.role == "reference":  # its .bib is another source
                meant[key] = [(Reference(key), entry_of_key)]
                resolved.add(key)
        for key in citations:
            if key not in resolved and key not in lost:
                self.report.unresolved.append(Unresolved(record.where or record.id, key, "cited in the text, but not in the bibliography"))
        count = PaperCount(record.id, record.where, len(record.sections), len(record.references), matched, len(citations), sum(key in resolved for key in citations))
        self.report.papers.append(count)
        return meant

    def _entry_id(self, record: Record, reference: Reference) -> str:
        known = f"doi:{reference.doi}" if reference.doi else f"arxiv:{reference.arxiv}" if reference.arxiv else f"{record.id}:{reference.key}"
        return unique(known, self.catalogue.records)

    def _cite(
        self,
        record: Record,
        meant: dict[str, list[tuple[Reference, Record]]],
        parts: list[Part],
        anchors: dict[str, str],
        found: _Edges,
        cited: dict[str, list[dict[str, object]]],
    ) -> None:
        """The edges from what a record cites to the segments that cite it; what is cited nowhere in the text is read by the head."""
        mentioned = set()
        for part in parts:
            for citation in part.citations:
                place: dict[str, object] = {"start": citation.start, "end": citation.end, "key": citation.key}
                for reference, work in meant.get(citation.key, ()):
                    source = _place(reference, work, anchors)
                    found.add(source, part.id, reference.kind, 1.0 if reference.weight is None else reference.weight)
                    place["source"] = source
                    mentioned.add(citation.key)
                cited.setdefault(part.id, []).append(place)
        for key, works in meant.items():
            for reference, work in works if key not in mentioned else ():
                found.add(_place(reference, work, anchors), record.id, reference.kind, reference.weight, own=reference.target == record.id)

    def _link(self, link: Link, places: tuple[str, str], found: _Edges) -> None:
        ends = []
        for name in (link.source, link.target):
            records = self.catalogue.named(name, places)
            if not records:
                self.report.unresolved.append(Unresolved(link.where or "edge", f"{link.source} → {link.target}", f"no record {name!r} among the sources"))
                return
            if len(records) > 1:
                self.reading.note(link.where or "edge", f"{name!r} could mean {', '.join(r.id for r in records[:5])}; the first is taken")
            ends.append(records[0].id)
        found.add(ends[0], ends[1], link.kind, link.weight, own=True)


_ENTRY = "known from its entry in a bibliography"
"""Where records stand that were made of an entry."""


def _one(a: Record, b: Record) -> bool:
    """Whether two records with one id are one work: same identifiers, or the same text, or one of them has none."""
    return not a.size or not b.size or (a.abstract, a.sections) == (b.abstract, b.sections) or (a.role != "document" and same_work(a, b))


def _place(reference: Reference, work: Record, anchors: dict[str, str]) -> str:
    """The segment that a reference means: a section if it names one, or else the head."""
    anchor = (reference.target or "").partition("#")[2]
    return anchors.get(f"{work.id}#{anchor}", work.id)


def _segment(part: Part, record: Record, cited: dict[str, list[dict[str, object]]]) -> Segment:
    metadata = {**part.metadata, "citations": cited[part.id]} if part.id in cited else part.metadata
    return Segment(part.id, text=part.text, title=part.title or None, score=record.score, metadata=metadata)


class _Edges:
    """Edges as they are found: a further mention adds to the weight; of two kinds between the same two the first stays, and that is noted."""

    def __init__(self, reading: Reading) -> None:
        self._found: dict[tuple[str, str], Edge] = {}
        self._reading = reading

    def add(self, source: str, target: str, kind: str | None, weight: float | None, *, own: bool = False) -> None:
        """Take an edge in. `own`: a segment may read itself; a citation of oneself is none."""
        if source == target and not own:
            return
        kind = kind or None
        before = self._found.get((source, target))
        if before is not None:
            if kind and before.kind and kind != before.kind:
                self._reading.note(f"edge {source!r} → {target!r}", f"is of two kinds, {before.kind!r} and {kind!r}; the first stays")
                return
            known = [w for w in (before.weight, weight) if w is not None]
            kind, weight = before.kind or kind, sum(known) if known else None
        self._found[source, target] = Edge(source, target, kind=kind, weight=weight)

    def add_missing(self, source: str, target: str, kind: str) -> None:
        """An edge where there is none yet."""
        self._found.setdefault((source, target), Edge(source, target, kind=kind))

    def edges(self) -> Iterable[Edge]:
        return self._found.values()
