"""A tiny n-gram model over token ids 0 to 11, as ARPA files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.arpa import write_arpa

SEQUENCES = [[i % 7, i % 5, i % 3, (i * i) % 11, i % 2, (i + 3) % 7] for i in range(1, 80)]


@pytest.fixture(scope="session")
def arpas(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Models of the orders 2 to 5."""
    folder = tmp_path_factory.mktemp("ngram")
    for order in range(2, 6):
        write_arpa(folder / f"{order}.arpa", SEQUENCES, order)
    return {order: folder / f"{order}.arpa" for order in range(2, 6)}
