"""Every line of `steady doctor`, by breaking what it looks at."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cluster import doctor, doctor_lines, doctor_machine, doctor_recipe, doctor_services
from cluster.doctor_lines import Finding
from cluster.recipe import load_recipe
from ground.errors import UserError
from tests.helpers.recipes import small_recipe
from tracking.runs import Tracker

Usage = namedtuple("Usage", "total used free")


def expect(finding: Finding, level: str, found: str, mend: str = "") -> None:
    assert finding.level == level, finding
    assert found in finding.found and mend in finding.mend, finding
    assert finding.level == "ok" or finding.mend, f"no mend: {finding}"


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's own settings."""
    for name in (
        "RAY_ADDRESS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        "CUDA_VISIBLE_DEVICES",
        "CXX",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))


def lack(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package look absent."""

    def found(name: str) -> str | None:
        return None if name == package else "1.0"

    for module in (doctor_lines, doctor_machine, doctor_services, doctor_recipe):
        monkeypatch.setattr(module, "installed", found)


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    expect(doctor_machine.python(), "ok", "3.")
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    expect(doctor_machine.python(), "broken", "3.10.2", "3.11 or newer")


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    expect(doctor_machine.packages(), "ok", "ray ")
    lack(monkeypatch, "deepspeed")
    expect(doctor_machine.packages(), "broken", "deepspeed missing", "pip install")
    lack(monkeypatch, "gensim")
    expect(doctor_machine.demo_packages(), "note", "missing gensim", ".[demo]")


def cuda(
    monkeypatch: pytest.MonkeyPatch, built: str | None, driver: tuple[int, int] | None, *, works: bool = False
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
    monkeypatch.setattr(doctor_machine, "driver_cuda", lambda: driver)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(monkeypatch, None, None)
    expect(doctor_machine.accelerator(), "note", "none", "enough for the demo")
    cuda(monkeypatch, "13.0", None)
    expect(doctor_machine.accelerator(), "note", "torch is built for CUDA 13.0")


def test_torch_and_the_driver_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(monkeypatch, None, (12, 4))
    expect(doctor_machine.accelerator(), "broken", "built for the CPU only", "built for CUDA 12")
    cuda(monkeypatch, "13.0", (12, 4))
    expect(doctor_machine.accelerator(), "broken", "no newer one than 12.4", "update the driver")
    cuda(monkeypatch, "12.4", (12, 10))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    expect(doctor_machine.accelerator(), "broken", "CUDA_VISIBLE_DEVICES=''", "unset CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(("known", "level"), [(["sm_80", "sm_90"], "ok"), (["sm_75", "sm_80"], "broken")])
def test_a_gpu_that_torch_has_no_code_for(monkeypatch: pytest.MonkeyPatch, known: list[str], level: str) -> None:
    cuda(monkeypatch, "12.8", (12, 8), works=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: known)
    expect(doctor_machine.accelerator(), level, "2 x H200, CUDA 12.8", "" if level == "ok" else "newer torch")


@pytest.mark.parametrize(("said", "found"), [("| CUDA Version: 12.4  |", (12, 4)), ("No devices were found", None)])
def test_what_the_driver_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, found: tuple[int, int] | None
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{said}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert doctor_machine.driver_cuda() == found


def test_deepspeed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expect(doctor_machine.deepspeed_ops(), "ok", "no kernel has to be compiled")
    lock = tmp_path / "extensions" / "py311_cpu" / "shm_comm" / "lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    expect(doctor_machine.deepspeed_ops(), "note", "is being compiled", "wait")
    os.utime(lock, (time.time() - 7200,) * 2)
    expect(doctor_machine.deepspeed_ops(), "broken", "killed 2.0 h ago", f"rm -r {lock.parent}")

    def refuse() -> None:
        raise RuntimeError("CUDA_HOME does not exist")

    monkeypatch.setattr("training.deepspeed_import.import_deepspeed", refuse)
    expect(doctor_machine.deepspeed_ops(), "broken", "CUDA_HOME does not exist", "set CUDA_HOME")


def test_lmplz_may_be_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    expect(doctor_machine.lmplz(), "ok", "not needed")


def test_disk_and_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expect(doctor_machine.disk(tmp_path / "not" / "yet"), "ok", f"free in {tmp_path}")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 26, 0, 1 << 20))
    expect(doctor_machine.disk(tmp_path), "broken", "0 GB free", "free some space")
    expect(doctor_machine.shared_memory(), "note", "0.1 GB in /dev/shm", "--shm-size")
    monkeypatch.setattr(os, "access", lambda *_: False)
    expect(doctor_machine.disk(tmp_path), "broken", "may not be written", "another work folder")
    monkeypatch.setattr(doctor_machine, "_SHARED", tmp_path / "shm")
    expect(doctor_machine.shared_memory(), "note", "there is no")


def test_ray_without_an_address() -> None:
    total, (line,) = doctor_services.ray(None)
    assert total is None
    expect(line, "ok", "start Ray on this machine")


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_ray_where_nobody_answers(closed_port: int, form: str) -> None:
    total, (line, authentication) = doctor_services.ray(form.format(closed_port))
    assert total is None
    expect(line, "broken", "nobody answers at", "unset RAY_ADDRESS")
    expect(authentication, "note", "whoever reaches", "RAY_AUTH_MODE=token")
    expect(doctor_services.ray("127.0.0.1:port")[1][0], "broken", "not a valid address")


def test_ray_answers(open_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.session.resources_at", lambda _: {"CPU": 32.0, "GPU": 4.0})
    total, (line, _) = doctor_services.ray(f"127.0.0.1:{open_port}")
    assert total == {"CPU": 32.0, "GPU": 4.0}
    expect(line, "ok", "32 CPUs, 4 GPUs")

    def refuse(_: str) -> None:
        raise UserError("cluster.address", "no Ray cluster answers", "start it")

    monkeypatch.setattr("cluster.session.resources_at", refuse)
    expect(doctor_services.ray(f"127.0.0.1:{open_port}")[1][0], "broken", "no Ray cluster answers")


def test_ray_tokens(open_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cluster.session.resources_at", lambda _: {})
    address = f"127.0.0.1:{open_port}"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    answers, authentication = doctor_services.ray(address)[1]
    expect(answers, "note", "not asked further")
    expect(authentication, "broken", "there is no token", "auth_token")
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("secret")
    token.chmod(0o644)
    expect(doctor_services.ray(address)[1][1], "note", "others of this machine may read", "chmod 600")
    token.chmod(stat.S_IRUSR)
    expect(doctor_services.ray(address)[1][1], "ok", "by token")
    monkeypatch.delenv("RAY_AUTH_MODE")
    expect(doctor_services.ray(address)[1][1], "note", "jobs would be refused", "RAY_AUTH_MODE=token")


def test_mlflow_as_a_file(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'work' / 'mlflow.db'}"
    (line,) = doctor_services.mlflow(uri, "demo")
    expect(line, "ok", "will be made by the first run")
    assert not (tmp_path / "work").exists()
    tracker = Tracker.open(uri, "demo")
    answers, artifacts = doctor_services.mlflow(uri, "demo")
    expect(answers, "ok", "answers")
    expect(artifacts, "ok", "in the folder")
    tracker.client.create_experiment("served", artifact_location="mlflow-artifacts:/7")
    expect(doctor_services.mlflow(uri, "served")[1], "broken", "kept by a server", "http address")
    tracker.client.delete_experiment(tracker.experiment_id)
    expect(doctor_services.mlflow(uri, "demo")[0], "broken", "was deleted", "restore it")


def test_mlflow_that_cannot_be_used(closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = doctor_services.mlflow(f"http://me:hunter2@127.0.0.1:{closed_port}", "demo")
    expect(line, "broken", "nobody answers", "start the MLflow server")
    assert "hunter2" not in line.found
    expect(doctor_services.mlflow("file:///mlruns", None)[0], "broken", "plain-file stores", "sqlite")
    monkeypatch.setattr(os, "access", lambda *_: False)
    expect(doctor_services.mlflow(f"sqlite:///{tmp_path}/m.db", None)[0], "broken", "cannot be made", "writable place")


def test_artifacts_that_need_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    expect(doctor_services._artifacts("mlflow-artifacts:/1", "http://host"), "ok", "through the MLflow server")
    expect(
        doctor_services._artifacts("file:///x", "http://host"), "note", "in the folder", "another tracking.experiment"
    )
    lack(monkeypatch, "boto3")
    expect(doctor_services._artifacts("s3://b/x", "http://host"), "broken", "needs boto3", "pip install boto3")


def test_object_stores(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    assert doctor_services.object_stores([("work", "file:///x")]) == []
    (unknown,) = doctor_services.object_stores([("sources.med.paths", "nonsense://bucket/x")])
    expect(unknown, "broken", "sources.med.paths: nonsense://bucket refuses", "AWS_ENDPOINT_URL")
    lack(monkeypatch, "s3fs")
    lines = doctor_services.object_stores([("sources.med.paths", "s3://bucket/a"), ("other", "s3://bucket/b")])
    assert len(lines) == 1
    expect(lines[0], "broken", "needs the package s3fs", "pip install s3fs")


def test_the_recipe_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_recipe(tmp_path)
    recipe = load_recipe(path)
    assert all(line.level == "ok" for line in doctor_recipe.inputs(recipe))
    plan, room = doctor_recipe.plans(recipe, str(path))
    expect(plan, "ok", "1 run(s) planned")
    expect(room, "ok", "checkpoints take about")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1000))
    expect(doctor_recipe.plans(recipe, str(path))[1], "broken", "0.0 GB free", "keep_checkpoints")
    too_long = load_recipe(path, ["training.sequence_length=128"])
    (line,) = doctor_recipe.plans(too_long, str(path))
    expect(line, "broken", "longer than the model's 64 positions", "lower it")
    Path(recipe.sources["wiki"].paths[0]).unlink()
    assert [line.what for line in doctor_recipe.inputs(recipe) if line.level == "broken"] == ["source wiki"]
    shutil.rmtree(recipe.store_folder)
    expect(doctor_recipe.plans(recipe, str(path))[0], "note", "no token store yet", "steady curate")


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_recipe(tmp_path, with_store=False)
    monkeypatch.setattr(doctor_recipe, "_local_gpus", lambda: 0)
    expect(doctor_recipe.devices(load_recipe(path), None), "ok", "1 worker(s) on cpu of this machine")
    gpus = load_recipe(path, ["training.accelerator=gpu", "training.workers=2"])
    expect(doctor_recipe.devices(gpus, None), "broken", "asks for 2 GPUs, there are 0", "fewer workers")
    expect(doctor_recipe.devices(gpus, {"CPU": 8, "GPU": 2}), "ok", "2 worker(s) on gpu of the cluster")
    expect(doctor_recipe.devices(gpus, {"CPU": 1, "GPU": 2}), "broken", "2 workers need 2 CPUs", "larger cluster")


def test_tools_that_some_settings_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_recipe(tmp_path, with_store=False)
    assert list(doctor_recipe.tools(load_recipe(path))) == []
    demanding = load_recipe(path, ["training.compile=true", "training.attention=flash_attention_2"])
    lack(monkeypatch, "flash-attn")
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler, attention = doctor_recipe.tools(demanding)
    expect(compiler, "broken", "no C++ compiler", "apt-get install g++")
    expect(attention, "broken", "flash-attn", "training.attention=auto")
    lack(monkeypatch, "lm-eval")
    tasks = SimpleNamespace(variants=dict, evaluation=SimpleNamespace(tasks=["medical"]))
    (line,) = doctor_recipe.tools(tasks)  # type: ignore[arg-type]
    expect(line, "broken", "needs lm-eval", "[lm-eval]")


def test_the_page_fails_only_where_something_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_recipe(tmp_path)
    monkeypatch.setattr(doctor_recipe, "_local_gpus", lambda: 0)
    cuda(monkeypatch, None, None)
    assert doctor.examine(str(path), []) == 0
    said = " ".join(capsys.readouterr().out.split())
    lines = (
        "accelerator",
        "deepspeed",
        "lmplz",
        "ray",
        "disk",
        "mlflow",
        "recipe small",
        "source med",
        "plan",
        "device",
    )
    assert all(name in said for name in lines), said
    assert doctor.examine(str(path), ["training.zero_stage=9"]) == 1
    assert "training.zero_stage" in capsys.readouterr().out
    assert doctor.examine(str(path), ["training.accelerator=gpu"]) == 1
