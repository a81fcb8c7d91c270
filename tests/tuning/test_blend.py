"""One share becomes the sources' shares, the sources' losses become two metrics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.config import MixtureConfig
from pipelines.plan import SourceSize
from tuning.blend import Blend, blend_of, check_metric, mixture_of
from tuning.config import ObjectiveConfig
from tuning.space import Point

SIZES = {
    "med": SourceSize("domain", 300),
    "trial": SourceSize("domain", 100),
    "wiki": SourceSize("general", 900),
    "code": SourceSize("general", 100),
    "ref": SourceSize("reference", 50),
}


@given(st.floats(0, 1))
def test_shares_sum_to_one_and_keep_the_proportions(share: float) -> None:
    shares = blend_of(SIZES, None).shares(share)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(part > 0 for part in shares.values())
    if share > 0.01:
        assert shares["med"] == pytest.approx(3 * shares["trial"])
    if share < 0.99:
        assert shares["wiki"] == pytest.approx(9 * shares["code"])
    if share == 1:
        assert set(shares) == {"med", "trial"}


def test_the_recipes_own_shares_are_the_proportions() -> None:
    blend = blend_of(SIZES, {"med": 0.5, "wiki": 0.3, "code": 0.2})
    assert blend.domain == {"med": 1.0}
    assert blend.general == {"code": pytest.approx(0.4), "wiki": pytest.approx(0.6)}
    mixture = mixture_of(Point(64, 4.0, 0.8), blend, MixtureConfig(redraw="cycle"))
    assert mixture.shares == {"med": 0.8, "wiki": pytest.approx(0.12), "code": pytest.approx(0.08)}
    assert (mixture.subset_tokens, mixture.epochs, mixture.redraw) == (64, 4.0, "cycle")


def test_a_mixture_needs_both_roles() -> None:
    with pytest.raises(UserError, match="no general source"):
        blend_of(SIZES, {"med": 1.0})
    with pytest.raises(UserError, match="no domain source"):
        blend_of({"wiki": SIZES["wiki"]}, None)


def test_metrics_are_weighted_means_of_what_was_measured() -> None:
    blend = Blend({"med": 1.0}, {"wiki": 0.75, "code": 0.25})
    measured = {"heldout/med/loss": 2.0, "heldout/wiki/loss": 3.0, "heldout/code/loss": 1.0, "train/loss": 9.0}
    assert blend.metrics(measured, ObjectiveConfig()) == {"domain_loss": 2.0, "general_loss": 2.5}
    del measured["heldout/code/loss"]
    assert blend.metrics(measured, ObjectiveConfig())["general_loss"] == 3.0
    other = ObjectiveConfig(domain_metric="train/loss", general_metric="heldout/wiki/loss")
    assert blend.metrics(measured, other) == {"train/loss": 9.0, "heldout/wiki/loss": 3.0}
    assert blend.metrics({"train/loss": 9.0}, ObjectiveConfig()) == {}


def test_a_metric_that_no_trial_logs_is_refused() -> None:
    check_metric("heldout/wiki/loss", "f", SIZES, None)
    with pytest.raises(UserError, match="heldout/med/loss"):
        check_metric("heldout/wikipedia/loss", "tuning.objective.general_metric", SIZES, None)
    with pytest.raises(UserError, match="'heldout/wiki/loss' is a metric that no trial logs"):
        check_metric("heldout/wiki/loss", "f", SIZES, ("med",))
