"""Invented names, and the split that keeps training and held-out worlds apart.

A name is composed of common words (titles) or of consonant-vowel-consonant syllables (surnames, methods, datasets, labs). A stable hash
reserves one name in eight for held-out worlds, so training and evaluation share no title, surname, method, dataset or lab; single
title words, first names and syllables occur on both sides.
"""

from __future__ import annotations

import hashlib
import random

HELD_OUT_ONE_IN = 8

_TITLE_WORDS = (
    "Amber Anchor Arctic Aspen Autumn Beacon Birch Breeze Bridge Canyon Cedar Circle Cloud Comet Copper Coral Crystal Dawn Delta"
    " Desert Dune Eagle Echo Ember Falcon Feather Fern Field Flame Forest Fountain Frost Galaxy Garden Geyser Glacier Golden"
    " Granite Harvest Hazel Heron Hollow Horizon Indigo Iris Island Ivory Jade Jasper Juniper Lagoon Lantern Laurel Linden Lotus"
    " Lunar Maple Marble Meadow Meteor Mirror Mist Mountain Night Oak Ocean Olive Onyx Opal Orbit Orchid Oyster Pearl Pebble Pine"
    " Planet Pond Prairie Prism Quartz Quiet Rain Raven Reed Ridge River Ruby Saffron Sapphire Scarlet Shadow Shell Silver Sky"
    " Snow Solar Spark Spiral Spring Star Stone Storm Summit Sunset Swift Temple Thistle Thunder Tide Timber Topaz Tower Valley"
    " Velvet Violet Walnut Wave Willow Winter"
)
_FIRST_NAMES = (
    "Ada Alan Anna Ben Carl Cora Dana Dora Emil Eva Finn Gina Hugo Ida Ivan Jane Jon Kai Lara Leo Lina Max Mia Nina Nora Oskar"
    " Otto Paul Rosa Sam Sara Theo Tina Tom Uma Vera Wade Will Xena Zoe"
)
TITLE_WORDS, FIRST_NAMES = tuple(_TITLE_WORDS.split()), tuple(_FIRST_NAMES.split())
ONSETS, VOWELS, CODAS = "bdfgklmnprstvz", "aeiou", "klmnrsx"


def stable_hash(name: str) -> int:
    """The same number on every machine and in every process, which Python's own ``hash`` is not."""
    return int.from_bytes(hashlib.sha256(b"citation-world " + name.lower().encode()).digest()[:4], "big")


def _syllables() -> tuple[str, ...]:
    """Seventy consonant-vowel-consonant syllables spread evenly over the possible ones that begin no real word used here."""
    real = {word.lower()[:3] for word in (*TITLE_WORDS, *FIRST_NAMES)} | {"fuk", "fux", "sux", "kum", "pus", "kok", "sex"}
    every = [s for o in ONSETS for v in VOWELS for c in CODAS if o != c and (s := o + v + c) not in real]
    return tuple(sorted(sorted(every, key=stable_hash)[:70]))


SYLLABLES = _syllables()


def is_held_out(name: str) -> bool:
    """Whether this name may appear only in held-out worlds; the same answer on every machine."""
    return stable_hash(name) % HELD_OUT_ONE_IN == 0


class Names:
    """Draws names that are new in this world and on the wanted side of the split.

    Args:
        collide: share of invented words that begin like another word of the world.
    """

    def __init__(self, rng: random.Random, held_out: bool, collide: float) -> None:
        self.rng, self.held_out, self.collide = rng, held_out, collide
        self.used: set[str] = set()
        self.titles: list[str] = []
        self.words: list[str] = []

    def _fresh(self, name: str) -> bool:
        return name.lower() not in self.used and is_held_out(name) == self.held_out

    def title(self) -> str:
        """Two words; some titles share one of them with another title of the world."""
        while True:
            words = self.rng.sample(TITLE_WORDS, 2)
            if self.titles and self.rng.random() < 0.3:
                place = self.rng.randrange(2)
                words[place] = self.rng.choice(self.titles).split()[place]
            name = " ".join(words)
            if words[0] != words[1] and self._fresh(name):
                self.used.add(name.lower())
                self.titles.append(name)
                return name

    def word(self) -> str:
        """An invented word of two or three syllables; with probability ``collide`` it begins like one already used."""
        while True:
            parts = self.rng.choices(SYLLABLES, k=2 if self.rng.random() < 0.7 else 3)
            if self.words and self.rng.random() < self.collide:
                parts[0] = self.rng.choice(self.words)[:3].lower()
            name = "".join(parts).capitalize()
            if self._fresh(name):
                self.used.add(name.lower())
                self.words.append(name)
                return name

    def number(self, digits: int) -> str:
        """A number of so many digits that the world does not have yet."""
        while True:
            number = str(self.rng.randrange(10 ** (digits - 1), 10**digits))
            if number not in self.used:
                self.used.add(number)
                return number

    def value(self, attribute: str) -> str:
        """A value for an attribute. Years may repeat in a large world, everything else is unique in it."""
        if attribute == "author":
            return f"{self.rng.choice(FIRST_NAMES)} {self.word()}"
        if attribute == "year":
            return self._unlike(lambda: str(self.rng.randint(1950, 2049)), tries=8)
        if attribute == "score":
            return self._unlike(lambda: f"{self.rng.randint(10, 99)}.{self.rng.randint(0, 9)}", tries=10**6)
        return self.word()

    def _unlike(self, draw, tries: int) -> str:  # type: ignore[no-untyped-def]
        for _ in range(tries):
            value: str = draw()
            if value not in self.used:
                break
        self.used.add(value)
        return value
