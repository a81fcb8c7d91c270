"""Paths: globs, folders and files to a sorted list, and one clear line for what matches nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ground.errors import UserError
from pipelines.paths import Format, expand_paths, file_format


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


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """A folder of everyone's, and no rights of the superuser, who may read everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        became = os.geteuid() == 0
        if became:
            os.seteuid(65534)
        try:
            if not os.access(folder, os.R_OK | os.X_OK):
                pytest.skip("the folder for temporary files is not open to other users")
            yield folder
        finally:
            if became:
                os.seteuid(0)
            for path in folder.rglob("*"):
                path.chmod(0o755)


@pytest.mark.parametrize("pattern", ["", "**/*.jsonl", "*/*.jsonl", "closed", "closed/*.jsonl"])
def test_a_folder_that_cannot_be_read_is_one_clear_line(plain_user: Path, pattern: str) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    for name in ("open", "closed"):
        (plain_user / name).mkdir()
        (plain_user / name / "a.jsonl").write_text("")
        (plain_user / name).chmod(0o755 if name == "open" else 0)
    os.seteuid(user)
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: .* cannot be read .*Permission denied.*closed"):
        expand_paths([str(plain_user / pattern)], "sources.mine.paths")
    assert expand_paths([str(plain_user / "open")], "sources.mine.paths") == [str(plain_user / "open" / "a.jsonl")]


def test_a_name_that_is_no_unicode_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xff.jsonl")).write_text("")
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: the name of .*bad\\udcff\.jsonl' is not UTF-8"):
        expand_paths([str(tmp_path)], "sources.mine.paths")


@pytest.mark.parametrize(
    ("file", "chosen", "kind"),
    [
        ("a.JSONL.GZ", "auto", ("jsonl", "gz")),
        ("a.json", "auto", ("json", None)),
        ("a.json.zst", "jsonl", ("json", "zst")),
        ("a.data", "jsonl", ("jsonl", None)),
        ("a.txt", "jsonl", ("jsonl", None)),
        ("a.warc.gz", "auto", ("warc", "gz")),
        ("CC-MAIN-2024.warc.wet.gz", "auto", ("warc", "gz")),
        ("a.feather", "auto", ("arrow", None)),
        ("a.bin", "huggingface", ("arrow", None)),
    ],
)
def test_the_format_of_a_file(file: str, chosen: Format, kind: tuple[str, str | None]) -> None:
    assert file_format(file, chosen, "sources.mine") == kind
