"""A section is frozen, closed, and its field docstrings are its documentation."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ground.config import Section


class Example(Section):
    size: int = 3
    """How large."""


def test_values_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Example().size = 4


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Example.model_validate({"sise": 4})


def test_docstrings_under_fields_are_descriptions() -> None:
    assert Example.model_fields["size"].description == "How large."
