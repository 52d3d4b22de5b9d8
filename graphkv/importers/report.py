"""What a build found, matched, and left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from graphkv.graph import SegmentGraph
from graphkv.importers.reading import Skipped


@dataclass(frozen=True)
class PaperCount:
    """The numbers of one record.

    Attributes:
        references: entries of its bibliography, or links. matched: of these, those whose work is among the sources.
        citations: places in its text that name a reference. resolved: of these, those whose reference it has.
    """

    id: str
    where: str
    sections: int
    references: int
    matched: int
    citations: int
    resolved: int


@dataclass(frozen=True)
class Unresolved:
    """A citation or link that leads nowhere: where it stands, what it says, and what is missing."""

    where: str
    name: str
    reason: str


@dataclass
class BuildReport:
    """Everything there is to tell about a build; nothing is left out in silence.

    Attributes:
        papers: a line a record. matched: references found among the sources, by how: ``name``, ``doi``, ``arxiv``, ``title``.
        entries: works known from bibliographies only that became segments of their printed entry, and `outside` the references to them;
            `unmatched` lists references to works that are neither.
        merged: records that were the same work as another. unresolved: citations and links that lead nowhere.
        skipped: what could not be used. notes: what was not taken as it stood.
        segments: by role. edges: by kind.
    """

    papers: list[PaperCount] = field(default_factory=list)
    matched: Counter[str] = field(default_factory=Counter)
    entries: int = 0
    outside: int = 0
    unmatched: list[Unresolved] = field(default_factory=list)
    merged: int = 0
    unresolved: list[Unresolved] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Skipped] = field(default_factory=list)
    segments: Counter[str] = field(default_factory=Counter)
    edges: Counter[str] = field(default_factory=Counter)

    def total(self, name: str) -> int:
        """One number of :class:`PaperCount` over all records, for example ``total("citations")``."""
        return sum(int(getattr(paper, name)) for paper in self.papers)

    def count(self, graph: SegmentGraph) -> None:
        """Count the segments and edges of the graph that was made."""
        self.segments = Counter(str(s.metadata.get("role", "document")) for s in graph)
        self.edges = Counter(edge.kind or "without a kind" for edge in graph.edges)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        totals = {name: self.total(name) for name in ("sections", "references", "matched", "citations", "resolved")}
        return {"totals": {"records": len(self.papers)} | totals, **asdict(self), "matched": dict(self.matched), "segments": dict(self.segments), "edges": dict(self.edges)}

    def __str__(self) -> str:
        """The numbers on a few lines."""
        by = ", ".join(f"{count} by {'DOI' if how == 'doi' else 'arXiv id' if how == 'arxiv' else how}" for how, count in self.matched.most_common())
        lines = [
            f"{plural(len(self.papers), 'record')}{f' ({self.merged:,} more of works that are in there)' if self.merged else ''}: "
            + _counted(self.segments, "segment") + "; " + _counted(self.edges, "edge"),
        ]
        if references := self.total("references"):
            matched = self.total("matched")
            led = [f"{matched:,} to records of the sources{f' ({by})' if by else ''}"]
            if self.outside:
                led.append(f"{self.outside:,} to {plural(self.entries, 'work')} that became segments of their printed entry")
            if self.unmatched:
                led.append(f"{len(self.unmatched):,} to works that are not among the sources")
            if nowhere := references - matched - self.outside - len(self.unmatched):
                led.append(f"{nowhere:,} unresolved")
            lines.append(f"{plural(references, 'reference or link', 'references and links')}: {', '.join(led)}")
        if citations := self.total("citations"):
            lines.append(f"{plural(citations, 'in-text citation')}: {self.total('resolved'):,} resolved")
        lines += [f"{len(found):,} {name}" for name, found in (("unresolved", self.unresolved), ("skipped", self.skipped), ("notes", self.notes)) if found]
        return "\n".join(lines)


def plural(count: int, one: str, several: str | None = None) -> str:
    """A number with its noun.

    Example:
        >>> plural(1, "edge"), plural(2000, "edge")
        ('1 edge', '2,000 edges')
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def _counted(counts: Counter[str], name: str) -> str:
    parts = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    return f"{plural(counts.total(), name)}{f' ({parts})' if parts else ''}"
