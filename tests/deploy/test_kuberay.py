"""The KubeRay definitions: rendered by Kustomize, checked by schemas, by Ray's own reading, and for what could go wrong."""

from __future__ import annotations

import copy
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster.recipe import load_recipe
from tests.deploy.definitions import DEPLOY, PINS, ROOT, Document, leaves, rendered
from tests.deploy.kuberay_fields import CLUSTER, JOB, refusals

jsonschema = pytest.importorskip("jsonschema")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

KUBERNETES = "1.30"
GRACE_OF_RAY = 30
"""Seconds in which `ray start --block` drains after SIGTERM (RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S)."""


@pytest.fixture(scope="module", params=["cluster", "job"])
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return rendered(DEPLOY / "kuberay" / request.param)


@pytest.fixture(scope="module")
def cluster() -> Document:
    return next(d for d in rendered(DEPLOY / "kuberay" / "cluster") if d["kind"] == "RayCluster")


@pytest.fixture(scope="module")
def job() -> Document:
    return next(d for d in rendered(DEPLOY / "kuberay" / "job") if d["kind"] == "RayJob")


def groups(spec: dict[str, Any]) -> dict[str, Any]:
    return {"head": spec["headGroupSpec"]} | {group["groupName"]: group for group in spec["workerGroupSpecs"]}


def pods(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: group["template"]["spec"] for name, group in groups(spec).items()}


def spec_of(documents: list[Document]) -> dict[str, Any]:
    for document in documents:
        if document["kind"] == "RayCluster":
            return document["spec"]  # type: ignore[no-any-return]
        if document["kind"] == "RayJob":
            return document["spec"]["rayClusterSpec"]  # type: ignore[no-any-return]
    raise AssertionError("no cluster")


def test_what_kubernetes_knows_is_valid(documents: list[Document]) -> None:
    for document in documents:
        if not document["apiVersion"].startswith("ray.io"):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for name, group in groups(spec_of(documents)).items():
        template = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": name},
            "template": group["template"],
        }
        kubernetes_validate.validate(template, KUBERNETES, strict=True)


def test_the_pod_check_finds_a_wrong_field(cluster: Document) -> None:
    template = copy.deepcopy(cluster["spec"]["headGroupSpec"]["template"])
    template["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template},
            KUBERNETES,
            strict=True,
        )


def test_cluster_and_job_have_fields_that_kuberay_knows(cluster: Document, job: Document) -> None:
    jsonschema.validate(cluster["spec"], CLUSTER)
    jsonschema.validate(job["spec"], JOB)
    assert refusals(cluster["metadata"]["name"], cluster["spec"]) == []
    assert refusals(job["metadata"]["name"], job["spec"]["rayClusterSpec"]) == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("rayVerson", "2.60.0"),
        ("authOptions", {"mode": "tokens"}),
        ("enableInTreeAutoscaling", "yes"),
        ("headGroupSpec", {}),
    ],
)
def test_the_field_check_finds_mistakes(cluster: Document, where: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster["spec"] | {where: value}, CLUSTER)


def test_the_operators_refusals_are_found(cluster: Document) -> None:
    spec = copy.deepcopy(cluster["spec"]) | {"rayVersion": "2.51.0"}
    spec["workerGroupSpecs"][0]["template"]["spec"]["restartPolicy"] = "Always"
    spec["headGroupSpec"]["resources"] = {"CPU": "0"}
    assert len(refusals("Steady", spec)) == 4


def test_the_job_brings_the_same_cluster(cluster: Document, job: Document) -> None:
    here, there = copy.deepcopy(job["spec"]["rayClusterSpec"]), copy.deepcopy(cluster["spec"])
    gpu = here["workerGroupSpecs"][1]
    workers = load_recipe(ROOT / "recipes/llama-3-8b-medical.yaml").training.workers
    assert gpu.pop("replicas") * 8 == gpu["minReplicas"] * 8 == workers, "the run's GPUs are there from the start"
    gpu["minReplicas"] = 0
    assert here == there
    kinds = [d["kind"] for d in rendered(DEPLOY / "kuberay" / "job")]
    assert "RayCluster" not in kinds, "a second, idle cluster"


def test_ray_reads_the_groups_as_meant(cluster: Document) -> None:
    config = pytest.importorskip("ray.autoscaler._private.kuberay.autoscaling_config")
    util = pytest.importorskip("ray.autoscaler._private.util")
    derived = config._derive_autoscaling_config_from_ray_cr(cluster)
    util.validate_config(derived)
    types = derived["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0, "work would run on the head"
    gpus = {name: kind["resources"].get("GPU", 0) for name, kind in types.items()}
    assert gpus == {"headgroup": 0, "cpu": 0, "gpu": 8, "gpu-spot": 8}
    assert all(kind["min_workers"] == 0 for kind in types.values()), "idle machines would stay"
    recipe = load_recipe(ROOT / "recipes/llama-3-8b-medical.yaml")
    for name in ("gpu", "gpu-spot"):
        assert types[name]["max_workers"] * 8 >= recipe.training.workers, f"{name} alone cannot hold the run"
    assert derived["idle_timeout_minutes"] == 10


def test_every_door_needs_the_token(cluster: Document) -> None:
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "steady-ray-token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert not spec["headGroupSpec"].get("enableIngress")
    for path, value in leaves(spec):
        assert not ("RAY_AUTH_MODE" in path and value == "disabled")


def test_pods_are_restricted(documents: list[Document]) -> None:
    """The rules of the Pod Security Standard `restricted`, which the namespace enforces."""
    spec = spec_of(documents)
    contexts = [spec["autoscalerOptions"]["securityContext"]]
    for pod in pods(spec).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all({"persistentVolumeClaim", "emptyDir"} & set(volume) for volume in pod["volumes"])
        contexts += [container["securityContext"] for container in pod["containers"]]
    for context in contexts:
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"]["type"] == "RuntimeDefault"
    namespace = next(d for d in documents if d["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_only_the_head_may_ask_for_pods(cluster: Document) -> None:
    for name, pod in pods(cluster["spec"]).items():
        if name == "head":
            assert pod["serviceAccountName"] == "steady-head"
        else:
            assert pod["serviceAccountName"] == "steady-worker"
            assert pod["automountServiceAccountToken"] is False


def test_a_checkpoint_fits_before_the_end(cluster: Document) -> None:
    for name, pod in pods(cluster["spec"]).items():
        if name == "head":
            continue
        script, seconds = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert (DEPLOY / "node" / Path(script).name).is_file()
        assert int(seconds) >= 60
        assert pod["terminationGracePeriodSeconds"] >= int(seconds) + GRACE_OF_RAY, name
    variables = {v["name"]: v.get("value") for v in pods(cluster["spec"])["head"]["containers"][0]["env"]}
    assert int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) >= 100
    assert int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) < pods(cluster["spec"])["head"]["terminationGracePeriodSeconds"]


def test_every_container_is_probed_bounded_and_shares_the_folders(cluster: Document) -> None:
    claims = {"work": "/steady", "cache": "/cache"}
    for name, pod in pods(cluster["spec"]).items():
        container = pod["containers"][0]
        assert container["image"] == "registry.example/steady:0.1.0", "Kustomize must find every image"
        assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == claims
        assert {"livenessProbe", "readinessProbe"} <= set(container), name
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert limits["memory"] == requests["memory"], "Ray takes the limit for what it has"
        assert limits.get("nvidia.com/gpu") == requests.get("nvidia.com/gpu")
        if "nvidia.com/gpu" in limits:
            assert any(t["key"] == "nvidia.com/gpu" for t in pod["tolerations"]), name
    storage = next(d for d in rendered(DEPLOY / "kuberay" / "cluster") if d["kind"] == "PersistentVolumeClaim")
    assert storage["spec"]["accessModes"] == ["ReadWriteMany"]


def test_strangers_cannot_reach_a_pod(documents: list[Document]) -> None:
    policy = next(d for d in documents if d["kind"] == "NetworkPolicy")["spec"]
    chosen = policy["podSelector"]["matchLabels"]
    for name, group in groups(spec_of(documents)).items():
        assert chosen.items() <= group["template"]["metadata"]["labels"].items(), f"the policy does not see {name}"
    assert policy["policyTypes"] == ["Ingress"]
    assert all("from" in rule and all(rule["from"]) for rule in policy["ingress"])
    from_outside = [rule for rule in policy["ingress"] if any("namespaceSelector" in peer for peer in rule["from"])]
    assert [rule["ports"] for rule in from_outside] == [[{"protocol": "TCP", "port": 8265}]]


def test_ray_is_the_version_that_the_image_has(cluster: Document) -> None:
    assert cluster["spec"]["rayVersion"] == PINS["ray"]


def test_the_job_trains_a_recipe_of_the_image(job: Document) -> None:
    words = shlex.split(job["spec"]["entrypoint"].replace("$MLFLOW_TRACKING_URI", "http://mlflow.example:5000"))
    assert words[:2] == ["steady", "train"]
    recipe = load_recipe(words[2].replace("/opt/steady", str(ROOT)), words[3:])
    assert recipe.work.startswith("/steady/")
    assert recipe.tracking.uri == "http://mlflow.example:5000"
    assert job["spec"]["shutdownAfterJobFinishes"] is True, "machines would stay after the run"


@pytest.mark.parametrize(
    ("component", "selector", "grace"),
    [
        ("spot-eks", {"eks.amazonaws.com/capacityType": "SPOT"}, 150),
        ("spot-gke", {"cloud.google.com/gke-spot": "true"}, 25),
    ],
)
def test_a_component_puts_the_spot_group_on_spot_machines(
    tmp_path: Path, component: str, selector: dict[str, str], grace: int
) -> None:
    shutil.copytree(DEPLOY / "kuberay", tmp_path / "kuberay")
    file = tmp_path / "kuberay" / "cluster" / "kustomization.yaml"
    file.write_text(file.read_text() + f"\ncomponents: [../{component}]\n")
    for folder in ("cluster", "job"):
        found = pods(spec_of(rendered(tmp_path / "kuberay" / folder)))
        assert found["gpu-spot"]["nodeSelector"] == selector
        assert "nodeSelector" not in found["gpu"]
        assert found["gpu-spot"]["terminationGracePeriodSeconds"] == grace
        _, seconds = found["gpu-spot"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert int(seconds) < grace
