"""Repeatable randomness: where the sample logs get every random number and random text from.

Only the raw 64-bit stream and uniform floats of PCG64 are used. numpy keeps those stable between
versions; the streams of its shaped distributions it does not. What the numbers mean is decided by
the callers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

# A column of ready-made byte strings: numpy has no narrower type for Python objects.
Pieces = npt.NDArray[np.object_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REQUEST_ID_LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BASE64_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
VERSION_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._"
HEX_LETTERS = b"0123456789abcdef"


def make_rng(seed: int, *path: int) -> np.random.Generator:
    """A generator of its own for each purpose, so that none disturbs another."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *path])))


def pieces(texts: Any) -> Pieces:
    """An object column of `texts`, which numpy would otherwise turn into fixed-width strings."""
    texts = list(texts)
    column = np.empty(len(texts), dtype=object)
    column[:] = texts
    return column


def random_texts(
    rng: np.random.Generator,
    count: int,
    length: int,
    letters: bytes,
    prefix: bytes = b"",
    suffix: bytes = b"",
) -> list[bytes]:
    """`count` texts: `prefix`, `length` random letters, `suffix`; no letter may be NUL."""
    words = rng.bit_generator.random_raw((count * length + 7) // 8)
    table = np.frombuffer(bytes(letters[i % len(letters)] for i in range(256)), dtype=np.uint8)
    body = table[np.asarray(words).astype("<u8").view(np.uint8)[: count * length]]
    width = len(prefix) + length + len(suffix)
    block = np.empty((count, width), dtype=np.uint8)
    block[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    block[:, len(prefix) : len(prefix) + length] = body.reshape(count, length)
    block[:, len(prefix) + length :] = np.frombuffer(suffix, dtype=np.uint8)
    texts: list[bytes] = block.reshape(-1).view(f"S{width}").tolist()
    return texts


def zipf_steps(count: int, exponent: float, flat_head: float) -> Floats:
    """Cumulative shares of ranks 0 to `count`-1, weights 1 / (rank + flat_head) ** exponent."""
    weights = 1.0 / (np.arange(count) + flat_head) ** exponent
    return np.asarray(np.cumsum(weights) / weights.sum())


def draw(steps: Floats, uniform: Floats) -> Ints:
    """The rank that each uniform number falls on, given cumulative shares."""
    return np.minimum(np.searchsorted(steps, uniform, side="right"), len(steps) - 1)
