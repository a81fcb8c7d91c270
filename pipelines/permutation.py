"""A keyed permutation of 0..n-1 that is computed at an index, in O(1) memory.

An alternating Feistel network over the rectangle a x b >= n (a = ceil(sqrt n), b = ceil(n / a)): each round adds a keyed
hash of one coordinate to the other, modulo its side, which is a bijection of the rectangle. The at most a - 1 cells
outside 0..n-1 are left by walking the cycle (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

from __future__ import annotations

import math

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

Indices = NDArray[np.int64]

_ROUNDS = 6  # three on each coordinate: with four, tiny rectangles show visible bias (chi-squared test in the tests)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


def derive_key(*parts: str | int) -> int:
    """A 64-bit key from any names and numbers; equal parts give equal keys on every machine."""
    return int.from_bytes(blake3("\x1f".join(map(str, parts)).encode()).digest(8), "little")


class Permutation:
    """A pseudo-random bijection of ``range(size)`` chosen by ``key``.

    Raises:
        ValueError: ``size`` is not in 1..2**62.
    """

    def __init__(self, size: int, key: int) -> None:
        if not 1 <= size <= 1 << 62:
            raise ValueError(f"size must be in 1..2**62, got {size}")
        self.size = size
        a = math.isqrt(size - 1) + 1
        self._sides = (np.uint64(a), np.uint64(-(-size // a)))
        raw = blake3(key.to_bytes(8, "little")).digest(8 * _ROUNDS)
        self._keys = np.frombuffer(raw, dtype="<u8").astype(np.uint64)

    def __call__(self, indices: Indices) -> Indices:
        """Images of ``indices`` (any shape, values in ``range(size)``), same shape, int64."""
        values = self._once(indices.astype(np.uint64))
        while (outside := values >= self.size).any():  # at most sqrt(size) cells in all, so this hardly ever runs
            values[outside] = self._once(values[outside])
        return values.astype(np.int64)

    def _once(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        a, b = self._sides
        high = values // a
        low = values - high * a
        for round_, key in enumerate(self._keys):
            # x - (x // side) * side is x % side, a third faster: numpy has vector instructions for // by a scalar, not for %.
            if round_ % 2 == 0:
                low += _mix(high, key)
                low -= (low // a) * a
            else:
                high += _mix(low, key)
                high -= (high // b) * b
        return high * a + low


def _mix(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """Keyed hash to 32 bits (two multiply-xorshift rounds); sides are below 2**32, so sums cannot overflow."""
    mixed = (values ^ key) * _MULTIPLIER
    mixed ^= mixed >> _SHIFT
    mixed *= _MULTIPLIER
    return mixed >> _SHIFT
