"""``armistice policy``: from files, and from a stand-in cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.listing import Server, serving, use
from webhook.cluster.listing import CONFIG_MAPS, MUTATING, NAMESPACES, VALIDATING
from webhook.command.__main__ import run

EXAMPLE = str(Path(__file__).resolve().parents[3] / "webhook" / "examples" / "namespaces.yaml")
OURS = {"app.kubernetes.io/name": "armistice"}
BUILT_IN = "none is given, so a namespace without labels asks for nothing"

Json = dict[str, Any]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0, told: str = "") -> str:
    """What it prints, and its exit code and standard error as expected."""
    assert run(["policy", *arguments]) == code
    out, err = capsys.readouterr()
    assert err == told
    return out


def test_the_example_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "-f", EXAMPLE).splitlines() == [
        "NAMESPACE  ENFORCE           WARN              AUDIT  FROM                     SINCE  OTHERS",
        "inference  single-numa-node  single-numa-node  none   label, enforce, default  -      max-sidecar-s…",
        "web        none              restricted        none   default, label, default  -",
        "batch      none              none              none   default                  -",
        "",
        f"defaults  {BUILT_IN}",
    ]


def test_one_namespace_is_shown_with_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "web", "-f", EXAMPLE).splitlines() == [
        "SETTING            VALUE       FROM     SINCE",
        "enforce            none        default  -",
        "warn               restricted  label    -",
        "audit              none        default  -",
        "max-sidecar-share  no limit    default  -",
        "scope              pod         default  -",
        "isolation          auto        default  -",
        "smt                full-cores  default  -",
        "",
        f"defaults  {BUILT_IN}",
    ]


def test_a_config_file_gives_defaults_and_exemptions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("defaults: {audit: restricted}\nexempt: {namespaces: [web]}\nmode: warn\n")
    found = json.loads(printed(capsys, "-f", EXAMPLE, "--config", str(config), "-o", "json"))
    assert (found["version"], found["webhooks"]) == ("armistice.dev/v1", None)
    assert found["defaults"] == {"from": str(config), "mode": "warn"}
    inference, web, batch = found["items"]
    value = {"value": "none", "from": "mode", "since": None, "since_what": None}
    assert inference["settings"]["enforce"] == value
    assert (web["namespace"], web["exempt"]) == ("web", True)
    assert web["warnings"] == ["it is exempt; its armistice.dev/ labels have no effect"]
    assert batch["settings"]["audit"] == {**value, "value": "restricted", "from": "default"}


def test_a_mistyped_label_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "namespace.json"
    metadata = {"name": "shop", "labels": {"armistice.dev/enforce": "strict"}}
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
    assert (
        'shop: namespace label armistice.dev/enforce: "strict" is not one of none, best-effort, restricted, '
        "single-numa-node; until it is put right single-numa-node counts"
    ) in " ".join(printed(capsys, "-f", str(file), code=1).split())


REFUSED = [
    (("-f", "{empty}"), "{empty}: no Namespace is there; `kubectl get namespaces -o yaml` writes such a file"),
    (("shop", "-f", EXAMPLE), f"{EXAMPLE}: no Namespace shop is there; `kubectl get namespaces -o yaml` writes such a "
     "file"),
    (("-f", "{nameless}"), "{nameless}#1: a Namespace has no metadata.name"),
    (("-f", EXAMPLE, "--cluster"), "-f and --cluster each say where namespaces come from; give one (see armistice "
     "policy --help)"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "told"), REFUSED)
def test_what_cannot_be_read(
    arguments: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"empty": tmp_path / "empty.yaml", "nameless": tmp_path / "nameless.yaml"}
    files["empty"].write_text("")
    files["nameless"].write_text("{apiVersion: v1, kind: Namespace}")
    given = [argument.format(**files) for argument in arguments]
    assert printed(capsys, *given, code=2, told=f"armistice: {told.format(**files)}\n") == ""


# A cluster.


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """With the chart installed."""
    with serving() as server:
        use(monkeypatch, tmp_path, server.address)
        server.objects = {
            NAMESPACES.path: [
                namespace("kube-system"),
                namespace("armistice"),
                namespace("shop", enforce="restricted"),
            ],
            CONFIG_MAPS.path: [config_map(), config_map("armistice-keys", labels=OURS)],
            MUTATING.path: [configuration(), {"metadata": {"name": "istio"}}],
            VALIDATING.path: [configuration()],
        }
        yield server


def namespace(name: str, **labels: str) -> Json:
    ours = {f"armistice.dev/{key}": text for key, text in labels.items()}
    return {"metadata": {"name": name, "labels": ours, "creationTimestamp": "2026-11-01T08:00:00Z"}}


def configuration() -> Json:
    service = {"namespace": "armistice", "name": "armistice-webhook"}
    return {
        "metadata": {"name": "zz-armistice", "labels": OURS},
        "webhooks": [{"clientConfig": {"service": service}}, {"clientConfig": {"url": "https://127.0.0.1:8443"}}],
    }


def config_map(name: str = "armistice-config", text: str = "defaults: {audit: restricted}", **more: Any) -> Json:
    metadata = {"name": name, "namespace": "armistice", "labels": OURS, **more}
    return {"metadata": metadata, "data": {"config.yaml": text} if name.endswith("-config") else {}}


def test_a_cluster_is_asked_for_everything(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys).splitlines() == [
        "NAMESPACE    ENFORCE     WARN        AUDIT       FROM                     SINCE         OTHERS",
        "kube-system  none        none        none        exempt                   -",
        "armistice    none        none        none        exempt                   -",
        "shop         restricted  restricted  restricted  label, enforce, default  (2026-11-01)",
        "",
        "A time in brackets is the namespace's own age: nobody is said to own the label.",
        "defaults  ConfigMap armistice/armistice-config",
        "webhooks  mutating: zz-armistice",
        "webhooks  validating: zz-armistice",
    ]


def test_a_namespace_that_is_being_deleted_is_left_out(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """With the typing error that its label has."""
    leaving = namespace("leaving", enforce="strict")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-02T08:00:00Z"
    server.objects[NAMESPACES.path].append(leaving)
    assert "leaving" not in printed(capsys)
    assert "leaving" in printed(capsys, "leaving", code=1)


def test_one_namespace_of_a_cluster(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    found = yaml.safe_load(printed(capsys, "shop", "-o", "yaml"))
    assert [item["namespace"] for item in found["items"]] == ["shop"]
    assert found["webhooks"] == {"mutating": ["zz-armistice"], "validating": ["zz-armistice"]}
    told = f"armistice: --cluster: {server.address} knows no namespace of that name\n"
    assert printed(capsys, "nobody", code=2, told=told) == ""


def test_without_the_chart_nothing_is_in_force(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.objects |= {CONFIG_MAPS.path: [], MUTATING.path: [], VALIDATING.path: []}
    assert printed(capsys).splitlines()[-3:] == [
        f"defaults  {BUILT_IN}",
        "webhooks  mutating: not installed, so no pod is aligned",
        "webhooks  validating: not installed, so nothing is rejected, warned of or audited at the end",
    ]


def test_what_may_not_be_read_is_said_and_the_rest_shown(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.status |= {CONFIG_MAPS.path: 403, MUTATING.path: 403}
    refused = f"--cluster: {server.address} refuses to list"
    told = f"{refused} ConfigMap objects: 403 Forbidden; so the cluster's defaults are not known, --config FILE gives "
    shown = " ".join(printed(capsys, told=f"{told}them\n").split())
    assert shown.endswith(
        "defaults not known, they may not be read "
        f"webhooks not known: {refused} MutatingWebhookConfiguration objects: 403 Forbidden"
    )


def test_two_installations_have_to_be_told_apart(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.objects[CONFIG_MAPS.path] += [config_map("other-config")]
    told = (
        "armistice: the cluster holds more than one config (armistice/armistice-config, armistice/other-config); "
        "choose with --config FILE\n"
    )
    assert printed(capsys, code=2, told=told) == ""


def test_a_config_that_lies_elsewhere_is_not_ours(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    before = printed(capsys)
    server.objects[CONFIG_MAPS.path] += [config_map("mine-config", "mode: audit", namespace="shop")]
    assert printed(capsys) == before


def test_a_broken_config_is_named(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.objects[CONFIG_MAPS.path] = [config_map(text="mode: off")]
    told = "armistice: ConfigMap armistice/armistice-config: mode is false; give one of enforce, warn, audit\n"
    assert printed(capsys, code=2, told=told) == ""
