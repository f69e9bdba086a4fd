"""The demo's languages, texts and labels."""

from collections import Counter

import pytest

from taxlt_mergekit.demo import files, world

SEEDS = (0, 1, 12345)
PRETRAINED = files.PRETRAINED
CALLS = {call for pair in world.INTERJECTIONS.values() for call in pair}
POLARITY = {
    adjective: label
    for of_group in world.ADJECTIVES.values()
    for label, adjectives in of_group.items()
    for adjective in adjectives
}


def pretraining_texts(languages, seed, count=500):
    pretrained = [languages[code] for code in PRETRAINED]
    for language in pretrained:
        others = [other for other in pretrained if other is not language]
        yield from world.raw_text(language, count, seed, others)


def test_equal_seeds_give_equal_worlds_and_others_do_not():
    first, again, other = (world.languages(seed) for seed in (3, 3, 4))
    assert first == again
    assert first["qmi"].words != other["qmi"].words
    assert list(world.raw_text(first["qmi"], 50, 3)) == list(world.raw_text(again["qmi"], 50, 3))
    rows = [list(world.labelled_text(first["qmi"], 30, 3, split)) for split in ("test", "test", "validation")]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_word_means_one_thing_in_all_languages(seed):
    meanings = {}
    for language in world.languages(seed).values():
        assert len(set(language.words.values())) == len(language.words)
        for meaning, word in language.words.items():
            assert meanings.setdefault(word, meaning) == meaning


@pytest.mark.parametrize("seed", SEEDS)
def test_targets_share_about_half_of_the_content_words_and_no_other(seed):
    languages = world.languages(seed)
    known = {word for code in PRETRAINED for word in languages[code].words.values()}
    content = [word for group in world.concepts().values() for word in group]
    for target in files.TARGETS:
        own = [word for word in content if languages[target].words[word] not in known]
        assert 0.4 <= len(own) / len(content) <= 0.6
        for label in world.LABELS:
            adjectives = world.concepts()[f"adjective, {label}"]
            assert 0.4 <= sum(word in own for word in adjectives) / len(adjectives) <= 0.6


def test_the_targets_are_unseen_in_pretraining():
    languages = world.languages(0)
    seen = {word for line in pretraining_texts(languages, 0) for word in line.split()}
    for target in files.TARGETS:
        others = {word for code in PRETRAINED for word in languages[code].words.values()}
        assert not seen & (set(languages[target].words.values()) - others)


def test_the_last_opinion_decides_the_label():
    for row in world.labelled_text(world.languages(0)["qav"], 600, 0, "test"):
        gloss = row["gloss"].split()
        last = max(gloss.index(joint) + 1 if joint in gloss else 0 for joint in ("and", "but"))
        part = gloss[last:]
        adjectives = [word for word in part if word in POLARITY]
        assert len(adjectives) == 1
        polarity = POLARITY[adjectives[0]]
        assert row["label"] == (world.OPPOSITE[polarity] if "not" in part else polarity)
        assert not CALLS & set(gloss)


def test_labels_are_balanced_and_rows_are_the_languages_own_words():
    language = world.languages(0)["qto"]
    rows = list(world.labelled_text(language, 300, 0, "test"))
    assert Counter(row["label"] for row in rows) == dict.fromkeys(world.LABELS, 100)
    for row in rows:
        assert row["text"].split() == [language.words[meaning] for meaning in row["gloss"].split()]


def test_manner_tells_nothing_of_the_label_in_labelled_text():
    rows = list(world.labelled_text(world.languages(0)["qav"], 3000, 0, "test"))
    for word in ("PAST", "very", "not"):
        share = {
            label: sum(word in row["gloss"].split() for row in rows if row["label"] == label) / 1000
            for label in world.LABELS
        }
        assert max(share.values()) - min(share.values()) < 0.08


def test_word_order_is_the_languages():
    languages = world.languages(0)
    for code, expected in (("qav", "SVO"), ("qbe", "SOV"), ("qce", "VSO"), ("qmi", "SVO"), ("qto", "VSO")):
        for row in world.labelled_text(languages[code], 60, 0, "test"):
            gloss = row["gloss"].split()
            last = max(gloss.index(joint) + 1 if joint in gloss else 0 for joint in ("and", "but"))
            part = gloss[last:]
            adjective = next(word for word in part if word in POLARITY)
            verb = len(part) - 1 - part[::-1].index("is")
            noun = max(n for n, word in enumerate(part) if any(word in of for of in world.NOUNS.values()))
            order = sorted((("S", noun), ("V", verb), ("O", part.index(adjective))), key=lambda pair: pair[1])
            assert "".join(name for name, _ in order) == expected, row["gloss"]


def test_speakers_fall_into_the_other_languages_at_the_stated_rate():
    languages = world.languages(0)
    own, other = languages["qav"], languages["qbe"]
    only_other = set(other.words.values()) - set(own.words.values())
    only_own = set(own.words.values()) - set(other.words.values())
    words = [word for line in world.raw_text(own, 2000, 0, [other], mixing=0.3) for word in line.split()]
    counts = Counter(
        "other" if word in only_other else "own" for word in words if word in only_other | only_own
    )
    assert 0.25 < counts["other"] / counts.total() < 0.35
    assert not only_other & {word for line in world.raw_text(own, 500, 0) for word in line.split()}
