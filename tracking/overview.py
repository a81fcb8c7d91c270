"""The first page of an experiment: which columns and charts MLflow shows of its runs, without a click.

MLflow keeps a view that somebody shared as a tag of the experiment, and opens it by its key. That tag is written here for
the questions of a mixture: what was learnt, what was forgotten, how deep the gap was, at what price. Its filter leaves out
parents and curations, and its order, by the first loss, keeps MLflow from folding the runs under their parent.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

VIEW = "steady"
"""Key of the view; ``...?viewStateShareKey=steady`` opens it."""
_TAG = "mlflow.sharedViewState."
_FILTER = "tags.`steady.kind` = 'run'"
_MOST_SOURCES = 8
_PARAMS = ("mixture.subset_tokens", "mixture.epochs", "training.learning_rate")
_LOSSES, _GAPS = "steady-losses", "steady-gaps"
_LINE = {
    "type": "LINE",
    "lineSmoothness": 0,
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}
"""What MLflow's own line charts begin with."""


def overview_tags(roles: Mapping[str, str]) -> dict[str, str]:
    """The experiment's tag that holds the view.

    Args:
        roles: source -> ``domain``, ``general`` or ``reference``. Domain sources come first, eight sources at most.
    """
    measured = sorted((name for name in roles if roles[name] != "reference"), key=lambda name: roles[name] != "domain")
    losses = [f"heldout/{name}/loss" for name in measured[:_MOST_SOURCES]]
    gaps = [f"gap/{name}/depth" for name in measured[:_MOST_SOURCES] if roles[name] != "domain"]
    metrics = [*losses, *gaps, "train/tokens_per_second"]
    view = {
        "selectedColumns": [*(f"metrics.`{name}`" for name in metrics), *(f"params.`{name}`" for name in _PARAMS)],
        "searchFilter": _FILTER,
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": True,
        "compareRunSections": [_section(_LOSSES, "Held-out loss, by tokens"), _section(_GAPS, "Stability gap, depth")],
        "compareRunCharts": [
            *(_chart(_LOSSES, name, **_LINE) for name in losses),
            *(_chart(_GAPS, name, type="BAR") for name in gaps),
        ],
        "isAccordionReordered": True,  # else MLflow sorts the sections by name
    }
    return {_TAG + VIEW: _packed(view)}


def overview_path(experiment_id: str, *, charts: bool = False) -> str:
    """The page's address below that of the server.

    Args:
        charts: open it on the charts instead of the table.
    """
    # MLflow 3 opens an experiment in pages for agents unless told otherwise.
    path = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
    return f"{path}&compareRunsMode=CHART" if charts else path


def with_link(description: str, experiment_id: str, labels: Mapping[str, str]) -> str:
    """The description of an experiment, in Markdown, with links to the view if ``labels`` hold one."""
    if _TAG + VIEW not in labels:
        return description
    table, charts = overview_path(experiment_id), overview_path(experiment_id, charts=True)
    return f"{description}\n\nAll runs side by side: [table]({table}), [curves]({charts})".strip()


def _section(key: str, title: str) -> dict[str, Any]:
    return {"uuid": key, "name": title, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}


def _chart(section: str, metric: str, **fields: Any) -> dict[str, Any]:
    common = {"uuid": f"{section}-{metric}", "metricSectionId": section, "metricKey": metric, "displayName": metric}
    return {**common, "runsCountToCompare": 10, "deleted": False, "isGenerated": False, **fields}


def _packed(view: Mapping[str, Any]) -> str:
    """As MLflow packs long views: a tag holds 5,000 characters."""
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(view).encode(), 9)).decode()
