"""The cluster launcher's definitions: read by Ray itself, and for AWS started on a simulated EC2."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.recipe import load_recipe
from tests.deploy.definitions import DEPLOY, ROOT, leaves, read

REGION = "us-west-2"


@pytest.fixture(params=["aws", "gcp"])
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(f"{request.param}/cluster.yaml")  # type: ignore[no-any-return]


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """As `ray up` completes it, after its checks."""
    util = pytest.importorskip("ray.autoscaler._private.util")
    whole = util.prepare_config(copy.deepcopy(config))
    util.validate_config(whole)
    return whole  # type: ignore[no-any-return]


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    types = prepared(config)["available_node_types"]
    assert {name: kind["resources"].get("GPU", 0) for name, kind in types.items()} == {
        "head": 0,
        "cpu": 0,
        "gpu": 8,
        "gpu_spot": 8,
    }
    assert types["head"]["resources"]["CPU"] == 0, "work would run on the head"
    assert all(kind["min_workers"] == 0 for kind in types.values()), "idle machines would stay"
    workers = load_recipe(ROOT / "recipes/llama-3-8b-medical.yaml").training.workers
    assert types["gpu"]["max_workers"] * 8 >= workers
    assert sum(kind["max_workers"] for kind in types.values()) <= config["max_workers"]


def test_ray_refuses_a_wrong_field(config: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        prepared(config | {"idle_timeout": 10})


def test_it_is_closed_to_strangers(config: dict[str, Any]) -> None:
    assert config["provider"]["use_internal_ips"] is True
    assert config["auth"]["ssh_proxy_use_node_id"] is True
    options = config["docker"]["run_options"]
    assert {
        "--user=1000:1000",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--env=RAY_AUTH_MODE=token",
    } <= set(options)
    assert "~/.ray/auth_token" in config["file_mounts"].values()
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    for kind in config["available_node_types"].values():
        node = kind["node_config"]
        for interface in node.get("networkInterfaces", []):
            assert "accessConfigs" not in interface, "a public address"


def test_spot_machines_hear_of_their_end(config: dict[str, Any]) -> None:
    cloud = config["provider"]["type"]
    spot = config["available_node_types"]["gpu_spot"]["node_config"]
    plain = config["available_node_types"]["gpu"]["node_config"]
    if cloud == "aws":
        assert spot["InstanceMarketOptions"]["MarketType"] == "spot"
        assert "InstanceMarketOptions" not in plain
    else:
        assert spot["scheduling"]["provisioningModel"] == "SPOT"
        assert "provisioningModel" not in plain["scheduling"]
    (watch,) = [c for c in config["worker_start_ray_commands"] if "watch-preemption.sh" in c]
    assert f"watch-preemption.sh {cloud} " in watch
    assert watch.startswith("RAY_ADDRESS=$RAY_HEAD_IP:6379 ")


def test_nothing_is_anyones_account(config: dict[str, Any]) -> None:
    """What must be replaced stands in capitals, so that a forgotten one fails at once."""
    text = (DEPLOY / config["provider"]["type"] / "cluster.yaml").read_text()
    assert "REGION" in text or "PROJECT-ID" in text
    assert not any("ami-" in str(value) or "AKIA" in str(value) for _, value in leaves(config))


def test_roles_are_bounded() -> None:
    for name in ("head", "worker"):
        for statement in json.loads((DEPLOY / f"aws/{name}-policy.json").read_text())["Statement"]:
            for action in statement["Action"]:
                assert "*" not in action or action == "ec2:Describe*", action
            if statement["Resource"] == "*":
                assert set(statement["Action"]) <= {"ec2:Describe*", "ec2:RunInstances"}


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A simulated account with what the definition asks for; its names by placeholder."""
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "simulated")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes the key pair it makes to ~/.ssh
    (tmp_path / ".ssh").mkdir()
    with moto.mock_aws():
        client, iam = boto3.client("ec2", REGION), boto3.client("iam")
        network = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = client.create_subnet(VpcId=network, CidrBlock="10.0.1.0/24", AvailabilityZone=f"{REGION}a")
        group = client.create_security_group(GroupName="steady", Description="steady", VpcId=network)
        for role in ("head", "worker"):
            iam.create_role(RoleName=f"steady-{role}", AssumeRolePolicyDocument="{}")
            policy = (DEPLOY / f"aws/{role}-policy.json").read_text()
            iam.put_role_policy(RoleName=f"steady-{role}", PolicyName="steady", PolicyDocument=policy)
            iam.create_instance_profile(InstanceProfileName=f"steady-{role}")
            iam.add_role_to_instance_profile(InstanceProfileName=f"steady-{role}", RoleName=f"steady-{role}")
        yield {
            "SECURITY-GROUP-ID": group["GroupId"],
            "SUBNET-ID": subnet["Subnet"]["SubnetId"],
            "AMI-ID": client.describe_images(Owners=["amazon"])["Images"][0]["ImageId"],
            "ACCOUNT": boto3.client("sts").get_caller_identity()["Account"],
            "REGION": REGION,
        }


@pytest.mark.long
def test_ray_starts_every_type_of_machine_on_a_simulated_ec2(ec2: dict[str, str]) -> None:
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    text = (DEPLOY / "aws/cluster.yaml").read_text()
    for placeholder, name in ec2.items():
        text = text.replace(placeholder, name)
    client = boto3.client("ec2", REGION)
    groups = len(client.describe_security_groups()["SecurityGroups"])
    config = bootstrap_aws(prepared(yaml.safe_load(text)))
    assert len(client.describe_security_groups()["SecurityGroups"]) == groups, "Ray made a group that is open to all"

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, kind in config["available_node_types"].items():
        tags = {"ray-node-type": "worker", "ray-user-node-type": name, "ray-node-name": name, "ray-launch-config": "1"}
        provider.create_node(copy.deepcopy(kind["node_config"]), tags, 1)
    started = [i for r in client.describe_instances()["Reservations"] for i in r["Instances"]]
    assert {(i["InstanceType"], i.get("InstanceLifecycle")) for i in started} == {
        ("m7i.2xlarge", None),
        ("m7i.8xlarge", None),
        ("p5.48xlarge", None),
        ("p5.48xlarge", "spot"),
    }
    for instance in started:
        head = instance["InstanceType"] == "m7i.2xlarge"
        assert instance["IamInstanceProfile"]["Arn"].endswith("steady-head" if head else "steady-worker")
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        assert [group["GroupId"] for group in instance["SecurityGroups"]] == [ec2["SECURITY-GROUP-ID"]]
        assert instance.get("PublicIpAddress") is None
