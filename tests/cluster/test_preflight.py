"""What is found out before a job is uploaded: size, versions, storage, files, MLflow."""

from __future__ import annotations

import json
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import cli, preflight, probe
from cluster.doctor_lines import installed
from cluster.job_command import JobCommand, parse
from cluster.preflight import EXCLUDES, MOST_UPLOADED, judge_nodes, judge_upload, questions, upload_bytes
from tests.helpers.recipes import small_recipe

Names = st.text(st.characters(codec="utf-8", exclude_characters="/\0\\", exclude_categories=("Cs", "Cc")), min_size=1)


def _command(folder: Path, *arguments: str, **changes: Any) -> JobCommand:
    (folder / "project").mkdir(exist_ok=True)
    small_recipe(folder / "project", work=str(folder / "shared"), with_store=False, **changes)
    return parse(cli.app, [arguments[0], str(folder / "project" / "recipe.yaml"), *arguments[1:]], folder / "project")


def _node(name: str = "a", **changes: Any) -> dict[str, Any]:
    packages = {package: installed(package) for package in preflight.PACKAGES}
    storage = {"made": [], "error": "", "free": 1 << 40}
    whole = {"node": name, "python": preflight.python_version(), "packages": packages, "storage": storage}
    return whole | {"tracking": "", "missing": []} | changes


def _look(*nodes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = {"nodes": list(nodes), "unseen": {}, "silent": [], "resources": {"CPU": 8.0, "GPU": 0.0}}
    return found | changes


def _broken(look: dict[str, Any], command: JobCommand) -> dict[str, tuple[str, str]]:
    findings = judge_nodes(look, command, questions(command, "x"))
    return {finding.what: (finding.found, finding.mend) for finding in findings if finding.level == "broken"}


@given(st.dictionaries(Names, st.integers(0, 3000), min_size=1, max_size=5))
def test_the_size_is_that_of_the_archive(files: dict[str, int]) -> None:
    import io

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, size in files.items():
            writer.writestr(zipfile.ZipInfo(name), bytes(size))
    assert upload_bytes(files) == len(archive.getvalue())


def test_a_large_upload_is_refused_and_its_largest_files_are_named(tmp_path: Path) -> None:
    command = _command(tmp_path, "train")
    listing = {"recipe.yaml": 900, "a.bin": MOST_UPLOADED // 2, "b.bin": MOST_UPLOADED // 2, "c.bin": 5 << 20}
    (finding,) = judge_upload(listing, command, tmp_path)
    assert finding.level == "broken"
    assert "110.1 MB of the 104.9 MB" in finding.found
    assert "a.bin 52.4 MB, b.bin 52.4 MB, c.bin 5.2 MB" in finding.found and ".rayignore" in finding.mend
    del listing["b.bin"]
    assert judge_upload(listing, command, tmp_path)[0].level == "ok"


def test_what_ray_would_upload_is_listed(tmp_path: Path) -> None:
    from cluster.submit import upload_listing

    kept = ("recipe.yaml", "corpora/med.jsonl", "models/base/config.json")
    ignored = ("data/big.bin", "notes.log", ".venv/bin/python", ".git/HEAD", ".env", "keys/head.pem", ".steady/x/store")
    for name in (*kept, *ignored):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".rayignore").write_text("data/\n")
    (tmp_path / ".gitignore").write_text("*.log\n")
    assert sorted(upload_listing(tmp_path, EXCLUDES)) == sorted([*kept, ".gitignore", ".rayignore"])


def test_what_the_recipe_names_must_be_uploaded(tmp_path: Path) -> None:
    sources = {
        "med": {"role": "domain", "paths": ["corpora/*.jsonl"]},
        "wiki": {"role": "general", "paths": ["corpora/wiki.jsonl"]},
    }
    command = _command(tmp_path, "curate", sources=sources)
    listing = {"recipe.yaml": 1, "corpora/med.jsonl": 1, "corpora/wiki.jsonl": 1, "corpora/ref.jsonl": 1}
    project = tmp_path / "project"
    assert [f.level for f in judge_upload(listing, command, project)] == ["ok"]
    del listing["corpora/med.jsonl"]
    missing = [f.found for f in judge_upload(listing, command, project) if f.level == "broken"]
    assert missing == ["corpora/med.jsonl is not uploaded: .gitignore, .rayignore or a default leaves it out"]
    # Training reads the store, not the corpora.
    assert [f.level for f in judge_upload(listing, _command(tmp_path, "train", sources=sources), project)] == ["ok"]


def test_a_cluster_like_this_machine_is_fine(tmp_path: Path) -> None:
    command = _command(tmp_path, "train", "training.workers=2")
    assert _broken(_look(_node("a"), _node("b")), command) == {}


def test_versions_must_agree_among_the_nodes_and_exist(tmp_path: Path) -> None:
    command = _command(tmp_path, "train")
    other = _node("b")
    other["packages"] = other["packages"] | {"torch": "1.0", "deepspeed": None}
    found, _ = _broken(_look(_node("a"), other), command)["versions"]
    assert "deepspeed is missing on b" in found
    assert f"torch is 1.0 on b but {installed('torch')} on a" in found
    assert "older than 3.11" in _broken(_look(_node(python="3.9.1")), command)["versions"][0]
    elsewhere = _node()
    elsewhere["packages"] = elsewhere["packages"] | {"torch": "9.9"}
    notes = [f.found for f in judge_nodes(_look(elsewhere), command, questions(command, "x")) if f.level == "note"]
    assert notes == [f"other than here: torch 9.9 (here {installed('torch')})"]


def test_more_workers_than_the_cluster_has_are_refused_with_the_arithmetic(tmp_path: Path) -> None:
    command = _command(tmp_path, "train", "training.workers=8", "training.micro_batch=1", "training.accelerator=gpu")
    found, mend = _broken(_look(_node(), resources={"CPU": 64.0, "GPU": 4.0}), command)["workers"]
    assert found == "8 GPUs are asked for, the cluster has 4" and "training.workers=4" in mend
    assert _broken(_look(_node(), resources={"CPU": 64.0, "GPU": 8.0}), command) == {}
    found, _ = _broken(
        _look(_node(), resources={"CPU": 4.0}),
        _command(tmp_path, "train", "training.workers=8", "training.micro_batch=1"),
    )["workers"]
    assert found == "8 CPUs are asked for, the cluster has 4"


def test_a_work_folder_that_is_not_shared_or_closed_is_refused(tmp_path: Path) -> None:
    command = _command(tmp_path, "train")
    found, mend = _broken(_look(_node("a"), _node("b"), unseen={"a": ["b"]}), command)["work"]
    assert f"{tmp_path / 'shared'} on a does not show what b wrote there" in found and "NFS" in mend
    closed = _node("b", storage={"made": [], "error": "Permission denied", "free": 0})
    assert "cannot be written on b (Permission denied)" in _broken(_look(_node("a"), closed), command)["work"][0]


def test_a_missing_store_or_base_is_named(tmp_path: Path) -> None:
    base = {
        "base": "/nowhere/base",
        "architecture": {
            "hidden_size": 32,
            "layers": 2,
            "heads": 4,
            "kv_heads": 2,
            "intermediate_size": 64,
            "max_positions": 64,
        },
    }
    command = _command(tmp_path, "train", model=base)
    paths = questions(command, "x")["paths"]
    assert paths == ["/nowhere/base", str(tmp_path / "shared" / "store" / "COMPLETE")]
    broken = _broken(_look(_node(missing=paths)), command)
    assert broken["files"][0] == "/nowhere/base is not there on a"
    assert broken["store"][1] == "submit `curate recipe.yaml` first"


def test_a_silent_node_and_a_silent_mlflow_are_named(tmp_path: Path) -> None:
    command = _command(tmp_path, "train", tracking={"uri": "http://mlflow.lab:5000"})
    broken = _broken(_look(_node("a"), _node("b", tracking="Connection refused"), silent=["c"]), command)
    assert "c did not answer" in broken["cluster"][0]
    assert broken["MLflow"][0] == "http://mlflow.lab:5000 does not answer on b (Connection refused)"


def test_a_node_looks_writes_its_mark_and_cleans_up(tmp_path: Path) -> None:
    work = tmp_path / "new" / "work"
    asked = {"packages": ["ray", "no-such-package"], "work": str(work), "mark": "m", "tracking": None,
             "paths": [str(tmp_path), str(tmp_path / "absent")]}  # fmt: skip
    told = json.loads(json.dumps(probe.look(asked, "n1")))
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["packages"]["no-such-package"] is None and told["packages"]["ray"]
    assert told["missing"] == [str(tmp_path / "absent")]
    assert told["storage"]["error"] == "" and told["storage"]["made"] == [str(work), str(work.parent)]
    assert probe.compare(asked, ["n1"]) == []
    probe.clean(asked, "n1", told["storage"]["made"])
    assert list(tmp_path.iterdir()) == []


def test_a_node_does_not_see_what_another_wrote_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_SEEN_SECONDS", 0.0)
    asked = {"packages": [], "work": str(tmp_path), "mark": "m", "tracking": None, "paths": []}
    probe.look(asked, "n1")
    assert probe.compare(asked, ["n1", "n2"]) == ["n2"]
    closed = tmp_path / "file"
    closed.write_text("")
    assert probe.look(asked | {"work": str(closed)}, "n1")["storage"]["error"]


@pytest.mark.parametrize(("code", "told"), [(200, ""), (401, ""), (503, "it answers with 503")])
def test_an_mlflow_that_asks_for_a_password_answers(code: int, told: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    asked = {
        "packages": [],
        "work": None,
        "mark": "",
        "paths": [],
        "tracking": f"http://127.0.0.1:{server.server_port}",
    }
    try:
        assert probe.look(asked, "n")["tracking"] == told
    finally:
        server.shutdown()
        server.server_close()
    assert "refused" in probe.look(asked, "n")["tracking"].lower()
