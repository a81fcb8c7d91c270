"""The fields of ``ray.io/v1`` as a JSON schema, and which of them KubeRay refuses together.

Names, types and enumerations are facts of KubeRay's API reference (v1.6) and of its operator's checks
(``ray-operator/controllers/ray/utils/validation.go``). Pods are checked by Kubernetes' own schemas, so they are any object here.
The API server checks the same strictly with ``kubectl apply --dry-run=server --validate=strict``.
"""

from __future__ import annotations

import re
from typing import Any

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT, _FLAG, _ANY, _LIST = {"type": "string"}, {"type": "boolean"}, {"type": "object"}, {"type": "array"}


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_AUTOSCALER = _closed(
    {
        "version": {"enum": ["v1", "v2"]},
        "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
        "idleTimeoutSeconds": _COUNT,
        "resources": _ANY,
        "securityContext": _ANY,
        "image": _TEXT,
        "imagePullPolicy": _TEXT,
        "env": _LIST,
        "envFrom": _LIST,
        "volumeMounts": _LIST,
    }
)
_GROUP = {"rayStartParams": _TEXTS, "template": _ANY, "resources": _TEXTS, "labels": _TEXTS}
_HEAD = _closed(
    _GROUP
    | {"serviceType": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, "headService": _ANY, "enableIngress": _FLAG},
    "template",
)
_WORKERS = _closed(
    _GROUP
    | {
        "groupName": _TEXT,
        "replicas": _COUNT,
        "minReplicas": _COUNT,
        "maxReplicas": _COUNT,
        "numOfHosts": {"type": "integer", "minimum": 1},
        "idleTimeoutSeconds": _COUNT,
        "suspend": _FLAG,
        "scaleStrategy": _ANY,
    },
    "groupName",
    "minReplicas",
    "maxReplicas",
    "template",
)
CLUSTER = _closed(
    {
        "rayVersion": _TEXT,
        "authOptions": _closed(
            {"mode": {"enum": ["token", "disabled"]}, "secretName": _TEXT, "enableK8sTokenAuth": _FLAG}
        ),
        "enableInTreeAutoscaling": _FLAG,
        "autoscalerOptions": _AUTOSCALER,
        "gcsFaultToleranceOptions": _ANY,
        "headServiceAnnotations": _TEXTS,
        "managedBy": _TEXT,
        "suspend": _FLAG,
        "headGroupSpec": _HEAD,
        "workerGroupSpecs": {"type": "array", "items": _WORKERS},
    },
    "headGroupSpec",
)
JOB = _closed(
    {
        "entrypoint": _TEXT,
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "rayClusterSpec": CLUSTER,
        "clusterSelector": _TEXTS,
        "runtimeEnvYAML": _TEXT,
        "jobId": _TEXT,
        "metadata": _TEXTS,
        "backoffLimit": _COUNT,
        "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
        "ttlSecondsAfterFinished": _COUNT,
        "shutdownAfterJobFinishes": _FLAG,
        "suspend": _FLAG,
        "entrypointNumCpus": {"type": "number"},
        "entrypointNumGpus": {"type": "number"},
        "entrypointResources": _TEXT,
        "submitterPodTemplate": _ANY,
        "submitterConfig": _ANY,
        "deletionStrategy": _ANY,
        "managedBy": _TEXT,
    }
)


def refusals(name: str, spec: dict[str, Any]) -> list[str]:
    """Why KubeRay's operator would refuse a cluster though its fields are right."""
    found = []
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name):
        found.append(f"the name {name!r} is no DNS label of at most 47 characters")
    if spec.get("authOptions", {}).get("mode") == "token":
        version = tuple(int(part) for part in spec.get("rayVersion", "0.0").split(".")[:2])
        if version < (2, 52):
            found.append("token authentication needs rayVersion 2.52.0")
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        parameters = group.get("rayStartParams", {})
        if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(parameters):
            found.append("resources stand in rayStartParams and in resources")
        if "labels" in parameters:
            found.append("labels belong in the group's labels")
        if not group["template"]["spec"]["containers"]:
            found.append("a group without a container")
        if spec.get("enableInTreeAutoscaling") and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            found.append("autoscaler v2 wants restartPolicy Never")
    return found
