"""Sentences with names, made from templates, of which some names have a wrong tag or none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from examples.planted import Array, Planted

SENTENCES, FOLDS, DAMAGED, TYPOS = 2500, 5, 0.14, 0.3
TAGS = ["other", "person", "company", "place", "event"]
# Most names are in several lists, and `any` stands for a name of any list: the words alone do not tell its tag.
NAMES = {
    "person": ["Ada Lovelace", "Jordan", "Emmy Noether", "Florence", "Ford", "Phoenix", "Lin", "Victoria"],
    "company": ["Amazon", "Ford", "North Sea Lines", "Phoenix", "Jordan", "Kyoto Optics", "Lin", "Victoria"],
    "place": ["Florence", "Jordan", "Amazon", "Kyoto", "North Bay", "Phoenix", "Victoria", "Lin"],
    "event": ["Kyoto Summit", "World Cup", "Phoenix", "Victoria", "Lima Summit", "Jazz Week", "Florence", "Amazon"],
}
TEMPLATES = [
    "{person} works for {company} in {place}",
    "{company} opens an office in {place} after the {event}",
    "the {event} takes place in {place} this year",
    "{company} sues {company} over a patent",
    "shares of {company} fell after {person} left",
    "{person} speaks at the {event} in {place}",
    "rain in {place} delays {company} again",
    "{any} is in the news again",
    "everybody talks about {any} and {any}",
    "{any} , {any} and {any} in one day",
    "first {any} , then {any}",
    "more about {any} and {any} today",
]


def make_sentences(seed: int = 0) -> Planted:
    """Write the sentences, damage the tags of some, and train a logistic regression on neighbouring words in folds."""
    rng = np.random.default_rng(seed)
    written = [list(_words(rng)) for _ in range(SENTENCES)]
    tokens = [[word for word, _ in sentence] for sentence in written]
    offsets = np.concatenate(([0], np.cumsum([len(sentence) for sentence in tokens])))
    true = np.array([tag for sentence in written for _, tag in sentence])
    given = true.copy()
    for number in rng.choice(SENTENCES, round(DAMAGED * SENTENCES), replace=False):
        _damage(rng, given[offsets[number] : offsets[number + 1]])
    return Planted(
        task="tokens",
        what=f"{SENTENCES} sentences, in {DAMAGED:.0%} of them a name lost its tag or got another, or a word got one",
        logits=_held_out_logits(tokens, given),
        targets=given,
        true=true,
        class_names=TAGS,
        attributes={"tokens": tokens},
        offsets=offsets,
    )


def _words(rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """The words of a sentence, with their tags."""
    for word in TEMPLATES[rng.integers(len(TEMPLATES))].split():
        kind = word.strip("{}")
        if kind == word:
            yield word, 0
            continue
        if kind == "any":
            kind = str(rng.choice(TAGS[1:]))
        for part in NAMES[kind][rng.integers(len(NAMES[kind]))].split():
            yield _typed(rng, part), TAGS.index(kind)


def _typed(rng: np.random.Generator, word: str) -> str:
    """The word, sometimes with two letters swapped: one that the model has not seen."""
    if rng.random() > TYPOS:
        return word
    place = rng.integers(len(word) - 1)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _damage(rng: np.random.Generator, tags: Array) -> None:
    """Change the tag of a name, or of a word that is no name, in place."""
    named, others = np.flatnonzero(tags), np.flatnonzero(tags == 0)
    kind = rng.choice(["dropped", "swapped", "added"])
    if kind == "added":
        tags[rng.choice(others)] = rng.integers(1, len(TAGS))
        return
    start = stop = int(rng.choice(named))
    while start and tags[start - 1] == tags[stop]:
        start -= 1
    while stop < len(tags) and tags[stop] == tags[start]:
        stop += 1
    tags[start:stop] = 0 if kind == "dropped" else (tags[start] - 1 + rng.integers(1, 4)) % 4 + 1


def _held_out_logits(tokens: list[list[str]], given: Array) -> Array:
    features = [
        {"word": word, "before": padded[place], "after": padded[place + 2]}
        for sentence in tokens
        for padded in [["", *sentence, ""]]
        for place, word in enumerate(sentence)
    ]
    sentence = np.repeat(np.arange(len(tokens)), [len(words) for words in tokens])
    model, encoded = LogisticRegression(max_iter=200), DictVectorizer().fit_transform(features)
    logits: Array = cross_val_predict(
        model, encoded, given, groups=sentence, cv=GroupKFold(FOLDS), method="decision_function"
    )
    return logits.astype(np.float32)
