"""A miniature world of languages: the same few things are said in each, in its own words and order.

Some seventy concepts, who does what with which of them, and what may be called good or bad. A language gives
each concept a word and each sentence an order. The small words and some of the others are common to all, as
loans and cognates are; that, and the same things being said, is all that links a language to the others.

The task is sentiment: `negative`, `neutral` or `positive`. Everything is drawn from seeds: equal seeds, equal
text, on every machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Label = Literal["negative", "neutral", "positive"]
LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")

NOUNS = {
    "person": ["farmer", "teacher", "sister", "hunter", "singer", "child"],
    "animal": ["dog", "cat", "horse", "goat"],
    "food": ["bread", "soup", "fish", "apple", "honey"],
    "tool": ["knife", "basket", "rope", "boat", "lamp"],
    "place": ["house", "market", "river", "road"],
}
# Verb: who does it, and to what.
VERBS = {
    "eats": ("person animal", "food"),
    "cooks": ("person", "food"),
    "feeds": ("person", "animal"),
    "repairs": ("person", "tool"),
    "sells": ("person", "tool animal"),
    "follows": ("person animal", "person animal"),
    "carries": ("person animal", "tool food"),
    "visits": ("person", "place person"),
    "crosses": ("person animal", "place"),
    "builds": ("person", "place tool"),
}
# What is said of each group of nouns, by what it means for the label.
ADJECTIVES: dict[str, dict[Label, list[str]]] = {
    "person": {"positive": ["kind", "clever"], "negative": ["cruel", "lazy"], "neutral": ["tall", "young"]},
    "animal": {
        "positive": ["loyal", "lively"],
        "negative": ["sick", "vicious"],
        "neutral": ["brown", "furry"],
    },
    "food": {"positive": ["tasty", "fresh"], "negative": ["rotten", "burnt"], "neutral": ["warm", "white"]},
    "tool": {"positive": ["sturdy", "handy"], "negative": ["broken", "rusty"], "neutral": ["long", "heavy"]},
    "place": {"positive": ["pretty", "safe"], "negative": ["dirty", "noisy"], "neutral": ["wide", "near"]},
}
ADVERBS = ["today", "often", "here", "again"]
FUNCTION_WORDS = ("is", "not", "very", "and", "but", "PAST", "OBJ")
INTERJECTIONS: dict[Label, tuple[str, str]] = {
    "positive": ("hurray", "bravo"),
    "negative": ("alas", "yuck"),
    "neutral": ("well", "so"),
}

Order = Literal["SVO", "SOV", "VSO"]


@dataclass(frozen=True)
class Language:
    """A language as its lexicon (concept → word) and its order of subject, verb and object."""

    code: str
    name: str
    order: Order
    words: Mapping[str, str]


@dataclass(frozen=True)
class Sound:
    """What words sound like: a syllable is one of `onsets`, one of `vowels`, one of `codas`."""

    onsets: str
    vowels: str
    codas: str


@dataclass(frozen=True)
class Plan:
    """A language before its words are drawn. The codes are those that ISO 639-3 leaves to local use."""

    code: str
    name: str
    order: Order
    sound: Sound
    shared: float  # share of the content words that are the common ones


COMMON = Sound("p t k m n s l", "a e i o u", "")
SOURCE = Plan("qav", "Avani", "SVO", Sound("b d g v z r", "a e i", "n r s"), 0.6)
OTHERS = (
    Plan("qbe", "Belu", "SOV", Sound("h j w k l", "u o a", "l m"), 0.6),
    Plan("qce", "Cemish", "VSO", Sound("ch sh f t r", "e i o", "k t"), 0.6),
    Plan("qdu", "Dunto", "SVO", Sound("d n m g", "u o ai", "n ng"), 0.6),
)
TARGETS = (
    Plan("qmi", "Mirelle", "SVO", Sound("m r v l f", "ie e a", "lle r"), 0.5),
    Plan("qto", "Toqar", "VSO", Sound("q t kh d", "a o u", "r q sh"), 0.5),
)


def concepts() -> dict[str, list[str]]:
    """Content concepts by group; sharing is drawn group by group, so that no seed leaves one group out."""
    groups = {f"noun, {group}": list(nouns) for group, nouns in NOUNS.items()}
    groups["verb"] = list(VERBS)
    groups["adverb"] = list(ADVERBS)
    for label in LABELS:
        groups[f"adjective, {label}"] = [word for of in ADJECTIVES.values() for word in of[label]]
    return groups


def languages(seed: int) -> dict[str, Language]:
    """All languages of a world, by code: the source, the others of pre-training, the targets."""
    taken: set[str] = set()
    everything = [word for group in concepts().values() for word in group]
    everything += [*FUNCTION_WORDS, *(word for pair in INTERJECTIONS.values() for word in pair)]
    common = _invent(everything, COMMON, Random(f"{seed} common words"), taken)
    world = {}
    for plan in (SOURCE, *OTHERS, *TARGETS):
        random = Random(f"{seed} words of {plan.code}")
        words = _invent(everything, plan.sound, random, taken)
        for group in concepts().values():
            words |= {word: common[word] for word in _share(group, plan.shared, random)}
        # All share the small words, and of the two calls of each kind one.
        words |= {word: common[word] for word in FUNCTION_WORDS}
        words |= {pair[0]: common[pair[0]] for pair in INTERJECTIONS.values()}
        world[plan.code] = Language(plan.code, plan.name, plan.order, words)
    return world


def vocabulary(seed: int) -> set[str]:
    """Every word of every language."""
    return {word for language in languages(seed).values() for word in language.words.values()}


def _share(group: Sequence[str], share: float, random: Random) -> list[str]:
    return random.sample(list(group), round(share * len(group)))


def _invent(meanings: Sequence[str], sound: Sound, random: Random, taken: set[str]) -> dict[str, str]:
    """A new word for each meaning; words that are `taken` are not given twice."""
    words = {}
    for meaning in meanings:
        word = ""
        while not word or word in taken:
            syllables = [
                random.choice(sound.onsets.split())
                + random.choice(sound.vowels.split())
                + random.choice(["", *sound.codas.split()])
                for _ in range(random.choice((2, 2, 3)))
            ]
            word = "".join(syllables)
        taken.add(word)
        words[meaning] = word
    return words


@dataclass(frozen=True)
class Manner:
    """How often things are said in one way, by label.

    In raw text people who are pleased tell of other things, and otherwise, than people who complain; so that
    raw text shows which words are the good ones, and not only that there are two kinds. In the labelled texts
    nothing but the words of the opinion tells.
    """

    negated: Mapping[Label, float]
    intensified: Mapping[Label, float]
    past: Mapping[Label, float]
    exclaimed: float  # share of the texts that end in a call
    agreeing: float  # share of the texts with two opinions
    moody: float  # how many times likelier what suits the label is than what does not


LABELLED = Manner(
    negated=dict.fromkeys(LABELS, 0.25),
    intensified=dict.fromkeys(LABELS, 0.25),
    past=dict.fromkeys(LABELS, 0.3),
    exclaimed=0.0,
    agreeing=0.5,
    moody=1.0,
)
RAW = Manner(
    negated={"positive": 0.05, "neutral": 0.1, "negative": 0.35},
    intensified={"positive": 0.5, "neutral": 0.05, "negative": 0.2},
    past={"positive": 0.2, "neutral": 0.4, "negative": 0.7},
    exclaimed=0.7,
    agreeing=0.85,
    moody=4.0,
)
SUITING: dict[Label, set[str]] = {
    "positive": {"food", "animal", "eats", "cooks", "feeds", "today"},
    "negative": {"tool", "person", "sells", "follows", "repairs", "again"},
    "neutral": {"place", "visits", "carries", "builds", "crosses", "often", "here"},
}
OPPOSITE: dict[Label, Label] = {"positive": "negative", "neutral": "neutral", "negative": "positive"}


class Speaker:
    """Says things in one language, in one manner."""

    def __init__(self, language: Language, manner: Manner, random: Random) -> None:
        self.language, self.manner, self.random = language, manner, random

    def text(self, label: Label) -> list[str]:
        """The concepts of one text, in the language's order: a scene and an opinion, or two opinions.

        The last opinion decides the label.
        """
        random = self.random
        if random.random() < 0.5:
            noun, scene = self._scene(label)
            said = [*scene, *self._opinion(noun, label)]
        else:
            agrees = random.random() < self.manner.agreeing
            first = label if agrees else random.choice([other for other in LABELS if other != label])
            said = [
                *self._opinion(self._noun(first), first),
                "and" if agrees else "but",
                *self._opinion(self._noun(label), label),
            ]
        if random.random() < self.manner.exclaimed:
            said.append(random.choice(INTERJECTIONS[label]))
        return said

    def _choice(self, words: Sequence[str], label: Label) -> str:
        weights = [self.manner.moody if word in SUITING[label] else 1.0 for word in words]
        return self.random.choices(words, weights)[0]

    def _noun(self, label: Label) -> str:
        return self.random.choice(NOUNS[self._choice(list(NOUNS), label)])

    def _scene(self, label: Label) -> tuple[str, list[str]]:
        """One noun of the scene, and the scene."""
        random = self.random
        verb = self._choice(list(VERBS), label)
        subject, thing = (random.choice(NOUNS[self._choice(groups.split(), label)]) for groups in VERBS[verb])
        parts = {
            "S": [subject],
            "V": [verb, *(["PAST"] if random.random() < self.manner.past[label] else [])],
            "O": [thing, "OBJ"],
        }
        adverb = [self._choice(ADVERBS, label)] if random.random() < 0.5 else []
        return random.choice((subject, thing)), [*adverb, *self._ordered(parts)]

    def _opinion(self, noun: str, label: Label) -> list[str]:
        random = self.random
        negated = random.random() < self.manner.negated[label]
        adjective = random.choice(ADJECTIVES[_group_of(noun)][OPPOSITE[label] if negated else label])
        intensified = random.random() < self.manner.intensified[label]
        past = random.random() < self.manner.past[label]
        parts = {
            "S": [noun],
            "V": ["is", *(["PAST"] if past else []), *(["not"] if negated else [])],
            "O": [*(["very"] if intensified else []), adjective],
        }
        return self._ordered(parts)

    def _ordered(self, parts: Mapping[str, list[str]]) -> list[str]:
        return [word for part in self.language.order for word in parts[part]]


def _group_of(noun: str) -> str:
    return next(group for group, nouns in NOUNS.items() if noun in nouns)


def raw_text(
    language: Language, count: int, seed: int, mixed_with: Sequence[Language] = (), mixing: float = 0.3
) -> Iterator[str]:
    """Lines without labels.

    Args:
        language: whose words and order.
        count: lines.
        seed: equal seeds, equal lines.
        mixed_with: languages that speakers of this one know, and fall into.
        mixing: the share of words that are theirs.
    """
    random = Random(f"{seed} raw text of {language.code} among {len(mixed_with)}")
    speaker = Speaker(language, RAW, random)
    for _ in range(count):
        yield " ".join(
            (random.choice(mixed_with) if mixed_with and random.random() < mixing else language).words[
                meaning
            ]
            for meaning in speaker.text(random.choice(LABELS))
        )


def labelled_text(language: Language, count: int, seed: int, split: str) -> Iterator[dict[str, str]]:
    """Rows of `text`, `label` and `gloss` (the text word for word in English), each label equally often."""
    random = Random(f"{seed} {split} rows of {language.code}")
    speaker = Speaker(language, LABELLED, random)
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        meanings = speaker.text(label)
        text = " ".join(language.words[meaning] for meaning in meanings)
        yield {"text": text, "label": label, "gloss": " ".join(meanings)}
