"""``demand``, ``check`` and ``place`` as people and CI jobs call them: JSON field by field, exit codes, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared import catalogue
from shared.noderesourcetopology import to_object
from tests.support.data import reference
from webhook.command.__main__ import run

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers:
      - name: proxy
        restartPolicy: Always
        resources: {requests: {cpu: 100m, memory: 128Mi}}
      containers:
      - name: app
        resources:
          requests: {cpu: 3, memory: 2Gi, nvidia.com/gpu: 1}
          limits: {cpu: 3, memory: 2Gi, nvidia.com/gpu: 1}
"""

HEAVY = """
apiVersion: v1
kind: Pod
metadata: {name: heavy, namespace: prod}
spec:
  containers:
  - name: app
    resources: {requests: {cpu: 40, memory: 32Gi}, limits: {cpu: 40, memory: 32Gi}}
  - name: istio-proxy
    resources: {requests: {cpu: 6, memory: 1Gi}}
"""

BOUND = """
apiVersion: v1
kind: Pod
metadata: {name: batch}
spec: {containers: [{name: job, resources: {requests: {cpu: 500m, memory: 1Gi}}}]}
"""

QUARTERS = "gcp-c3-highcpu-176"
"""4 NUMA nodes of 44 CPUs in cores of 2 threads, and 88 GiB."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in (("web.yaml", WEB), ("heavy.yaml", HEAVY), ("batch.yaml", BOUND)):
        (tmp_path / name).write_text(content)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The JSON that a command prints, its exit code checked."""
    assert run([*arguments, "-o", "json"]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence on standard error of a command line that cannot be carried out."""
    assert run(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_demand_field_by_field(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "demand", "-f", "web.yaml") == {
        "version": "armistice.dev/v1",
        "items": [
            {
                "source": "web.yaml#1",
                "kind": "Deployment",
                "namespace": "default",
                "name": "web",
                "qos": "Burstable",
                "class": "exclusive",
                "demand": {"cpu": 3100, "memory": 2281701376, "nvidia.com/gpu": 1},
                "without_sidecars": {"cpu": 3000, "memory": 2147483648, "nvidia.com/gpu": 1},
                "sidecar_share": {"cpu": 3.2, "memory": 5.9},
                "containers": [
                    {
                        "name": "proxy",
                        "role": "sidecar",
                        "why": "restartPolicy Always",
                        "cpu": 100,
                        "memory": 134217728,
                        "eligible": False,
                        "exclusive_cpus": 0,
                    },
                    {
                        "name": "app",
                        "role": "app",
                        "why": "",
                        "cpu": 3000,
                        "memory": 2147483648,
                        "eligible": True,
                        "exclusive_cpus": 3,
                    },
                ],
            }
        ],
    }


def test_check_field_by_field(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "check", "-f", "heavy.yaml", "--machine", QUARTERS, "--machine", "aws-t3.medium", code=1)
    message = (
        'Pod "heavy": sidecars too heavy, asks 46 CPUs, the roomiest NUMA node has 44 CPUs; istio-proxy asks 6 '
        "CPUs and "
        "1 GiB (13.0 %); without its sidecars it fits; smallest change: istio-proxy cpu from 6 to 4; "
        "aws-c7i.metal-48xl "
        "would hold it as it is"
    )
    assert found["items"] == [
        {
            "source": "heavy.yaml#1",
            "kind": "Pod",
            "namespace": "prod",
            "name": "heavy",
            "verdict": "sidecars-too-heavy",
            "allowed": False,
            "message": message,
            "notes": [],
            "sidecars": [{"name": "istio-proxy", "cpu": 6000, "memory": 2**30, "share": 13.0}],
            "largest_numa_node": {"machine": QUARTERS, "node": 0, "cpu": 44_000, "memory": 88 * 2**30},
            "smallest_change": [{"container": "istio-proxy", "resource": "cpu", "from": 6000, "to": 4000}],
            "fits_on": [],
        }
    ]


def test_check_of_what_fits(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "check", "-f", "batch.yaml", "--machine", "aws-t3.medium", "--machine", QUARTERS)["items"][0]
    assert {key: found[key] for key in ("verdict", "allowed", "message", "sidecars", "smallest_change", "fits_on")} == {
        "verdict": "fits",
        "allowed": True,
        "message": "",
        "sidecars": [],
        "smallest_change": None,
        "fits_on": ["aws-t3.medium", QUARTERS],
    }


CODES = [
    ("all fit", ["-f", "batch.yaml"], 0),
    ("one does not", ["-f", "batch.yaml", "-f", "heavy.yaml"], 1),
    ("a share over the limit", ["-f", "web.yaml", "--max-sidecar-share", "1", "--machine", "dgx-h100"], 1),
    ("policy none asks nothing", ["-f", "heavy.yaml", "--policy", "none"], 0),
    ("a whole folder", ["-f", "."], 1),
]


@pytest.mark.parametrize(("what", "arguments", "code"), CODES, ids=[row[0] for row in CODES])
def test_exit_code_of_check(
    what: str, arguments: list[str], code: int, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "check", "--machine", QUARTERS, *arguments, code=code)


def test_a_spanning_pod_is_allowed_by_restricted_and_still_does_not_fit(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(capsys, "check", "-f", "heavy.yaml", "--machine", QUARTERS, "--policy", "restricted", code=1)
    assert (found["items"][0]["verdict"], found["items"][0]["allowed"]) == ("sidecars-too-heavy", True)


def test_place_field_by_field(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(
        capsys, "place", "-f", "heavy.yaml", "-f", "web.yaml", "-f", "batch.yaml", "--machine", "dgx-h100",
        "--reserved-cpus", "0,112",
    )  # fmt: skip
    assert found == {
        "version": "armistice.dev/v1",
        "machine": "dgx-h100",
        "node_shared_pool": "26-111,138-223",
        "items": [
            {
                "source": "heavy.yaml#1",
                "kind": "Pod",
                "namespace": "prod",
                "name": "heavy",
                "class": "exclusive",
                "numa_nodes": [0],
                "memory_nodes": [0],
                "cpus": "1-23,113-135",
                "pod_shared_pool": "21-23,133-135",
                "containers": {"app": "1-20,113-132", "istio-proxy": "21-23,133-135"},
                "misfit": None,
            },
            {
                "source": "web.yaml#1",
                "kind": "Deployment",
                "namespace": "default",
                "name": "web",
                "class": "exclusive",
                "numa_nodes": [0],
                "memory_nodes": [0],
                "cpus": "24-25,136-137",
                "pod_shared_pool": "137",
                "containers": {"proxy": "137", "app": "24-25,136"},
                "misfit": None,
            },
            {
                "source": "batch.yaml#1",
                "kind": "Pod",
                "namespace": "default",
                "name": "batch",
                "class": "bound",
                "numa_nodes": [0],
                "memory_nodes": [0],
                "cpus": "26-55,138-167",
                "pod_shared_pool": "",
                "containers": {"job": "26-55,138-167"},
                "misfit": None,
            },
        ],
    }


def test_a_misfit_leaves_the_rest_of_the_list_going(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "place", "-f", "heavy.yaml", "-f", "batch.yaml", "--machine", QUARTERS, code=1)
    misfit, batch = found["items"]
    assert misfit["misfit"] == {
        "message": "asks 46 CPUs; NUMA node 0, the roomiest, has 44 CPUs free",
        "asked": {"cpu": 46_000, "memory": 33 * 2**30},
        "found": {"numa_node": 0, "cpu": 44_000, "memory": 88 * 2**30},
    }
    assert (misfit["cpus"], misfit["numa_nodes"], misfit["containers"]) == ("", [], {})
    assert batch["misfit"] is None


REFUSED = [
    ("no such file", ["check", "-f", "no.yaml"], "armistice: no.yaml cannot be read: No such file or directory\n"),
    (
        "a folder without manifests",
        ["check", "-f", "empty"],
        "armistice: empty: no file in this folder ends in .yaml, .yml, .json\n",
    ),
    (
        "a quantity that is none, in the second object",
        ["demand", "-f", "bad.yaml"],
        "armistice: bad.yaml#2: Pod \"x\": spec.containers[0].resources.requests[cpu]: '1x': quantities must match the "
        "regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'\n",
    ),
    (
        "an object that is none",
        ["demand", "-f", "text.yaml"],
        "armistice: text.yaml#1: expected a Kubernetes object, found str\n",
    ),
    (
        "a machine that nobody knows",
        ["check", "-f", "web.yaml", "--machine", "dgx-h10"],
        "armistice: no machine 'dgx-h10' in the catalogue; did you mean dgx-h100? `armistice machines` lists them\n",
    ),
    (
        "two machines to place on",
        ["place", "-f", "web.yaml", "--machine", "dgx-h100", "--machine", "dgx-a100"],
        "armistice: place works on one machine, and 2 were given (dgx-h100, dgx-a100); name one with --machine\n",
    ),
    (
        "a reservation of CPUs that are not there",
        ["place", "-f", "web.yaml", "--machine", "aws-t3.medium", "--reserved-cpus", "0-3"],
        "armistice: machine aws-t3.medium: cannot reserve CPUs 2-3; online are 0-1\n",
    ),
    (
        "a reservation of more memory than there is",
        ["place", "-f", "web.yaml", "--machine", "aws-t3.medium", "--reserved-memory", "5Gi"],
        "armistice: machine aws-t3.medium: cannot reserve 5 GiB of memory; it has 4 GiB\n",
    ),
    (
        "a reservation that is no quantity",
        ["check", "-f", "web.yaml", "--reserved-memory", "1Gx"],
        "armistice: --reserved-memory 1Gx: quantities must match the regular expression "
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'\n",
    ),
]


@pytest.mark.parametrize(("what", "arguments", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_used_is_one_sentence(
    what: str, arguments: list[str], message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "empty").mkdir()
    (files / "text.yaml").write_text("just text")
    (files / "bad.yaml").write_text(
        BOUND + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: x}\n"
        "spec: {containers: [{name: a, resources: {requests: {cpu: 1x}}}]}\n"
    )
    assert refused(capsys, *arguments) == message


def test_limit_ranges_count_for_their_namespace_wherever_they_stand(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = {"limits": [{"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}}]}
    bare = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a"}]}}
    documents = [
        {**bare, "metadata": {"name": "here", "namespace": "x"}},
        {**bare, "metadata": {"name": "there", "namespace": "y"}},
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": "x"}, "spec": limits},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}},
    ]
    (files / "all.yaml").write_text(yaml.safe_dump_all(documents))
    assert run(["demand", "-f", "all.yaml", "-o", "json"]) == 0
    out, err = capsys.readouterr()
    assert [item["demand"] for item in json.loads(out)["items"]] == [{"cpu": 2000, "memory": 2**30}, {}]
    assert err == "1 object without a pod skipped\n"


def test_lists_are_taken_apart_and_counted_through(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [yaml.safe_load(WEB), yaml.safe_load(BOUND)]
    (files / "list.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    found = said(capsys, "demand", "-f", "list.json")
    assert [(item["source"], item["name"]) for item in found["items"]] == [
        ("list.json#1", "web"),
        ("list.json#2", "batch"),
    ]


def test_every_real_manifest_is_weighed_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(reference("manifests"))
    assert len(said(capsys, "demand", "-f", folder)["items"]) == 60
    judged = said(capsys, "check", "-f", folder, "--machine", "dgx-h100", code=1)["items"]
    assert len(judged) == 60
    assert all((item["message"] == "") == (item["verdict"] == "fits") for item in judged)


@pytest.mark.parametrize("command", ["demand", "check", "place"])
def test_the_table_reads_without_colour_and_keeps_its_words(
    command: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = [] if command == "demand" else ["--machine", QUARTERS]
    run([command, "-f", ".", *extra])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert all(name in out for name in ("web", "heavy", "batch"))


POOLS = """
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: a, labels: {pool: web}}
  status: {allocatable: {cpu: 60, memory: 200Gi}}
- apiVersion: v1
  kind: Node
  metadata: {name: b, labels: {pool: hpc}}
  spec: {taints: [{key: hpc, effect: NoSchedule}]}
"""


def test_nodes_beside_their_topologies_choose_which_of_them_count(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topologies = [to_object(replace(catalogue.machine(QUARTERS), name=name)) for name in "ab"]
    documents = [yaml.safe_load(POOLS), *topologies]
    (files / "nodes.yaml").write_text(yaml.safe_dump_all(documents))
    (item,) = said(capsys, "check", "-f", "batch.yaml", "--nodes", "nodes.yaml")["items"]
    assert item["fits_on"] == ["a"]
    wanting = yaml.safe_load(BOUND)
    wanting["spec"] |= {"nodeSelector": {"pool": "hpc"}, "tolerations": [{"operator": "Exists"}]}
    (files / "batch.yaml").write_text(yaml.safe_dump(wanting))
    (item,) = said(capsys, "check", "-f", "batch.yaml", "--nodes", "nodes.yaml")["items"]
    assert (item["fits_on"], item["largest_numa_node"]["machine"]) == (["b"], "b")
    del wanting["spec"]["tolerations"]
    (files / "batch.yaml").write_text(yaml.safe_dump(wanting))
    (item,) = said(capsys, "check", "-f", "batch.yaml", "--nodes", "nodes.yaml")["items"]
    assert (item["verdict"], item["largest_numa_node"]) == ("unknown", None)
    assert item["message"] == (
        'Pod "batch": the one node that its node selector allows has a taint that it does not tolerate; whether it '
        "fits one NUMA node is unknown"
    )
    (item,) = said(capsys, "check", "-f", "batch.yaml", "--nodes", "nodes.yaml", "--machine", QUARTERS)["items"]
    assert item["verdict"] == "unknown"  # a machine that is named beside nodes has no labels


def test_a_node_in_the_file_that_cannot_be_read_is_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "spec": {"taints": 1}}
    documents = [to_object(catalogue.machine(QUARTERS)), broken]
    (files / "nodes.yaml").write_text(yaml.safe_dump_all(documents))
    told = refused(capsys, "check", "-f", "batch.yaml", "--nodes", "nodes.yaml")
    assert told == 'armistice: nodes.yaml#2: Node "a": spec.taints: expected a list of objects\n'
