"""The enforcer's installation in the lab: as few rights as do, and each of them with its reason."""

from __future__ import annotations

from e2e.lab.enforcer import CAPABILITIES, DAEMON, LABELS, PROCESS, RULES, VOLUMES, daemon_set, objects

POD = daemon_set("node1")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_the_container_is_not_privileged_and_has_the_named_capabilities_only() -> None:
    security = CONTAINER["securityContext"]
    assert not security["privileged"]
    assert not security["allowPrivilegeEscalation"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN", "SYS_PTRACE"]}
    assert all(CAPABILITIES.values())


def test_the_host_lends_its_cgroups_the_runtimes_folder_and_its_own_state_to_write_and_nothing_else() -> None:
    written = {mount["mountPath"] for _, mount in VOLUMES.values() if not mount.get("readOnly")}
    assert written == {"/sys/fs/cgroup", "/var/run/nri", "/run/armistice"}
    assert "hostNetwork" not in POD


def test_it_starts_where_its_own_pods_are_never_waited_for_by_itself() -> None:
    head = daemon_set("node1")["spec"]["template"]["metadata"]
    assert head == {"labels": LABELS}, "an intent, or a list of required plugins, would make it wait for itself"
    assert POD["tolerations"] == [{"operator": "Exists"}]
    assert daemon_set("node1")["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_the_api_server_lets_it_read_namespaces_tell_pods_and_publish_its_node() -> None:
    verbs = {resource: set(rule["verbs"]) for rule in RULES for resource in rule["resources"]}
    assert verbs == {
        "namespaces": {"get"},
        "nodes": {"get"},
        "events": {"create", "patch"},
        "noderesourcetopologies": {"get", "create", "update", "patch"},
    }


def test_the_public_key_and_no_other_goes_to_the_node() -> None:
    (keys,) = [one["data"] for one in objects("node1", "the public key") if one["kind"] == "ConfigMap"]
    assert keys == {"intent.pub": "the public key"}


def test_the_daemon_is_told_from_its_own_proof_by_its_command_line() -> None:
    assert PROCESS.endswith(f" {DAEMON[0]}")
    assert DAEMON[0] != "proof"
