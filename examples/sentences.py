"""Sentences with names, made from templates, of which some names have a wrong tag or none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from examples.planted import Array, Planted

SENTENCES, FOLDS, DAMAGED = 2500, 5, 0.14
TAGS = ["other", "person", "company", "place", "event"]
# Many names are in two or three lists, and `any` stands for a name of any list: its tag cannot be told from the words.
NAMES = {
    "person": ["Ada Lovelace", "Jordan", "Emmy Noether", "Florence", "Ford", "Alan Turing", "Lin", "Victoria"],
    "company": ["Amazon", "Ford", "North Sea Lines", "Phoenix", "Acme", "Kyoto Optics", "Lin", "Victoria"],
    "place": ["Florence", "Jordan", "Amazon", "Kyoto", "North Bay", "Phoenix", "Victoria", "Lima"],
    "event": ["Kyoto Summit", "World Cup", "Phoenix", "Expo", "Lima Summit", "Jazz Week", "Expo Florence", "Regatta"],
}
TEMPLATES = [
    "{person} works for {company} in {place}",
    "{company} opens an office in {place} after the {event}",
    "the {event} takes place in {place} this year",
    "{person} and {person} met at the {event}",
    "{company} sues {company} over a patent",
    "{person} leaves {place} for {place}",
    "shares of {company} fell after {person} left",
    "{person} speaks at the {event} in {place}",
    "{place} bids for the {event} with {company}",
    "rain in {place} delays {company} again",
    "{any} is in the news again",
    "why everybody talks about {any} and {any}",
    "{any} , {any} and {any} in one day",
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
            yield part, TAGS.index(kind)


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
