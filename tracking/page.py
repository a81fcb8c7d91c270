"""A page that needs nothing else: style, scripts, data and plotly.js inlined. Opened from disk or inside MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_ASSETS = Path(__file__).parent / "assets"

# It may run what it carries and load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def page(heading: str, subtitle: str, body: str, charts: Mapping[str, Any], styles: Sequence[str], script: str) -> str:
    """The page as HTML text, nearly all of it plotly.js.

    Args:
        body: HTML.
        charts: JSON for the script; no number may be infinite or nan.
        styles: names of style sheets in ``assets/``, the later ones win.
        script: name of the script in ``assets/`` that draws the charts.
    """
    from plotly.offline import get_plotlyjs

    payload = json.dumps(charts, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    title = escape(heading)
    sheets = "".join(_asset(name) for name in styles)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<style>
{sheets}</style>
</head>
<body>
<main>
<header><h1>{title}</h1><p>{escape(subtitle)}</p></header>
<noscript><p class="note">The charts need JavaScript; every number is in the tables.</p></noscript>
{body}
</main>
<script type="application/json" id="charts">{payload}</script>
<script>
{_inline(get_plotlyjs())}
</script>
<script>
{_inline(_asset(script))}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """JavaScript that cannot end its own element; in a string ``\\/`` is ``/``."""
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE)
