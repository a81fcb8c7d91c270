"""docs/scaling.md is what the code computes, and its formulas agree with what can be checked."""

from __future__ import annotations

import pytest

from cluster.recipe import load_recipe
from docs import quantities, scaling
from docs.quantities import (
    ITEM_BYTES,
    RANGE_DOCUMENTS,
    RECIPE,
    SHARD_BYTES,
    checkpoint_bytes,
    driver_bytes,
    makespan,
    planned,
    step_seconds,
    value,
)
from ground.errors import UserError
from pipelines import curate, rank
from pipelines.config import CurationConfig


def test_the_page_is_up_to_date() -> None:
    page = scaling.PAGE.read_text()
    assert page == scaling.renewed(page), "run `python -m docs.scaling`"
    assert all(f"<!-- numbers: {name} -->" in page for name in scaling.BLOCKS)


def test_constants_are_the_products_own() -> None:
    assert ITEM_BYTES == curate._LARGEST_ITEM
    assert RANGE_DOCUMENTS == rank._RANGE_DOCUMENTS
    assert CurationConfig().shard_bytes == SHARD_BYTES


def test_the_published_batch_does_not_serve_512_workers() -> None:
    with pytest.raises(UserError, match="192 sequences, which 512 workers"):
        load_recipe(RECIPE, ["training.workers=512"])


def test_steps_take_as_long_as_the_plan_says() -> None:
    for gpus in (16, 512):
        estimate = planned(gpus).estimate
        assert step_seconds(gpus) * estimate.steps * gpus * 989e12 * 0.4 == pytest.approx(estimate.flops)
    assert checkpoint_bytes() == pytest.approx(14 * 8.03e9, rel=1e-3)


def test_more_cores_help_until_items_run_out() -> None:
    text = 40 * float(ITEM_BYTES)
    work = text / 1e6 / value("filtered_mb_s")
    spans = [makespan(text, cores) for cores in (1, 4, 40, 400)]
    assert spans[0] == pytest.approx(work, rel=0.1)
    assert spans[0] > spans[1] > spans[2] >= spans[3]
    assert all(span > work / cores for span, cores in zip(spans, (1, 4, 40, 400), strict=True) if cores > 1)


def test_the_drivers_items_grow_with_the_square() -> None:
    assert driver_bytes(2e9, 2e6, 1e10) == pytest.approx(4 * driver_bytes(1e9, 1e6, 5e9))


def test_every_number_says_where_it_is_from() -> None:
    assert not quantities.MEASURED.keys() & quantities.ASSUMED.keys()
    for name, (number, unit, what) in (quantities.MEASURED | quantities.ASSUMED).items():
        assert number > 0 and unit and len(what) > 7, name
