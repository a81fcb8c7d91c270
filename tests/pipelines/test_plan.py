"""The plan's laws: shares in every prefix, no repeat within an epoch, nothing but the arguments decides a batch."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ground.errors import UserError
from pipelines.config import MixtureConfig
from pipelines.interleave import MAX_PERIOD
from pipelines.plan import Batch, Plan, SourceSize

L = 8
LLAMA = {"web": 0.82, "code": 0.045, "wiki": 0.045, "books": 0.045, "papers": 0.025, "answers": 0.02}


def sizes(**sequences: int) -> dict[str, SourceSize]:
    """Sources of so many sequences; names that begin with ``d`` are domain sources."""
    return {n: SourceSize("domain" if n[0] == "d" else "general", s * L + 3) for n, s in sequences.items()}


def build(sizes_: dict[str, SourceSize], batch: int = 4, seed: int = 7, **mixture: Any) -> Plan:
    mixture.setdefault("max_repetition", 10_000)
    return Plan(sizes_, MixtureConfig(**mixture), sequence_length=L, batch_sequences=batch, seed=seed)


def whole(plan: Plan) -> Batch:
    """Every position of the run that belongs to a full batch."""
    return plan.at(np.arange(plan.steps * plan.batch_sequences))


def ids(batch: Batch, source: int) -> NDArray[np.int64]:
    mine: NDArray[np.int64] = batch.sequence[batch.source == source]
    return mine


def epochs_of(plan: Plan, source: int) -> list[list[int]]:
    """Sequence ids of one source in every full epoch."""
    size = plan.epoch_sequences
    return [
        ids(plan.at(np.arange(e * size, (e + 1) * size)), source).tolist() for e in range(plan.total_sequences // size)
    ]


@st.composite
def plans(draw: st.DrawFn, redraw: str | None = None, general: bool = True) -> Plan:
    """Any small plan that is allowed: one to three domain sources, up to two general ones."""
    domain = draw(st.integers(1, 3))
    generals = draw(st.integers(0, 2)) if general else 0
    weights = draw(st.lists(st.integers(1, 9), min_size=domain + generals, max_size=domain + generals))
    names = [f"d{i}" for i in range(domain)] + [f"g{i}" for i in range(generals)]
    has = {name: draw(st.integers(30, 200) if name[0] == "d" else st.integers(1, 60)) for name in names}
    shares = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    subset = draw(st.none() | st.integers(5, min(has[name] for name in names if name[0] == "d") - 2))
    return build(
        sizes(**has),
        batch=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 1000)),
        shares=draw(st.sampled_from([shares, None])) if not generals else shares,
        subset_tokens=None if subset is None else subset * L,
        epochs=draw(st.sampled_from([1, 2, 2.5, 4.3])),
        redraw=redraw or draw(st.sampled_from(["once", "epoch", "cycle"])),
        select=draw(st.sampled_from(["quality", "random"])),
    )


@given(plans())
def test_every_prefix_is_within_one_sequence_of_its_share(plan: Plan) -> None:
    source = whole(plan).source
    position = np.arange(1, len(source) + 1)
    for index, name in enumerate(plan.sources):
        assert abs(np.cumsum(source == index) - plan.shares[name] * position).max() < 1
        assert abs(plan.shares[name] - plan.requested_shares[name]) <= 1 / MAX_PERIOD


def test_published_shares_are_exact_in_every_prefix() -> None:
    shares = {"d": 0.5} | {name: share / 2 for name, share in LLAMA.items()}
    plan = build(sizes(d=2000, **dict.fromkeys(LLAMA, 4000)), shares=shares, batch=40, epochs=2)
    assert plan.shares == pytest.approx(shares, abs=1e-15)
    source = whole(plan).source
    position = np.arange(1, len(source) + 1)
    for index, name in enumerate(plan.sources):
        assert abs(np.cumsum(source == index) - shares[name] * position).max() < 1


@given(plans())
def test_sequences_exist_and_no_epoch_visits_a_domain_sequence_twice(plan: Plan) -> None:
    run, epoch = whole(plan), np.arange(plan.steps * plan.batch_sequences) // plan.epoch_sequences
    for index, name in enumerate(plan.sources):
        mine = run.source == index
        assert run.sequence[mine].min(initial=0) >= 0
        assert run.sequence[mine].max(initial=0) < plan.describe()["sources"][name]
        if plan.roles[name] == "domain":
            visits = Counter(zip(epoch[mine].tolist(), run.sequence[mine].tolist(), strict=True))
            assert not visits or max(visits.values()) == 1


@given(st.sampled_from(["once", "epoch", "cycle"]), st.integers(10, 100), st.integers(1, 6), st.integers(0, 50))
def test_the_best_subset_is_the_first_sequences(redraw: str, pool: int, epochs: int, seed: int) -> None:
    mixture: dict[str, Any] = {
        "shares": {"d": 0.3, "g": 0.7},
        "subset_tokens": pool * L + 5,
        "epochs": epochs,
        "redraw": redraw,
    }
    plan = build(sizes(d=100, g=50), batch=1, seed=seed, **mixture)
    assert plan.epoch_sequences == pool
    assert plan.total_sequences == pool * epochs
    assert ids(whole(plan), 0).max() < pool


@given(st.sampled_from(["once", "epoch", "cycle"]), st.integers(10, 80), st.integers(0, 50))
def test_a_random_subset_is_one_set_spread_over_the_source(redraw: str, pool: int, seed: int) -> None:
    mixture: dict[str, Any] = {"subset_tokens": pool * L, "epochs": 3, "redraw": redraw, "select": "random"}
    plan = build(sizes(d=400), batch=1, seed=seed, **mixture)
    chosen = {frozenset(epoch) for epoch in epochs_of(plan, 0)}
    (subset,) = chosen
    assert len(subset) == pool
    assert max(subset) >= pool


def test_several_domain_sources_share_the_subset_best_first() -> None:
    plan = build(sizes(d1=100, d2=100, g=10), shares={"d1": 0.6, "d2": 0.2, "g": 0.2}, subset_tokens=80 * L, epochs=2)
    run = whole(plan)
    assert ids(run, 0).max() <= 60
    assert ids(run, 1).max() <= 20


@given(plans(redraw="once"))
def test_once_takes_the_same_sequences_in_another_order(plan: Plan) -> None:
    # An epoch need not begin at a period of the interleaving, so its part may differ by the bound on two prefixes.
    slack = 1 if len(plan.sources) <= 2 else 2
    for index, name in enumerate(plan.sources):
        if plan.roles[name] != "domain":
            continue
        parts = epochs_of(plan, index)
        for one, other in pairwise(parts):
            small, large = sorted((set(one), set(other)), key=len)
            assert small <= large
            assert len(large) - len(small) <= slack
            if len(small) > 12:
                assert one != other


def test_epoch_draws_afresh_and_covers_the_pool() -> None:
    plan = build(sizes(d=200, g=500), shares={"d": 0.3, "g": 0.7}, epochs=20, redraw="epoch")
    parts = [set(part) for part in epochs_of(plan, 0)]
    assert all(len(part) == 60 for part in parts)
    common = [len(one & other) for one, other in pairwise(parts)]
    assert 10 < np.mean(common) < 26  # 0.3 * 60 = 18 expected
    assert len(set.union(*parts)) == 200  # missed with probability 0.7^20


@given(plans(redraw="cycle"))
def test_cycle_keeps_exposure_even_in_every_prefix(plan: Plan) -> None:
    run = whole(plan)
    for index, name in enumerate(plan.sources):
        if plan.roles[name] != "domain":
            continue
        pool, visits = plan._pools[name], Counter[int]()
        for number, sequence in enumerate(ids(run, index).tolist()):
            assert visits[sequence] == number // pool
            visits[sequence] += 1
        assert len(visits) <= pool


def test_cycle_orders_each_round_anew() -> None:
    first, second, third = epochs_of(build(sizes(d=50), epochs=3, redraw="cycle"), 0)
    assert set(first) == set(second) == set(third)
    assert first != second != third != first


@given(st.integers(1, 40), st.integers(2, 60), st.integers(0, 99))
def test_general_text_repeats_only_when_exhausted(available: int, epochs: int, seed: int) -> None:
    plan = build(sizes(d=20, g=available), shares={"d": 0.5, "g": 0.5}, epochs=epochs, seed=seed)
    visited = ids(whole(plan), 1)
    rounds = [visited[i : i + available].tolist() for i in range(0, len(visited), available)]
    assert all(len(set(round_)) == len(round_) for round_ in rounds)
    full = [round_ for round_ in rounds if len(round_) == available]
    assert all(set(round_) == set(range(available)) for round_ in full)
    if available > 12 and len(full) > 1:
        assert full[0] != full[1]


@given(plans(), st.data())
def test_resuming_anywhere_equals_the_tail_of_the_whole_run(plan: Plan, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, plan.steps - 1))
    again = Plan(
        {n: SourceSize(plan.roles[n], s * L) for n, s in plan.describe()["sources"].items()},
        plan.mixture.model_copy(update={"subset_tokens": plan.epoch_sequences * L, "shares": plan.requested_shares}),
        sequence_length=L,
        batch_sequences=plan.batch_sequences,
        seed=plan.seed,
    )
    run = whole(plan)
    for step in range(start, min(start + 5, plan.steps)):
        here = slice(step * plan.batch_sequences, (step + 1) * plan.batch_sequences)
        batch = again.batch(step)
        assert (batch.source == run.source[here]).all()
        assert (batch.sequence == run.sequence[here]).all()


@given(plans(), st.data())
def test_many_batches_are_the_single_ones_stacked(plan: Plan, data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(0, plan.steps - 1), min_size=1, max_size=30))
    many = plan.batches(np.array(steps))
    single = [plan.batch(step) for step in steps]
    assert (many.source == np.stack([batch.source for batch in single])).all()
    assert (many.sequence == np.stack([batch.sequence for batch in single])).all()


def test_many_batches_cross_the_working_chunks() -> None:
    plan = build(sizes(d=50_000, g=9000), shares={"d": 0.7, "g": 0.3}, batch=500, epochs=2)
    steps = np.arange(plan.steps)[::-1].copy()
    assert (plan.batches(steps).sequence == np.stack([plan.batch(step).sequence for step in steps.tolist()])).all()


@given(plans())
def test_reported_use_is_what_the_run_does(plan: Plan) -> None:
    run = whole(plan)
    assert sum(use.tokens for use in plan.use()) == plan.total_tokens == len(run.source) * L
    for index, use in enumerate(plan.use()):
        mine = ids(run, index)
        assert use.tokens == len(mine) * L
        unique = use.unique_tokens / L
        if use.role == "general" or plan.mixture.redraw == "cycle":
            assert unique == len(np.unique(mine))
        elif plan.mixture.redraw == "once":
            assert abs(unique - len(np.unique(mine))) <= 2
        else:  # an expectation; four standard deviations of independent draws
            assert abs(unique - len(np.unique(mine))) <= 4 * np.sqrt(unique) + 1


def test_seeds_and_names_choose_the_order() -> None:
    mixture: dict[str, Any] = {"shares": {"d": 0.5, "g": 0.5}}
    one, other = (ids(whole(build(sizes(d=99, g=99), seed=seed, **mixture)), 0).tolist() for seed in (1, 2))
    assert one != other
    run = whole(build(sizes(d=99, g=99), **mixture))
    assert ids(run, 0).tolist() != ids(run, 1).tolist()


def test_literal_first_batches() -> None:
    """Changing these numbers breaks the resumption of every run in the world: raise the store or job format with it."""
    mixture: dict[str, Any] = {"shares": {"d": 0.4, "g": 0.6}, "subset_tokens": 50 * L, "epochs": 4}
    got = {}
    for redraw in ("once", "epoch", "cycle"):
        for select in ("quality", "random"):
            plan = build(sizes(d=100, g=30), batch=10, seed=17, redraw=redraw, select=select, **mixture)
            got[redraw, select] = [plan.batch(step).sequence.tolist() for step in (0, 12)]
    assert plan.batch(0).source.tolist() == [1, 0, 1, 0, 1, 1, 0, 1, 0, 1]
    assert got == {
        ("once", "quality"): [[22, 40, 3, 48, 17, 7, 39, 12, 29, 29], [25, 5, 14, 17, 11, 7, 48, 6, 29, 12]],
        ("once", "random"): [[22, 10, 3, 9, 17, 7, 77, 12, 19, 29], [25, 69, 14, 2, 11, 7, 9, 6, 19, 12]],
        ("epoch", "quality"): [[22, 43, 3, 40, 17, 7, 46, 12, 48, 29], [25, 31, 14, 45, 11, 7, 15, 6, 6, 12]],
        ("epoch", "random"): [[22, 88, 3, 10, 17, 7, 33, 12, 9, 29], [25, 71, 14, 67, 11, 7, 8, 6, 55, 12]],
        ("cycle", "quality"): [[22, 0, 3, 25, 17, 7, 31, 12, 47, 29], [25, 6, 14, 1, 11, 7, 5, 6, 17, 12]],
        ("cycle", "random"): [[22, 66, 3, 72, 17, 7, 71, 12, 54, 29], [25, 55, 14, 91, 11, 7, 69, 6, 2, 12]],
    }


def test_a_trillion_tokens_cost_no_memory() -> None:
    has = {"d": SourceSize("domain", 700 * 10**9), "g": SourceSize("general", 10**12)}
    mixture = MixtureConfig(subset_tokens=500 * 10**9, epochs=2, shares={"d": 0.301, "g": 0.699})
    tracemalloc.start()
    plan = Plan(has, mixture, sequence_length=4096, batch_sequences=512, seed=3)
    steps = np.random.default_rng(0).integers(0, plan.steps, 100)
    batches = plan.batches(steps)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.total_tokens > 0.9999 * 10**12
    assert batches.sequence.shape == (100, 512)
    assert peak < 4 << 20
    last = plan.batch(plan.steps - 1)
    assert last.sequence[last.source == 0].max() < 500 * 10**9 // 4096


def test_steps_outside_the_run_are_refused() -> None:
    plan = build(sizes(d=21), batch=2)
    assert plan.steps == 10
    for step in (-1, 10):
        with pytest.raises(IndexError, match=r"outside 0\.\.9"):
            plan.batch(step)


@pytest.mark.parametrize("epochs", [1, 3])
def test_without_a_subset_all_domain_text_is_used(epochs: int) -> None:
    for shares in (None, {"d1": 0.35, "d2": 0.25, "g": 0.4}):
        plan = build(sizes(d1=700, d2=300, g=900), shares=shares, epochs=epochs)
        assert plan.epoch_tokens == (700 + 300) * L + 6
        for use in plan.use():
            has = plan.describe()["sources"][use.name]
            if shares is None:
                assert 0.97 * has <= use.unique_tokens / L <= has


@pytest.mark.parametrize(
    ("has", "mixture", "field", "words"),
    [
        ({"d": 50}, {"shares": {"d": 0.5, "x": 0.5}}, "mixture.shares.x", "no source of the store"),
        ({"d": 50, "g": 50}, {"shares": {"d": 0.5, "g": 0.4}}, "mixture.shares", "sum to 0.9"),
        ({"d": 50}, {"subset_tokens": 60 * L}, "mixture.subset_tokens", "lower it to at most"),
        (
            {"d1": 50, "d2": 50},
            {"subset_tokens": 99 * L, "shares": {"d1": 0.9, "d2": 0.1}},
            "mixture.subset_tokens",
            "'d1'",
        ),
        ({"g": 50}, {}, "mixture.shares", "no domain source"),
        ({"g": 50}, {"shares": {"g": 1.0}}, "mixture.subset_tokens", "no domain source"),
        ({"d": 50}, {"subset_tokens": 3 * L}, "mixture", "less than one global batch"),
        ({"d": 50, "g": 0}, {"shares": {"d": 0.5, "g": 0.5}}, "mixture.shares.g", "less than one sequence"),
        ({"d": 0}, {}, "mixture.shares.d", "less than one sequence"),
        ({"d": 50}, {"epochs": 3, "max_repetition": 2}, "mixture.max_repetition", "'d' would be seen 3.0 times"),
        ({"d": 50, "g": 5}, {"shares": {"d": 0.5, "g": 0.5}, "max_repetition": 4}, "mixture.max_repetition", "'g'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(has: dict[str, int], mixture: Any, field: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        build(sizes(**has), **mixture)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def test_a_source_without_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="has no tokens in the store"):
        build(sizes(d=50) | {"g": SourceSize("general", 0)}, shares={"d": 0.5, "g": 0.5})


@given(st.integers(30, 60), st.integers(30, 60))
def test_the_named_largest_subset_is_accepted(one: int, other: int) -> None:
    has = sizes(d1=one, d2=other)
    with pytest.raises(UserError) as caught:
        build(has, subset_tokens=1000 * L, shares={"d1": 0.3, "d2": 0.7})
    largest = int(caught.value.mend.split()[5].replace(",", ""))
    assume(largest > 0)
    name = "d1" if "'d1'" in caught.value.problem else "d2"
    try:
        build(has, subset_tokens=largest, shares={"d1": 0.3, "d2": 0.7})
    except UserError as error:
        assert f"{name!r}" not in error.problem  # the other source may be the tighter one


def test_a_limit_on_repetition_can_be_raised() -> None:
    mixture: dict[str, Any] = {"shares": {"d": 0.5, "g": 0.5}, "epochs": 2}
    assert build(sizes(d=50, g=5), max_repetition=10, **mixture).use()[1].repetition == 10
