"""A keyed bijection: every size, uniform enough, the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from pipelines.permutation import Permutation, derive_key

KEYS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_bijection_for_every_small_size(key: int) -> None:
    for size in range(1, 301):
        assert sorted(Permutation(size, key)(np.arange(size)).tolist()) == list(range(size)), size


@given(st.integers(301, 60_000), KEYS)
def test_bijection_for_larger_sizes(size: int, key: int) -> None:
    seen = np.bincount(Permutation(size, key)(np.arange(size)), minlength=size)
    assert seen.shape == (size,)
    assert (seen == 1).all()


@given(st.integers(1 << 20, 1 << 62), KEYS, st.integers(0, 2**32))
def test_huge_sizes_stay_in_range_without_collisions(size: int, key: int, seed: int) -> None:
    indices = np.unique(np.random.default_rng(seed).integers(0, size, 2000))
    images = Permutation(size, key)(indices)
    assert images.dtype == np.int64
    assert ((images >= 0) & (images < size)).all()
    assert len(np.unique(images)) == len(indices)


@given(st.integers(1, 5000), KEYS)
def test_an_image_does_not_depend_on_its_company(size: int, key: int) -> None:
    permutation = Permutation(size, key)
    whole = permutation(np.arange(size))
    assert permutation(np.array([size - 1]))[0] == whole[-1]
    assert (permutation(np.arange(size).reshape(1, size)) == whole).all()


@pytest.mark.parametrize("size", [3, 4, 5, 7, 10, 30])
def test_images_are_uniform_over_keys(size: int) -> None:
    keys = 4000
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), Permutation(size, derive_key("uniform", key))(np.arange(size))] += 1
    statistic = ((counts - keys / size) ** 2 / (keys / size)).sum()
    # Rows and columns sum to `keys`, hence (size - 1)^2 degrees of freedom; fixed keys, so that this never flickers.
    assert statistic < chi2.isf(1e-6, (size - 1) ** 2)


def test_every_order_of_four_occurs_about_equally() -> None:
    keys = 12_000
    orders: dict[tuple[int, ...], int] = {}
    for key in range(keys):
        order = tuple(Permutation(4, derive_key("orders", key))(np.arange(4)).tolist())
        orders[order] = orders.get(order, 0) + 1
    assert len(orders) == 24
    assert sum((count - keys / 24) ** 2 / (keys / 24) for count in orders.values()) < chi2.isf(1e-6, 23)


def test_neighbours_are_torn_apart() -> None:
    size = 100_000
    images = Permutation(size, derive_key("neighbours"))(np.arange(size))
    blocks = np.bincount(images[:10_000] * 100 // size, minlength=100)  # a prefix is a random subset
    assert ((blocks - 100) ** 2 / 100).sum() < chi2.isf(1e-6, 99)
    assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 0.02


def test_literal_images() -> None:
    assert Permutation(10, 42)(np.arange(10)).tolist() == [1, 8, 0, 3, 6, 9, 2, 4, 7, 5]
    assert derive_key("med", "epoch", 3) == 16652466303089265192


def test_keys_differ_by_every_part_and_its_place() -> None:
    keys = [
        derive_key(1, "a", 2),
        derive_key(2, "a", 1),
        derive_key("1a", 2),
        derive_key(1, "a2"),
        derive_key(1, "b", 2),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("size", [0, -1, (1 << 62) + 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size must be in"):
        Permutation(size, 0)
