"""Canvases of digits with a mask of their pixels, of which a fifth is damaged, and the logits of held-out images.

24 x 24 pixels, one to three of the digits 0 to 3 of scikit-learn on noise; a mask that lacks an object, gives it
another class or is shifted; and a small network on 7 x 7 patches in five folds.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from service.diagnostics.chunks import Floats, Integers

IMAGES, SIZE, DIGIT, CLASSES, FOLDS = 400, 24, 8, 5, 5
NOISE, INK, DAMAGED, PATCH = 0.25, 0.3, 0.2, 7
HIDDEN, STEPS, PIXELS_PER_STEP, LEARNING_RATE = 64, 600, 512, 1e-2


class Damage(IntEnum):
    NONE = 0
    DROPPED = 1
    SWAPPED = 2
    SHIFTED = 3


@dataclass(frozen=True, eq=False)
class Canvases:
    """Pictures (n, 24, 24), logits (n, 5, 24, 24) float32, true and given masks, and the damage (n,) of each mask."""

    images: Floats
    logits: NDArray[np.float32]
    true: Integers
    given: Integers
    damage: Integers


def make_canvases(seed: int) -> Canvases:
    generator = np.random.default_rng(seed)
    images, true, objects = _draw(generator)
    damage = np.zeros(IMAGES, np.int64)
    chosen = generator.permutation(IMAGES)[: int(DAMAGED * IMAGES)]
    damage[chosen] = generator.integers(Damage.DROPPED, Damage.SHIFTED, len(chosen), endpoint=True)
    given = true.copy()
    for image in chosen:
        pixels = objects[image][generator.integers(len(objects[image]))]
        if damage[image] == Damage.DROPPED:
            given[image][pixels] = 0
        elif damage[image] == Damage.SWAPPED:
            given[image][pixels] = (true[image][pixels] - 1 + generator.integers(1, 4)) % 4 + 1
        else:
            given[image] = np.roll(true[image], (2, 1), (0, 1))
    return Canvases(images, _held_out_logits(generator, images, given, seed), true, given, damage)


def _draw(generator: np.random.Generator) -> tuple[Floats, Integers, list[list[NDArray[np.bool_]]]]:
    digits = load_digits(n_class=CLASSES - 1)
    images = generator.normal(0, NOISE, (IMAGES, SIZE, SIZE))
    masks = np.zeros(images.shape, np.int64)
    objects: list[list[NDArray[np.bool_]]] = []
    for pixels, mask in zip(images, masks, strict=True):
        objects.append([])
        for cell in generator.choice(9, generator.integers(1, 4), replace=False):
            number = generator.integers(len(digits.images))
            top, left = cell // 3 * DIGIT, cell % 3 * DIGIT
            ink = np.zeros((SIZE, SIZE))
            ink[top : top + DIGIT, left : left + DIGIT] = digits.images[number] / 16
            pixels[:] += ink
            mask[ink > INK] = digits.target[number] + 1
            objects[-1].append(ink > INK)
    return images, masks, objects


def _held_out_logits(generator: np.random.Generator, images: Floats, given: Integers, seed: int) -> NDArray[np.float32]:
    margin = PATCH // 2
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
    patches = sliding_window_view(padded, (PATCH, PATCH), (1, 2)).reshape(IMAGES, SIZE**2, PATCH**2)
    features = torch.from_numpy(patches.astype(np.float32))
    targets = torch.from_numpy(given.reshape(IMAGES, -1))
    fold = generator.permutation(IMAGES) % FOLDS
    logits = np.zeros((IMAGES, CLASSES, SIZE, SIZE), np.float32)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(), ExitStack() as stack:
        # More threads make such small products slower.
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        for held_out in range(FOLDS):
            trained = torch.from_numpy(fold != held_out)
            network = _train(features[trained].flatten(0, 1), targets[trained].flatten())
            with torch.no_grad():
                scores = network(features[~trained]).transpose(1, 2)
            logits[fold == held_out] = scores.reshape(-1, CLASSES, SIZE, SIZE).numpy()
    return logits


def _train(features: torch.Tensor, targets: torch.Tensor) -> nn.Module:
    network = nn.Sequential(nn.Linear(PATCH**2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for _ in range(STEPS):
        chosen = torch.randint(len(targets), (PIXELS_PER_STEP,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(features[chosen]), targets[chosen]).backward()
        optimizer.step()
    return network
