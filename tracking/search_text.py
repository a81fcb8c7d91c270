"""How a search's report writes numbers and names."""

from __future__ import annotations

from tracking.figures import NONE, count
from tracking.search_data import SearchData
from tracking.search_parts import Estimate, Knobs


def spelled(metric: str) -> str:
    """A metric's name as words."""
    return metric.replace("_", " ")


def labelled(data: SearchData, metric: str) -> str:
    """A metric's name and unit, for an axis."""
    return f"{spelled(metric)}, {data.unit}" if data.unit else spelled(metric)


def fine(value: float | None) -> str:
    """A metric with four decimals: recipes near the best differ in the third."""
    return NONE if value is None else f"{value:.4f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference; what rounds to nothing has no sign."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else ("+" if value > 0 else "\u2212") + text


def with_error(estimate: Estimate | None) -> str:
    """A mean and its standard deviation, with three or more decimals."""
    if estimate is None:
        return NONE
    digits = 4 if estimate.sd < 0.01 else 3
    return f"{estimate.mean:.{digits}f}\u00a0\u00b1\u00a0{estimate.sd:.{digits}f}"


def chance(value: float) -> str:
    """A probability; draws cannot tell 1 from nearly 1."""
    return "> 0.99" if value > 0.995 else "< 0.01" if value < 0.005 else f"{value:.2f}"


def rate(value: float | None) -> str:
    """A learning rate."""
    if value is None:
        return "the recipe\u2019s own"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e\u2212{abs(int(exponent))}" if int(exponent) < 0 else f"{value:g}"


def epochs(value: float) -> str:
    """Epochs with three digits at most."""
    return f"{value:.3g}"


def share(value: float) -> str:
    """A share as a number between 0 and 1."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def knobs(found: Knobs) -> str:
    """A recipe in one line."""
    parts = [f"S {count(found.subset_tokens)}", f"{epochs(found.epochs)} epochs", f"share {share(found.share)}"]
    return ", ".join(parts + ([f"rate {rate(found.learning_rate)}"] if found.learning_rate is not None else []))


def listed(words: list[str], most: int = 6) -> str:
    """``a, b and c``; beyond ``most`` the rest is counted."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def objective(data: SearchData) -> str:
    """The number the search lowers."""
    if data.kind == "pareto":
        return spelled(data.domain_metric)
    return (
        f"{spelled(data.domain_metric)} plus {data.penalty:g} \u00d7 what {spelled(data.general_metric)} exceeds "
        "its tolerance by"
    )
