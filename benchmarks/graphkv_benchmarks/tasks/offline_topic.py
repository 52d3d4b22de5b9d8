"""A small invented citation network in the formats of Cora and of Pubmed: topic classification without a download."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from graphkv.errors import InputError, check_count, one_of

from . import topic_cora, topic_pubmed
from .made_set import make_set

_WORDS = {
    "Case_Based": (
        "retrieved precedents",
        "adaptation of old solutions",
        "a library of past episodes",
        "similarity indexing",
        "reuse of plans",
        "analogical retrieval",
    ),
    "Genetic_Algorithms": ("crossover", "mutation rates", "a population of bit strings", "fitness landscapes", "tournament selection", "evolved schemata"),
    "Neural_Networks": ("hidden units", "backpropagation", "sigmoid activations", "recurrent connections", "weight decay", "a perceptron layer"),
    "Probabilistic_Methods": (
        "Bayesian priors",
        "belief propagation",
        "Markov chain sampling",
        "posterior densities",
        "latent mixtures",
        "conditional independence",
    ),
    "Reinforcement_Learning": ("delayed rewards", "temporal differences", "a Markov decision policy", "value iteration", "exploring agents", "Q values"),
    "Rule_Learning": (
        "inductive logic programs",
        "Horn clauses",
        "covering algorithms",
        "if-then conditions",
        "pruned decision lists",
        "first-order background knowledge",
    ),
    "Theory": ("sample complexity", "mistake bounds", "PAC guarantees", "VC dimension", "learnable concept families", "worst-case adversaries"),
    "1": ("streptozotocin rats", "alloxan-treated mice", "pancreatic islets in vitro", "an animal model", "Wistar rats", "knockout mice"),
    "2": ("autoimmune destruction", "islet cell antibodies", "HLA haplotypes", "juvenile onset", "children on insulin pumps", "newly diagnosed adolescents"),
    "3": ("insulin resistance", "obesity", "metformin therapy", "adult onset", "a sedentary lifestyle", "body mass index"),
}
"""What papers of a class speak of, by the label as the release writes it; no phrase holds a class's name."""

_SENTENCES = (
    "We study {0} together with {1}.",
    "Earlier work relied on {0}; here {1} does better.",
    "Experiments with {0} show the part that {1} plays.",
    "The results suggest that {0} explains {1}.",
    "Our account of {0} needs no more than {1}.",
)
_STEMS = ("Maple", "Harbour", "Lantern", "Cinder", "Willow", "Granite", "Heron", "Saffron", "Juniper", "Copper", "Thistle", "Marlow")


def write_offline_topic(folder: str | Path, set: str, papers: int = 60, seed: int = 1) -> Path:
    """Write the set, whole or not at all; offline.json in it says how it was made, and the same set is left as it is.

    A paper speaks of its class in four of five phrases and cites one to four earlier papers, nine of ten times of its own class, so that a
    reader of the neighbours has an advantage.

    Args:
        folder: where to. set: ``cora`` or ``pubmed``: whose files and classes. papers: how many. seed: same seed, same bytes.

    Raises:
        InputError: an unknown set, no number of papers, or a folder that holds something else.

    Example:
        >>> write_offline_topic("run/data", "cora")  # doctest: +SKIP
        PosixPath('run/data')
    """
    check_count("papers", papers)
    if set not in ("cora", "pubmed"):
        raise InputError(one_of("set", set, ("cora", "pubmed")))
    made = {"made_by": f"graphkv bench offline topic-{set}", "version": 1, "papers": papers, "seed": seed}

    def write(place: Path) -> dict[str, Any]:
        invented = _invent(topic_cora.CLASSES if set == "cora" else topic_pubmed.CLASSES, papers, random.Random(seed))
        (_write_cora if set == "cora" else _write_pubmed)(place, invented, seed)
        return {}

    make_set(Path(folder), made, write)
    return Path(folder)


class _Made:
    """An invented paper."""

    def __init__(self, id: str, label: str, title: str, abstract: str, cites: list[str]) -> None:
        self.id, self.label, self.title, self.abstract, self.cites = id, label, title, abstract, cites


def _invent(classes: dict[str, str], count: int, dice: random.Random) -> list[_Made]:
    labels = [list(classes)[i % len(classes)] for i in range(count)]
    dice.shuffle(labels)
    made: list[_Made] = []
    for number, label in enumerate(labels):
        same, others = [p.id for p in made if p.label == label], [p.id for p in made if p.label != label]
        cites: dict[str, None] = {}
        for _ in range(dice.randint(1, 4)):
            pool = same if same and dice.random() < 0.9 else others
            if pool:
                cites[dice.choice(pool)] = None
        strange = [other for other in classes if other != label]

        def phrase(label: str = label, strange: list[str] = strange) -> str:
            return dice.choice(_WORDS[label if dice.random() < 0.8 else dice.choice(strange)])

        title = f"The {dice.choice(_STEMS)} {dice.choice(_STEMS)} Study {number + 1}: {dice.choice(_WORDS[label])}"
        abstract = " ".join(dice.choice(_SENTENCES).format(phrase(), phrase()) for _ in range(4))
        made.append(_Made(str(1000 + 7 * number), label, title, abstract, list(cites)))
    return made


def _write_cora(folder: Path, made: list[_Made], seed: int) -> None:
    dice = random.Random(seed + 1)
    texts = folder / "mccallum" / "cora"
    (texts / "extractions").mkdir(parents=True)
    words = {paper.id: "\t".join(str(dice.randint(0, 1)) for _ in range(20)) for paper in made}
    _lines(folder / "cora.content", [f"{paper.id}\t{words[paper.id]}\t{paper.label}" for paper in made])
    _lines(folder / "cora.cites", [f"{cited}\t{paper.id}" for paper in made for cited in paper.cites])
    names = {paper.id: f"http:##example.org#papers#{paper.id}.ps" for paper in made}
    _lines(texts / "papers", [f"{paper.id}\t{names[paper.id]}\t<title> {paper.title} </title>" for paper in made])
    for paper in made:
        extraction = [f"URL: {names[paper.id]}", f"Title: {paper.title}", "Author: Nobody", f"Abstract: {paper.abstract}"]
        _lines(texts / "extractions" / names[paper.id].replace(":", "_"), extraction)


def _write_pubmed(folder: Path, made: list[_Made], seed: int) -> None:
    data = folder / "data"
    data.mkdir()
    nodes = [f"{paper.id}\tlabel={paper.label}\tw-rat=0.1\tsummary=w-rat" for paper in made]
    pairs = [(paper.id, cited) for paper in made for cited in paper.cites]
    cites = [f"{i}\tpaper:{citing}\t|\tpaper:{cited}" for i, (citing, cited) in enumerate(pairs)]
    _lines(data / "Pubmed-Diabetes.NODE.paper.tab", ["NODE\tpaper", "cat=1,2,3:label\tnumeric:w-rat:0.0\tstring:summary", *nodes])
    _lines(data / "Pubmed-Diabetes.DIRECTED.cites.tab", ["DIRECTED\tcites", "NO_FEATURES", *cites])
    records = [{"PMID": paper.id, "TI": paper.title, "AB": paper.abstract} for paper in made]
    (folder / "pubmed.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def _lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
