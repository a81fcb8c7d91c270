"""Paths: globs, folders and files to a sorted list, and one clear line for what matches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ground.errors import UserError
from pipelines.paths import expand_paths


def test_paths_are_expanded_sorted_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.jsonl", "a.jsonl.zst", "sub/c.parquet", "sub/d.txt", "notes.rst", ".hidden/e.txt", "[x].md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")

    def expand(*paths: str) -> list[str]:
        found = expand_paths([str(tmp_path / path) for path in paths], "sources.mine.paths")
        return [Path(path).relative_to(tmp_path).as_posix() for path in found]

    everything = ["[x].md", "a.jsonl.zst", "b.jsonl", "sub/c.parquet", "sub/d.txt"]
    assert expand("") == everything
    assert expand("b.jsonl", "*.jsonl*", "a.jsonl.zst") == ["a.jsonl.zst", "b.jsonl"]
    assert expand("**/*.txt", "notes.rst") == [".hidden/e.txt", "notes.rst", "sub/d.txt"]
    assert expand("[x].md") == ["[x].md"]
    monkeypatch.chdir(tmp_path)
    assert expand_paths(["*.jsonl"], "sources.mine.paths") == ["b.jsonl"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_paths(["~/b.jsonl"], "sources.mine.paths") == [str(tmp_path / "b.jsonl")]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.jsonl", "there is no file 'missing.jsonl'; check the path"),
        ("*.jsonl", "'\\*.jsonl' matches no file; check it; known endings: .jsonl"),
        ("empty", "'empty' matches no file"),
        ("bad\0name", "cannot be read|there is no file"),
        ("nosuch://bucket/a.jsonl", "'nosuch://bucket/a.jsonl' cannot be read"),
        ("file:///missing.jsonl", "there is no file 'file:///missing.jsonl'"),
    ],
)
def test_paths_that_match_nothing_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^sources\.mine\.paths: .*({message})"):
        expand_paths([path], "sources.mine.paths")
