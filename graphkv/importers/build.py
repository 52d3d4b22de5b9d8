"""Sources → records → references matched → one graph of segments, with a report of everything that was found or left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graphkv.edges import POLICIES, with_policies
from graphkv.errors import DocumentError, InputError, one_of
from graphkv.graph import Edge, SegmentGraph
from graphkv.importers.formats import FORMATS
from graphkv.importers.gather import Progress, gather
from graphkv.importers.match import Catalogue, merged, same_work, stub, unique
from graphkv.importers.parts import Part, parts_of
from graphkv.importers.reading import MAX_BYTES, Reading
from graphkv.importers.record import Item, Link, Record, Reference
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
    leave_out: Sequence[Path] = (),
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
        max_bytes: larger files and longer lines are refused. leave_out: files in the folders that are not read.
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
    items = gather(paths, reading, format=format, leave_out=leave_out, progress=progress)
    return build_records(items, reading, sections=sections, references=references, edges=edges, what=", ".join(map(str, paths)))


def build_records(
    items: Iterable[tuple[str, Item]],
    reading: Reading | None = None,
    *,
    sections: bool = True,
    references: References = "all",
    edges: Sequence[str] | None = None,
    what: str = "the records",
) -> Build:
    """Make one graph of records and links, from wherever they come; see :func:`build_graph`.

    Args:
        items: each with the name of its source, which tells records of one id apart. reading: what it skipped and noted is reported.
        what: what the items are, for the message that there are none.

    Raises:
        DocumentError: there are no records. InputError: an unknown setting or policy.

    Example:
        >>> from graphkv.importers.record import Section
        >>> build_records([("mine", Record("a", sections=(Section("", "Text."),))), ("mine", Link("a", "a"))]).graph.edges
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
        why = "; ".join(f"{s.where}: {s.reason}" for s in reading.skipped[:3]) or "no file of a known format"
        raise DocumentError(f"no documents in {what} ({why}); expected at least one file of {', '.join(FORMATS)}")
    return builder.build(sections, references, edges)


class _Builder:
    def __init__(self, reading: Reading) -> None:
        self.catalogue = Catalogue()
        self.links: list[Link] = []
        self._called: dict[str, list[str]] = {}
        """What became of the records that had an id when they came."""
        self.reading = reading
        self.report = BuildReport(skipped=reading.skipped, notes=reading.notes)

    def take(self, items: Iterable[tuple[str, Item]]) -> None:
        """Records into the catalogue: the same work once, another work under another id."""
        for folder, item in items:
            if isinstance(item, Link):
                self.links.append(item)
                continue
            taken = [item.id] if item.id in self.catalogue.records else []
            named = [self.catalogue.records[id] for id in self._called.get(item.id, taken)]
            before = next((record for record in named if _one(record, item)), None)
            called = self._called.setdefault(item.id, [])
            if before is None and named:
                elsewhere = f"{folder}/{item.id}"
                in_one_file = named[0].where.partition(", ")[0] == item.where.partition(", ")[0]
                name = unique(item.id, self.catalogue.records) if in_one_file or elsewhere in self.catalogue.records else elsewhere
                self.reading.note(item.where or name, f"the id {item.id!r} is taken by {named[0].where or 'another record'}; this one is called {name!r}")
                item = item.renamed(name)
            before = before or self.catalogue.same(item)
            called.append(item.id if before is None else before.id)
            if before is None:
                self.catalogue.add(item)
            else:
                self.report.merged += 1
                self.catalogue.add(merged(before, item))

    def build(self, sections: bool, references: References, policies: Sequence[str] | None) -> Build:
        given = list(self.catalogue.records.values())
        meant = {record.id: self._match(record, references) for record in given}
        parts = {record.id: parts_of(record, sections=sections, taken=self.catalogue.records) for record in self.catalogue.records.values()}
        anchors = {f"{id}#{anchor}": part.id for id, found in parts.items() for part in found for anchor in part.anchors}
        found = _Edges()
        cited: dict[str, list[dict[str, object]]] = {}
        for record in given:
            self._cite(record, meant[record.id], parts[record.id], anchors, found, cited)
        for link in self.links:
            self._link(link, found)
        for id, of in parts.items():
            for part in of[1:]:
                found.add(id, part.id, "section_of", None)
        segments = [_segment(part, self.catalogue.records[id], cited) for id, of in parts.items() for part in of]
        graph = SegmentGraph(segments, found.edges())
        if policies is not None:
            graph = with_policies(graph, policies)
        self.report.count(graph)
        return Build(graph, self.report)

    def _match(self, record: Record, references: References) -> dict[str, list[tuple[Reference, Record]]]:
        """For each key of a record, the records that it means; works that are known from their entry only become records."""
        meant: dict[str, list[tuple[Reference, Record]]] = {}
        matched = 0
        for reference in record.references:
            found = self.catalogue.find(reference, near=record.id)
            if found is not None:
                records, how = found
                if len(records) > 1 and not (reference.target or "").startswith("link:"):
                    self.reading.note(record.where or record.id, f"{reference.target!r} could mean {', '.join(r.id for r in records)}; the first is taken")
                    records = records[:1]
                meant[reference.key] = [(reference, r) for r in records]
                if records[0].where != _ENTRY:
                    matched += 1
                    self.report.matched[how] += 1
                continue
            if reference.target is not None and not reference.title and not reference.text:
                self.report.unresolved.append(Unresolved(record.where or record.id, reference.target, "no record of this name among the sources"))
            elif references == "all" and (reference.title or reference.text.strip()):
                entry = stub(reference, self._entry_id(record, reference), _ENTRY)
                self.catalogue.add(entry)
                self.report.entries += 1
                meant[reference.key] = [(reference, entry)]
            else:
                name = reference.title or reference.text or reference.key
                self.report.unmatched.append(Unresolved(record.where or record.id, name, "the work is not among the sources"))
        resolved = {r.key for r in record.references}
        citations = [c.key for section in record.sections for c in section.citations]
        for key in citations:
            entry_of_key = self.catalogue.records.get(key)
            if key not in resolved and entry_of_key is not None and entry_of_key.role == "reference":  # its .bib is another source
                meant[key] = [(Reference(key), entry_of_key)]
                resolved.add(key)
        for key in citations:
            if key not in resolved:
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

    def _link(self, link: Link, found: _Edges) -> None:
        ends = []
        for name in (link.source, link.target):
            records = self.catalogue.named(name)
            if not records:
                self.report.unresolved.append(Unresolved(link.where or "edge", f"{link.source} → {link.target}", f"no record {name!r} among the sources"))
                return
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
    """Edges as they are found: a further mention adds to the weight."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Edge] = {}

    def add(self, source: str, target: str, kind: str | None, weight: float | None, *, own: bool = False) -> None:
        """Take an edge in. `own`: a segment may read itself; a citation of oneself is none."""
        if source == target and not own:
            return
        before = self._found.get((source, target))
        if before is not None and before.weight is not None and weight is not None:
            weight, kind = before.weight + weight, before.kind
        self._found[source, target] = Edge(source, target, kind=kind or None, weight=weight)

    def edges(self) -> Iterable[Edge]:
        return self._found.values()
