"""Numbers as a reader wants them: ``1.2 M tokens``, ``+0.031``, ``3 min 20 s``. A true minus sign, thin units."""

from __future__ import annotations

import math

NONE = "\u2013"
"""Printed where there is no value."""


def count(value: float | None) -> str:
    """A count with three digits and a unit: 950, 12.3 k, 4.50 M, 1.20 G."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) < 1000:
        return f"{value:.0f}"
    for limit, size, unit in ((1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "G"), (math.inf, 1e12, "T")):
        # 999,950 shall print as 1.00 M, not as 1000 k
        if abs(value) < limit * 0.9995:
            scaled = value / size
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{digits}f} {unit}"
    raise AssertionError("unreachable: the last limit is infinite")


def exact(value: int | None) -> str:
    """A whole number with separators."""
    return NONE if value is None else f"{value:,}"


def loss(value: float | None) -> str:
    """A loss with three decimals."""
    return NONE if value is None else "not finite" if not math.isfinite(value) else f"{value:.3f}"


def change(value: float | None) -> str:
    """A signed difference with three decimals; what rounds to nothing has no sign."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not finite"
    text = f"{abs(value):.3f}"
    return text if float(text) == 0 else ("+" if value > 0 else "\u2212") + text


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent."""
    return NONE if value is None else f"{100 * value:.{digits}f}\u2009%"


def size(value: float) -> str:
    """Bytes with a decimal unit."""
    return (
        "0 B"
        if value == 0
        else count(value).replace(" k", " kB").replace(" M", " MB").replace(" G", " GB").replace(" T", " TB")
        + (" B" if value < 1000 else "")
    )


def duration(seconds: float) -> str:
    """A duration in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
