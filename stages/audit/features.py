"""Features: a few hundred numbers of any value, cheap to compute, in which like samples lie near each other.

An embedding or a vector is its own; of a picture it is a thumbnail with edges by their direction, of a text the hashed
groups of its letters, of a sound its spectrum in time, of maps and series their coarse course. They are good enough to
ask "is this label like those of its neighbours?", not to be a model. A better one: name an embedding in `features`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

SIDE, COARSE, DIRECTIONS = 16, 4, 8
BYTE = 256
"""Classes of which an id is a byte."""
LETTERS = 1024
"""Buckets of groups of letters."""
BANDS, SLICES = 32, 8
MOST = 4096
"""Numbers of a value that are taken as they are."""


def embedding(modality: Any) -> bool:
    """Are values made to be compared?"""
    return bool(modality.defaults.head == "embed")


def marks(modality: Any) -> bool:
    """Is a value a yes or a no for each class?"""
    return bool(modality.defaults.measure == "labels")


def boxed(modality: Any) -> bool:
    """Is a value a list of boxes with classes?"""
    return bool(modality.defaults.head == "boxes")


def counts_units(modality: Any) -> bool:
    """Are differences of its values numbers in a unit of some kind, and no shares?"""
    return bool(modality.dtype.kind == "f" and modality.averaged and not modality.soft)


def ids_dtype(classes: int) -> str:
    """Of the ids of so many classes, as a survey keeps them."""
    return "u1" if classes <= BYTE else "<u4"


def usable(modality: Any) -> bool:
    """Can features be made of a modality?"""
    kinds = modality.rgb or modality.textual or modality.categorical or modality.times > 1
    return bool(kinds or modality.dtype.kind == "f") and modality.defaults.measure not in (
        "boxes",
        "points",
        "instances",
    )


def features(modality: Any, rows: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(N, D) float32 of (N, *shape) values in the dtype of memory; zeros where there is none."""
    if modality.rgb:
        output = np.stack([picture(row) for row in rows]) if len(rows) else np.zeros((0, _picture_size()), np.float32)
    elif modality.times > 1:
        output = np.stack([np.mean([picture(frame) for frame in row[:: max(1, len(row) // 4)]], 0) for row in rows])
    elif modality.textual:
        output = _texts([modality.words(row) for row in rows])
    elif modality.categorical and modality.shape == ():
        output = np.eye(len(modality.counted) + 1, dtype=np.float32)[np.where(modality.known(rows), rows, -1)]
    elif modality.categorical:
        output = _shares(rows, len(modality.counted))
    elif modality.defaults.head == "series" and len(modality.shape) == 1:
        output = np.stack([_spectrum(row) for row in rows])
    else:
        output = _numbers(rows)
    return np.where(valid[:, None], output, 0).astype(np.float32)


def picture(image: np.ndarray) -> np.ndarray:
    """(416,) of (H, W, 3) uint8: brightness on 16 x 16, colour on 4 x 4, edges by direction on 4 x 4."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    how = cv2.INTER_AREA if min(image.shape[:2]) >= SIDE else cv2.INTER_LINEAR
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=how)
    lab = cv2.cvtColor(cv2.resize(image, (COARSE, COARSE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    colour = (lab[..., 1:].astype(np.float32) - 128) / 64
    fine = cv2.resize(grey, (4 * SIDE, 4 * SIDE), interpolation=cv2.INTER_LINEAR)
    across, down = (cv2.Sobel(fine, cv2.CV_32F, *axes, ksize=3) for axes in ((1, 0), (0, 1)))
    strength, angle = cv2.cartToPolar(across, down)
    bins = (angle * (DIRECTIONS / (2 * np.pi))).astype(np.int64) % DIRECTIONS
    cell = np.arange(4 * SIDE) * COARSE // (4 * SIDE)
    place = (cell[:, None] * COARSE + cell[None]) * DIRECTIONS + bins
    edges = np.bincount(place.ravel(), strength.ravel(), COARSE * COARSE * DIRECTIONS).astype(np.float32)
    edges = np.sqrt(edges / max(float(edges.sum()), 1e-6)) * 4
    return np.concatenate([small.ravel(), colour.ravel(), edges])


def _picture_size() -> int:
    return SIDE * SIDE + COARSE * COARSE * (2 + DIRECTIONS)


def _texts(texts: list[str]) -> np.ndarray:
    from sklearn.feature_extraction.text import HashingVectorizer

    if not texts:
        return np.zeros((0, LETTERS), np.float32)
    counted = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=LETTERS, dtype=np.float32)
    return np.asarray(counted.transform(texts).toarray())


def _shares(rows: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class."""
    flat = rows.reshape(len(rows), -1)
    return np.stack([(flat == i).mean(1) for i in range(classes)], 1).astype(np.float32)


def _spectrum(sound: np.ndarray) -> np.ndarray:
    """(BANDS x SLICES,) log power, over the part of a sound that is loud."""
    window = 256
    count = max(1, (len(sound) - window) // (window // 2) + 1)
    padded = np.pad(sound, (0, max(0, window - len(sound))))
    frames = np.stack([padded[i * window // 2 : i * window // 2 + window] for i in range(count)])
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1))[:, 1:] ** 2
    loud = power.sum(1) > 1e-3 * max(float(power.sum(1).max()), 1e-12)
    first, last = (int(np.argmax(loud)), len(loud) - int(np.argmax(loud[::-1]))) if loud.any() else (0, len(loud))
    bands = np.log1p(1e4 * power[first:last].reshape(last - first, BANDS, -1).mean(2))
    edges = np.linspace(0, len(bands), SLICES + 1)
    parts = [bands[int(a) : max(int(a) + 1, int(b))].mean(0) for a, b in pairwise(edges)]
    return np.concatenate(parts).astype(np.float32)


def _numbers(rows: np.ndarray) -> np.ndarray:
    """Values as they are, or where there are many their means over blocks; what is not finite is 0."""
    flat = np.nan_to_num(rows.reshape(len(rows), -1).astype(np.float32), posinf=0, neginf=0)
    if flat.shape[1] <= MOST:
        return flat
    edges = np.linspace(0, flat.shape[1], 513).astype(np.int64)[:-1]
    return np.add.reduceat(flat, edges, axis=1) / np.diff(np.append(edges, flat.shape[1]))
