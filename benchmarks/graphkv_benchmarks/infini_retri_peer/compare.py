"""Do both keep the same sentences? If not, where do they part and why."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Decode = Callable[[Sequence[int]], str]

STRIPPED = "blank stripped"
RETOKENISED = "tokenised again"
SPLIT = "split again"
ROUNDING = "same tokens"

CAUSES = {
    STRIPPED: "the peer strips the text of every window, and with it the blank in front of the first sentence it kept, which becomes other tokens",
    RETOKENISED: "the peer decodes what it kept and tokenises it again: other tokens came out elsewhere than at the front",
    SPLIT: "the peer cuts what it kept into sentences again: it found others at a joint",
    ROUNDING: "both read the same tokens: weights that are equal but for rounding lie around the last of the best tokens",
}


@dataclass(frozen=True)
class Difference:
    """The first window in which the two part: its number, what differs before it, and an example of it."""

    window: int
    cause: str
    peer: str = ""
    ours: str = ""


def source_numbers(windows: Sequence[dict[str, Any]]) -> list[list[int]]:
    """What the peer kept after each window, in numbers of the `fresh` sentences of all windows; what cannot be found again is negative.

    Example:
        >>> first = {"fresh": [[1], [2], [3]], "sentences": [[1], [2], [3]], "kept": [0, 2]}
        >>> second = {"fresh": [[4]], "sentences": [[1], [3], [4]], "kept": [1, 2]}
        >>> source_numbers([first, second])
        [[0, 2], [2, 3]]
    """
    kept: list[int] = []
    steps: list[list[int]] = []
    fresh: list[tuple[int, ...]] = []
    for window in windows:
        expected = [*kept, *range(len(fresh), len(fresh) + len(window["fresh"]))]
        fresh += [tuple(sentence) for sentence in window["fresh"]]
        if len(window["sentences"]) == len(expected):
            numbers = expected
        else:
            numbers = [-1 - place for place in range(len(window["sentences"]))]
            known = [fresh[n] if n >= 0 else () for n in expected]
            matcher = difflib.SequenceMatcher(None, known, [tuple(s) for s in window["sentences"]], autojunk=False)
            for block in matcher.get_matching_blocks():
                numbers[block.b : block.b + block.size] = expected[block.a : block.a + block.size]
        kept = [numbers[place] for place in window["kept"]]
        steps.append(kept)
    return steps


def first_difference(windows: Sequence[dict[str, Any]], peer: Sequence[Sequence[int]], ours: Sequence[Sequence[int]], decode: Decode) -> Difference | None:
    """Where the two part, None if they keep the same after every window; up to there they kept the same, so what differs in what they read is the cause."""
    fresh = [sentence for window in windows for sentence in window["fresh"]]
    before: list[int] = []
    seen = 0
    for number, (window, theirs, mine) in enumerate(zip(windows, peer, ours, strict=True)):
        here = [*before, *range(seen, seen + len(window["fresh"]))]
        seen += len(window["fresh"])
        if set(theirs) != set(mine):
            read, meant = window["sentences"], [fresh[n] for n in here]
            if len(read) != len(meant):
                return Difference(number, SPLIT)
            apart = [place for place, (a, b) in enumerate(zip(read, meant, strict=True)) if a != b]
            if not apart:
                return Difference(number, ROUNDING)
            a, b = decode(read[apart[0]]), decode(meant[apart[0]])
            return Difference(number, STRIPPED if apart == [0] and a.strip() == b.strip() and a != b else RETOKENISED, a, b)
        before = list(theirs)
    return None


def agreement(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> dict[str, float | int]:
    """Kept sentences of (peer, ours) a case: `shared` is the sum of the intersections over the sum of the unions, `same` the share of cases alike.

    Example:
        >>> agreement([([1, 2], [1, 2]), ([1, 2], [2, 3])])["shared"]
        0.6
    """
    both = sum(len(set(a) & set(b)) for a, b in pairs)
    either = sum(len(set(a) | set(b)) for a, b in pairs)
    same = sum(set(a) == set(b) for a, b in pairs)
    return {
        "cases": len(pairs),
        "peer": sum(len(set(a)) for a, _ in pairs),
        "ours": sum(len(set(b)) for _, b in pairs),
        "both": both,
        "shared": round(both / either, 4) if either else 1.0,
        "same": round(same / len(pairs), 4) if pairs else 1.0,
    }


def compare(peer_rows: Sequence[dict[str, Any]], our_rows: Sequence[dict[str, Any]], decode: Decode) -> dict[str, Any]:
    """The agreement of all cases.

    Returns:
        ``alone``: :func:`agreement` of what is kept at the end, each going its own way over the same windows. ``led``: windows in which the same was
        chosen when both read exactly the same tokens. ``causes``: how often which. ``differences``: one for each case that is not alike.
    """
    pairs, differences = [], []
    windows_alike = windows_all = 0
    for peer, ours in zip(peer_rows, our_rows, strict=True):
        windows = peer["windows"]
        steps = source_numbers(windows)
        pairs.append((steps[-1], ours["alone"]["kept"][-1]))
        for window, chosen in zip(windows, ours["led"], strict=True):
            windows_all += 1
            windows_alike += window["kept"] == chosen
        parted = first_difference(windows, steps, ours["alone"]["kept"], decode)
        if parted is not None:
            a, b = set(steps[-1]), set(ours["alone"]["kept"][-1])
            differences.append({"id": peer["id"], "windows": len(windows), **asdict(parted), "only_peer": len(a - b), "only_ours": len(b - a), "both": len(a & b)})
    return {
        "alone": agreement(pairs),
        "led": {"windows": windows_all, "same": round(windows_alike / windows_all, 4) if windows_all else 1.0},
        "causes": dict(Counter(d["cause"] for d in differences)),
        "differences": differences,
    }
