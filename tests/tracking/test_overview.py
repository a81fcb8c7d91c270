from __future__ import annotations

import base64
import json
import threading
import zlib
from pathlib import Path
from typing import Any

from tracking.overview import VIEW, overview_path, overview_tags
from tracking.runs import Tracker

ROLES = {"wiki": "general", "ref": "reference", "med": "domain", "code": "general"}


def view_of(tags: dict[str, str]) -> dict[str, Any]:
    packed = tags[f"mlflow.sharedViewState.{VIEW}"]
    view: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))
    return view


def test_the_domain_comes_first_and_references_not_at_all() -> None:
    view = view_of(overview_tags(ROLES))
    metrics = [column for column in view["selectedColumns"] if column.startswith("metrics.")]
    losses = [f"metrics.`heldout/{name}/loss`" for name in ("med", "wiki", "code")]
    assert metrics[:5] == [*losses, "metrics.`gap/wiki/depth`", "metrics.`gap/code/depth`"]
    assert view["orderByKey"] == losses[0]
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == sections
    assert [chart["metricKey"] for chart in view["compareRunCharts"] if chart["type"] == "LINE"] == [
        f"heldout/{name}/loss" for name in ("med", "wiki", "code")
    ]


def test_many_sources_fit_into_a_tag() -> None:
    tags = overview_tags({f"source-with-a-long-name-{i}": "general" for i in range(200)})
    assert all(len(value) <= 5000 for value in tags.values())
    assert len([c for c in view_of(tags)["selectedColumns"] if "/loss" in c]) == 8
    assert view_of(overview_tags({}))["orderByKey"] == "metrics.`train/tokens_per_second`"


def test_the_experiment_links_to_its_view(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for _ in range(2):
        tracker = Tracker.open(uri, "demo", description="What for.", tags=overview_tags(ROLES))
        note = tracker.client.get_experiment(tracker.experiment_id).tags["mlflow.note.content"]
        assert note.startswith("What for.\n\n")
        assert note.count(overview_path(tracker.experiment_id, charts=True)) == 1
    plain = Tracker.open(uri, "plain", description="What for.")
    assert plain.client.get_experiment(plain.experiment_id).tags["mlflow.note.content"] == "What for."


def test_many_jobs_open_a_new_experiment_at_once(tmp_path: Path) -> None:
    """Each of them finds no experiment and makes it; all but one are told that it exists."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    Tracker.open(uri, "other")
    together = threading.Barrier(6)
    ids: list[str] = []

    def begin() -> None:
        together.wait()
        ids.append(Tracker.open(uri, "same", description="x", tags=overview_tags(ROLES)).experiment_id)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6 and len(set(ids)) == 1
