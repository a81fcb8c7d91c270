"""What docs/security.md promises, held against the source and against planted secrets."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from cluster.cli import app
from tests.docs.commands import ROOT
from tests.docs.running import steady
from tests.helpers.recipes import run_steady, small_recipe

ROOMS = ("ground", "tracking", "pipelines", "training", "tuning", "cluster")
FILES = [path for room in (*ROOMS, "benchmarks", "docs") for path in sorted((ROOT / room).rglob("*.py"))]
SECRET = "pl4nted-s3cret"
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "HF_TOKEN": SECRET,
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    "RAY_AUTH_TOKEN": SECRET,
    "WANDB_API_KEY": SECRET,
}
LOADERS = {"from_pretrained", "from_config"}
OWN_PICKLES = {"training/consolidate.py"}
"""Files that unpickle more than tensors: checkpoints of the user's own run, as docs/security.md says."""


THIS = "tests/docs/test_security.py"


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the product, with the file it stands in."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(ROOT)), node


def keyword(call: ast.Call, name: str) -> object:
    """A keyword's literal value; None when it is absent or not literal."""
    found = [entry.value for entry in call.keywords if entry.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def passes_on(call: ast.Call, tree_text: str) -> bool:
    """Whether ``**options`` are passed that the same file fills with ``trust_remote_code`` off."""
    return any(entry.arg is None for entry in call.keywords) and '"trust_remote_code": False' in tree_text


def test_no_code_of_a_model_repository_is_run() -> None:
    loaders = [
        (file, call)
        for file, call in calls()
        if isinstance(call.func, ast.Attribute) and call.func.attr in LOADERS and file.split("/")[0] in ROOMS
    ]
    assert len(loaders) >= 6, "the loaders are not found any more"
    for file, call in loaders:
        text = (ROOT / file).read_text()
        # Named architectures (LlamaConfig and the like) hold no code of others; Auto classes must say no.
        auto = ast.unparse(call.func).startswith(("Auto", "loader", "transformers.Auto"))
        if auto and keyword(call, "trust_remote_code") is not False:
            assert passes_on(call, text), f"{file}:{call.lineno} {ast.unparse(call)[:100]}"


def test_nothing_ever_turns_remote_code_on() -> None:
    for path in [*FILES, *(ROOT / "recipes").glob("*.yaml"), *(ROOT / "deploy").rglob("*.yaml")]:
        text = path.read_text().replace(" ", "")
        for word in ("trust_remote_code=True", "trust_remote_code:true", "HF_DATASETS_TRUST_REMOTE_CODE"):
            assert word not in text, f"{path.name}: {word}"


def test_nothing_unpickles_what_others_wrote() -> None:
    for file, call in calls():
        name = ast.unparse(call.func)
        where = f"{file}:{call.lineno}"
        if name == "torch.load" and file.split("/")[0] in ROOMS and file not in OWN_PICKLES:
            assert keyword(call, "weights_only") is True, where
        if name in ("np.load", "numpy.load"):
            assert keyword(call, "allow_pickle") in (None, False), where
        assert name not in ("pickle.load", "pickle.loads", "yaml.load", "os.system", "eval", "exec"), where
        assert keyword(call, "shell") is not True, where
        assert keyword(call, "verify") is not False, where


def test_servers_listen_on_this_machine_only() -> None:
    command = typer.main.get_command(app)
    (host,) = (option for option in command.commands["ui"].params if option.name == "host")  # type: ignore[attr-defined]
    assert host.default == "127.0.0.1"
    for file, call in calls():
        for entry in call.keywords:
            if entry.arg in ("host", "dashboard_host", "node_ip_address") and isinstance(entry.value, ast.Constant):
                assert entry.value.value in ("127.0.0.1", "localhost", None), f"{file}:{call.lineno}"


def test_no_secret_stands_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 1_000_000 and path.suffix not in (".png", ".safetensors"):
            text = path.read_text(errors="replace")
            for mark in (r"AKIA[0-9A-Z]{16}", r"\bhf_[A-Za-z]{30}", r"-----BEGIN [A-Z ]*PRIVATE", r"\bghp_\w{30}"):
                assert not re.search(mark, text) or name == THIS, f"{name}: {mark}"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose addresses hold the secret, in an environment that holds it."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    tracking = {"uri": f"http://me:{SECRET}@127.0.0.1:9", "system_metrics": False}
    path = small_recipe(tmp_path, tracking=tracking)
    text = path.read_text().replace("paths:\n    - ", f"paths:\n    - s3://key:{SECRET}@bucket/x.jsonl\n    - ", 1)
    path.with_name("remote.yaml").write_text(text)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "recipe.yaml"),
        ("doctor", "recipe.yaml"),
        ("train", "recipe.yaml", "training.zero_stage=9"),
        ("ui", "recipe.yaml"),
        ("plan", "remote.yaml"),
        ("train", "recipe.yaml", "--dry-run"),
    ],
    ids=" ".join,
)
def test_a_planted_secret_is_not_shown(
    arguments: tuple[str, ...], planted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(planted.parent)
    ran = run_steady(monkeypatch, capsys, *arguments)
    assert SECRET not in ran.out + ran.err
    assert "Traceback" not in ran.err


def _holding(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray keeps its session; a short path, since it has sockets."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_planted_secret_is_in_no_log_record_or_report(tmp_path: Path, ray_folder: Path) -> None:
    """A whole run with secrets in the environment and in MLflow's address, which nobody answers: output, spool, job, checkpoints,
    report, and the logs of the Ray session that it started."""
    tracking = {"uri": f"http://me:{SECRET}@127.0.0.1:9", "system_metrics": False}
    recipe = small_recipe(tmp_path / "work", tracking=tracking)
    recipe = recipe.rename(tmp_path / "recipe.yaml")  # the recipe itself holds it, and is the user's
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(ray_folder)}
    environment.pop("RAY_ADDRESS", None)
    environment.pop("RAY_AUTH_TOKEN", None)  # a local Ray would ask for it on every call
    for command in ("train", "report"):
        done = steady([command, str(recipe)], tmp_path / "work", environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert SECRET not in done.stdout + done.stderr
    assert (tmp_path / "work" / "work" / "report" / "report.html").is_file()
    assert list(ray_folder.rglob("raylet.out"))
    assert _holding(ray_folder) == []
    assert _holding(tmp_path / "work") == []
