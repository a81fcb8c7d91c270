"""Which files a source has: Hugging Face datasets as their Arrow files, a choice of files for trials."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ground.errors import UserError
from pipelines.readers import SourceReading, expand_source, huggingface
from tests.pipelines.readers.reading import pairs, read

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
ROWS = {"text": [f"text {i}" for i in range(100)], "id": [str(i) for i in range(100)]}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def expand(*paths: Path | str, **fields: Any) -> list[str]:
    return expand_source(SourceReading(paths=tuple(map(str, paths)), **fields), "sources.mine")


@pytest.mark.parametrize("format_", ["auto", "huggingface"])
def test_saved_datasets(tmp_path: Path, format_: str) -> None:
    whole = datasets.Dataset.from_dict(ROWS)
    whole.save_to_disk(tmp_path / "one", num_shards=3)
    assert len(expand(tmp_path)) == 3
    chosen = whole.select([5, 3, 1])
    datasets.DatasetDict(train=whole, test=chosen).save_to_disk(tmp_path / "two")
    files = expand(tmp_path / "one", format=format_)
    assert [Path(file).name for file in files] == [f"data-0000{i}-of-00003.arrow" for i in range(3)]
    expected = list(zip(ROWS["id"], ROWS["text"], strict=True))
    assert [pair for file in files for pair in pairs(read(file, format=format_))] == expected
    (file,) = expand(tmp_path / "two", format=format_, huggingface_split="test")
    assert pairs(read(file, format=format_)) == [expected[i] for i in (5, 3, 1)]
    (file,) = expand(f"file://{tmp_path}/two", format=format_, huggingface_split="test")
    assert pairs(read(file, format=format_)) == [expected[i] for i in (5, 3, 1)]
    with pytest.raises(
        UserError, match=r"^sources\.mine\.huggingface_split: .* has no split 'dev'; choose one of train, test"
    ):
        expand(tmp_path / "two", format=format_, huggingface_split="dev")
    (tmp_path / "one" / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: the dataset at .* lacks .*data-00001-of-00003\.arrow"):
        expand(tmp_path / "one", format=format_)
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: the dataset at .* cannot be read"):
        expand(tmp_path / "one", format=format_)


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: the dataset at .* cannot be read"):
        expand(tmp_path, format="huggingface")


def test_a_name_becomes_the_files_of_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "cache")
    asked: list[Any] = []

    def load_dataset(*name: Any, **options: Any) -> Any:
        asked.append((name, options))
        return datasets.Dataset.from_file(str(tmp_path / "cache" / "data-00000-of-00001.arrow"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface, "_require_reachable", lambda *_: None)
    fields: dict[str, Any] = {"format": "huggingface", "huggingface_config": "en", "huggingface_split": "test"}
    (file,) = expand("owner/name", **fields)
    assert asked == [(("owner/name", "en"), {"split": "test"})]
    assert len(pairs(read(file, **fields))) == 100


def test_a_hub_that_cannot_be_reached_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        with pytest.raises(
            UserError, match=r"^sources\.mine\.paths: 'owner/name' is no folder, and the .* cannot be reached"
        ):
            expand("owner/name", format="huggingface")


def test_a_name_that_is_not_in_the_cache_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        UserError, match=r"^sources\.mine\.paths: dataset 'owner/name' cannot be loaded \(Couldn't reach"
    ):
        expand("owner/name", format="huggingface")


def test_files_of_many_paths_each_once_and_a_choice_of_them(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.arrow", "c.warc.gz", "d.wet.zst", "e.feather", "f.json", "g.csv"):
        (tmp_path / name).write_bytes(b"")
    files = expand(tmp_path, tmp_path / "*.jsonl")
    assert [Path(file).name for file in files] == [
        "a.jsonl",
        "b.arrow",
        "c.warc.gz",
        "d.wet.zst",
        "e.feather",
        "f.json",
    ]
    chosen = expand(tmp_path, max_files=2)
    assert len(chosen) == 2 and set(chosen) < set(files) and chosen == sorted(chosen)
    assert set(chosen) < set(expand(tmp_path, max_files=3))
    assert expand(tmp_path, max_files=100) == files
