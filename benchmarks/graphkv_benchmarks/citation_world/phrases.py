"""The sentences of the citation world. {S} opens a sentence ("It", "This paper", the title), {O} stands inside one, {V} is a value,
{P} the paper a question is about (a title, or a phrase that leads to one)."""

from __future__ import annotations

ATTRIBUTES = ("author", "method", "dataset", "lab", "score", "year")
RELATIONS = ("builds", "compares")
NOT_FOUND = "not in the documents"

FACTS: dict[str, tuple[str, ...]] = {
    "author": (
        "{S} was written by {V}.",
        "{S} is by {V}.",
        "The author of {O} is {V}.",
        "The person who wrote {O} is {V}.",
        "{V} wrote {O}.",
        "{V} is the author of {O}.",
        "Correspondence about {O} goes to its author, {V}.",
    ),
    "method": (
        "{S} introduces {V}.",
        "{S} proposes a method called {V}.",
        "The method of {O} is {V}.",
        "The new method in {O} is named {V}.",
        "At the heart of {O} stands a method, {V}.",
        "{S} presents a new approach by the name of {V}.",
        "The approach of {O} is known as {V}.",
    ),
    "dataset": (
        "{S} is evaluated on {V}.",
        "{S} uses the dataset {V}.",
        "The dataset of {O} is {V}.",
        "The experiments of {O} use {V}.",
        "All experiments in {O} were run on the {V} data.",
        "For training and testing, {O} relies on the dataset {V}.",
        "The data for {O} come from {V}.",
    ),
    "lab": (
        "{S} comes from {V}.",
        "{S} was done at {V}.",
        "The lab behind {O} is {V}.",
        "{S} is from the lab {V}.",
        "The work on {O} took place in the {V} lab.",
        "{S} was carried out at the institute {V}.",
    ),
    "score": (
        "{S} reaches a score of {V}.",
        "{S} reports {V} points.",
        "The score of {O} is {V}.",
        "{S} scores {V}.",
        "In the main table {O} gets {V} points.",
        "The best result of {O} is {V}.",
        "With a score of {V}, {O} ends its evaluation.",
    ),
    "year": (
        "{S} was published in {V}.",
        "{S} appeared in {V}.",
        "The year of {O} is {V}.",
        "{S} came out in the year {V}.",
        "Since {V}, {O} has been available.",
        "{S} dates from {V}.",
    ),
    "builds": (
        "{S} builds on {V}.",
        "{S} extends {V}.",
        "{S} is based on {V}.",
        "The ideas of {O} build on {V}.",
        "The starting point of {O} is {V}.",
        "{S} continues the line of {V}.",
    ),
    "compares": (
        "{S} compares against {V}.",
        "{S} is compared with {V}.",
        "The baseline of {O} is {V}.",
        "As a baseline, {O} takes {V}.",
        "Results of {O} are set against {V}.",
    ),
}
"""In nearly every sentence the words that tell the attribute come before its value; an author and a year tell it themselves."""

LEADS = ("In short, ", "In this study, ", "Here, ", "As the abstract says, ", "Notably, ", "According to the text, ")
"""May stand before a sentence that opens with "this paper", "it" or a title."""

BARE_MENTIONS = (
    "the cited paper", "the earlier work", "the cited work", "the earlier paper", "earlier work", "previous work",
    "the work cited here", "the paper it cites",
)  # fmt: skip

OTHERS = ("Related work is discussed in {V}.", "See also {V}.", "A survey can be found in {V}.", "Some details follow {V}.")
"""Mentions of works that are in the reference list but not among the documents."""

ASK: dict[str, tuple[str, ...]] = {
    "author": ("Who wrote {P}?", "Who is the author of {P}?", "Tell me the author of {P}.", "By whom is {P}?"),
    "method": (
        "Which method does {P} introduce?",
        "What is the method of {P}?",
        "What method is proposed in {P}?",
        "How is the method of {P} called?",
    ),
    "dataset": (
        "Which dataset does {P} use?",
        "What is the dataset of {P}?",
        "On which dataset is {P} evaluated?",
        "What data does {P} rely on?",
    ),
    "lab": ("Which lab does {P} come from?", "What is the lab behind {P}?", "At which lab was {P} done?", "Where was {P} carried out?"),
    "score": ("What score does {P} report?", "What is the score of {P}?", "How many points does {P} get?", "Which score is reached by {P}?"),
    "year": ("When was {P} published?", "What is the year of {P}?", "In which year did {P} appear?", "Since when is {P} available?"),
    "builds": ("Which paper does {P} build on?", "Which paper is extended by {P}?", "What is {P} based on?"),
    "compares": ("Which paper does {P} compare against?", "Which paper is {P} compared with?", "What is the baseline of {P}?"),
}
VIA: dict[str, tuple[str, ...]] = {
    "builds": ("the paper that {P} builds on", "the paper extended by {P}", "the work behind {P}"),
    "compares": ("the paper that {P} compares against", "the paper that {P} is compared with", "the baseline of {P}"),
}
VIA_NESTED: dict[str, tuple[str, ...]] = {
    "builds": ("the paper extended by {P}", "the work behind {P}"),
    "compares": ("the baseline of {P}", "the paper compared with in {P}"),
}
"""Phrases that can hold another such phrase and stay readable."""

COMPARE: dict[tuple[str, bool], tuple[str, ...]] = {
    ("score", True): ("Which paper has the higher score, {A} or {B}?", "Which reports more points, {A} or {B}?"),
    ("score", False): ("Which paper has the lower score, {A} or {B}?", "Which reports fewer points, {A} or {B}?"),
    ("year", True): ("Which paper is newer, {A} or {B}?", "Which was published later, {A} or {B}?"),
    ("year", False): ("Which paper is older, {A} or {B}?", "Which was published earlier, {A} or {B}?"),
}
"""By attribute, and whether the larger value wins."""

_SUBJECTS = (
    "The literature|A long line of studies|Recent practice|The community|A careful reader|Most of the field|An early draft|The"
    " reviewer|The discussion|One open question|The introduction|A later section|The appendix|Common experience|The present"
    " setting|A small pilot study|The general picture|Much of the debate|Our understanding|The following section"
)
_VERBS = (
    "depends on|gives some room for|tells us little about|returns often to|leaves open|describes in detail|is shaped by|has grown"
    " around|is limited by|puts weight on|says nothing new about|points towards|changes with|takes for granted|needs more of|is"
    " mostly about|draws attention to|should not hide|makes use of|turns on"
)
_OBJECTS = (
    "the choice of parameters|the quality of the measurements|simple and robust tools|the cost of large experiments|practical"
    " questions of scale|the order of the steps|a number of small details|the limits of the equipment|careful and slow work|the"
    " shape of the curves|the wording of the task|the time that is available|good and open documentation|the habits of other"
    " groups|the size of the sample|an honest account of errors|the usual assumptions|the view from outside|long and repeated"
    " trials|what is known so far"
)
_TAILS = (
    "|||, as is well known|, at least in part|, and this is no surprise|, for better or worse|, which takes time|, as the figures"
    " show|, even today|, in most cases|, with few exceptions|, and rightly so|, from the first page to the last"
)
FILLER_PARTS = tuple(tuple(part.split("|")) for part in (_SUBJECTS, _VERBS, _OBJECTS, _TAILS))
"""Subject, verb, object, tail: sentences about nothing that make a document long."""

HAY = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.",
    "One of these days we will see. It is what it is. Time will tell. So it goes.",
)
"""Monotone haystacks, repeated; the first is the one of the passkey task (Mohtashami and Jaggi, 2023, arXiv 2305.16300)."""
