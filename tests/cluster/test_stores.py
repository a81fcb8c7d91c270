"""A recipe whose token store is at a URL: made here, published, read by every command through the node's cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.recipe import load_recipe
from cluster.run_folder import read_job
from cluster.stores import store_of
from ground.errors import CorruptError, UserError
from pipelines.store import TokenStore
from pipelines.store_remote import publish
from tests.cluster.test_bad_input import assert_one_line
from tests.helpers.recipes import run_steady, small_recipe


def far_recipe(folder: Path, **changes: object) -> tuple[Path, str]:
    """A recipe that reads from a URL, at which its store is when it was made here."""
    url = f"file://{folder / 'bucket' / 'store'}"
    curation = {"train_tokenizer": {"vocabulary": 300}, "heldout_fraction": 0.1, "store": url}
    path = small_recipe(folder, curation=curation, cluster={"cache_folder": str(folder / "cache")}, **changes)
    if (folder / "work" / "store").is_dir():
        publish(TokenStore.open(folder / "work" / "store"), url)
        (folder / "work" / "store").rename(folder / "own")
    return path, url


def test_the_store_is_the_same_there(tmp_path: Path) -> None:
    path, url = far_recipe(tmp_path)
    recipe = load_recipe(path)
    far, own = store_of(recipe, verify=True), TokenStore.open(tmp_path / "own")
    assert (far.digest, far.location) == (own.digest, url)
    assert (far.window("med", 3, 64) == own.window("med", 3, 64)).all()
    assert recipe.store_folder == tmp_path / "work" / "store"  # where curation makes it


def test_a_plan_reads_the_manifest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = far_recipe(tmp_path)
    ran = run_steady(monkeypatch, capsys, "plan", str(path))
    assert ran.code == 0, ran.err
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["stores"]


def test_without_a_cache_or_a_store_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, url = far_recipe(tmp_path)
    ran = run_steady(monkeypatch, capsys, "plan", str(path), "cluster.cache_folder=null")
    assert_one_line(ran, "curation.store", url, "set cluster.cache_folder")
    ran = run_steady(monkeypatch, capsys, "plan", str(path), f"curation.store={url}-not")
    assert_one_line(ran, "curation.store", "there is no complete store at", "publish")
    ran = run_steady(monkeypatch, capsys, "plan", str(path), "work=s3://bucket/work")
    assert_one_line(ran, "work", "is a URL", "give a folder")


def test_another_store_is_not_overwritten(tmp_path: Path) -> None:
    _, url = far_recipe(tmp_path)
    small_recipe(tmp_path / "other")
    other = tmp_path / "bucket" / "store"
    (other / "COMPLETE").write_text("another\n")
    with pytest.raises(UserError, match=r"^curation.store: .* holds another store"):
        publish(TokenStore.open(tmp_path / "own"), url)
    with pytest.raises(CorruptError):
        store_of(load_recipe(tmp_path / "recipe.yaml"))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_from_corpora_to_an_exported_model(tmp_path: Path) -> None:
    path, url = far_recipe(tmp_path, with_store=False)
    for arguments in (["curate"], ["train"], ["report"], ["mix", "--to", str(tmp_path / "mixture")]):
        command = [sys.executable, "-m", "cluster", arguments[0], str(path), *arguments[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-3000:])
        if arguments == ["curate"]:
            assert f"store {url}, digest" in done.stdout
            (tmp_path / "work" / "store").rename(tmp_path / "own")  # from here on only the URL has it
    run = tmp_path / "work" / "runs" / "small"
    job, store = read_job(run)
    assert (job.store, store.digest) == (url, TokenStore.open(tmp_path / "own").digest)
    command = [sys.executable, "-m", "cluster", "export", str(run), "--to", str(tmp_path / "exported")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "exported" / "model.safetensors").is_file()
