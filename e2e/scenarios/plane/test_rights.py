"""Each right that the chart gives is needed: without it something named fails that people would notice.

Rights are taken away in rounds, of those that do not hide each other: what fails first may keep what comes after it
from being tried. Together the rounds are all rights of the roles, so that none is spare.

Both programs run as processes with the chart's service accounts. The enforcer's node is this machine with
cgroups in a folder, and its runtime a fake (`tests/support`): what it asks of an API server depends on neither.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from e2e.lab import netns
from e2e.lab.controlplane import ControlPlane
from e2e.lab.enforcer import NAME, NAMESPACE, RELEASE, TOPOLOGIES
from e2e.lab.installed import CONFIGURATION, SERVICE, Installed
from e2e.lab.namespace import Namespace
from e2e.lab.replicas import PORT, endpoint_slice
from e2e.lab.rights import Right, Role
from e2e.lab.webhook import ENFORCE
from enforcer.runtime import Container, Sandbox
from shared.seal import ANNOTATION
from tests.support.fake_runtime import FakeRuntime
from tests.support.node_folder import arguments, furnish

pytestmark = pytest.mark.slow

NODE = "folder"

NOTICED_WITHIN = 120.0
"""Seconds until what fails without a right must have been said; measured 1 to 3."""


@pytest.fixture(scope="module")
def installed(plane: ControlPlane) -> Iterator[Installed]:
    """The chart with all of its rights, and no pod: there is no node."""
    found = Installed.install(plane, {"enforcer": {"enabled": True}})
    yield found
    found.uninstall()
    plane.wait_settled()


# The webhook.

CA, SIGNING, KEYS = f"{RELEASE}-ca", f"{RELEASE}-signing", f"{RELEASE}-keys"
MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"
LEASES = "leases.coordination.k8s.io"
FOLLOWED = ("namespaces", "nodes", "limitranges", TOPOLOGIES)

FORBIDDEN = " 403 "
"""How a log gives the API server's status; a bare 403 may be the milliseconds of any line."""

HERE = "10.0.20.200"
"""Address of the process."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One right taken away, and what is said then."""

    right: Right
    says: str
    """A pattern in the log."""
    before: tuple[str, ...] = ()
    """What kubectl is told first, so that the right is needed."""


def cannot_follow(resource: str, verb: str) -> Loss:
    """What is followed is named, and where it was never read, the process is not ready."""
    word = resource.partition(".")[0]
    return Loss(Right(resource, verb), f"cannot follow {word}, .* 403 Forbidden")


def refused(right: Right, verb: str, what: str, *before: str) -> Loss:
    """The keeper names what it was about to do, with the API server's own words."""
    where = what if "WebhookConfiguration" in what else what.replace(" ", f" {NAMESPACE}/")
    return Loss(right, f"refuses to {verb} {where}: 403 ", before)


def emptied(kind: str, name: str, path: str) -> tuple[str, ...]:
    """Take something out of an object."""
    operation = json.dumps([{"op": "remove", "path": path}])
    return "patch", kind, name, "-n", NAMESPACE, "--type=json", "-p", operation


def gone(kind: str, *names: str) -> tuple[str, ...]:
    """Delete objects."""
    return "delete", kind, *names, "-n", NAMESPACE, "--ignore-not-found"


ROUNDS: tuple[tuple[Loss, ...], ...] = (
    (
        *(cannot_follow(resource, "list") for resource in FOLLOWED),
        refused(Right("secrets", "get", SIGNING), "read", f"Secret {SIGNING}"),
        refused(Right("secrets", "get", CA), "read", f"Secret {CA}"),
        refused(Right(LEASES, "get", SERVICE), "read", f"Lease {SERVICE}"),
        refused(Right(MUTATING, "get", CONFIGURATION), "read", f"MutatingWebhookConfiguration {CONFIGURATION}"),
        refused(Right(MUTATING, "watch", CONFIGURATION), "watch", f"MutatingWebhookConfiguration {CONFIGURATION}"),
        refused(Right(VALIDATING, "watch", CONFIGURATION), "watch", f"ValidatingWebhookConfiguration {CONFIGURATION}"),
    ),
    (
        *(cannot_follow(resource, "watch") for resource in FOLLOWED),
        refused(Right("configmaps", "get", KEYS), "read", f"ConfigMap {KEYS}"),
        refused(Right(VALIDATING, "get", CONFIGURATION), "read", f"ValidatingWebhookConfiguration {CONFIGURATION}"),
        refused(Right(LEASES, "create"), "create", f"Lease {SERVICE}", *gone("lease", SERVICE)),
    ),
    (
        refused(Right("secrets", "create"), "create", f"Secret {SIGNING}", *gone("secret", SIGNING)),
        refused(Right("secrets", "update", CA), "update", f"Secret {CA}", *emptied("secret", CA, "/data/ca-1.crt")),
        refused(Right(LEASES, "update", SERVICE), "update", f"Lease {SERVICE}"),
    ),
    (
        refused(Right("configmaps", "create"), "create", f"ConfigMap {KEYS}", *gone("configmap", KEYS)),
        refused(
            Right(VALIDATING, "patch", CONFIGURATION),
            "patch",
            f"ValidatingWebhookConfiguration {CONFIGURATION}",
            *emptied(VALIDATING, CONFIGURATION, "/webhooks/0/clientConfig/caBundle"),
        ),
    ),
    (
        refused(
            Right("secrets", "update", SIGNING),
            "update",
            f"Secret {SIGNING}",
            *emptied("secret", SIGNING, "/data/intent.key"),
        ),
        refused(
            Right(MUTATING, "patch", CONFIGURATION),
            "patch",
            f"MutatingWebhookConfiguration {CONFIGURATION}",
            *emptied(MUTATING, CONFIGURATION, "/webhooks/0/clientConfig/caBundle"),
        ),
    ),
    (
        refused(
            Right("configmaps", "update", KEYS),
            "update",
            f"ConfigMap {KEYS}",
            *emptied("configmap", KEYS, "/data/intent.pub"),
        ),
        # The owner of what is made.
        refused(Right("serviceaccounts", "get", SERVICE), "read", f"ServiceAccount {SERVICE}", *gone("lease", SERVICE)),
    ),
)


LISTING_PODS = Right("pods", "list")
"""Asked for where somebody labels a namespace."""


def roles(installed: Installed) -> tuple[Role, Role]:
    """The webhook's, in the whole cluster and in its own namespace."""
    plane = installed.plane
    return Role.read(plane, "clusterrole", SERVICE), Role.read(plane, "role", SERVICE, NAMESPACE)


@pytest.fixture(scope="module")
def settled(installed: Installed) -> Installed:
    """Everything that the webhook makes is there: it ran once, and had nothing to complain about."""
    netns.add_address(installed.plane.netns, HERE)
    wait_ready(installed)
    return installed


@contextmanager
def webhook(installed: Installed) -> Iterator[Callable[[], str]]:
    """Its process with its service account; gives what it has logged so far."""
    plane, replicas = installed.plane, installed.replicas()
    name = f"right-{secrets.token_hex(2)}"
    # Nothing is served, and no node has to hear of a key before it signs.
    argv = [*replicas.command(HERE), "--drain=0", "--key-delay=0"]
    plane.run.spawn(name, argv, replicas.environment(name))
    try:
        yield (plane.run.logs / f"{name}.log").read_text
    finally:
        plane.run.end(name)


def wait_ready(installed: Installed) -> None:
    """With all rights it becomes ready, mending whatever was broken, without a word of complaint."""
    with webhook(installed) as log:
        wait(partial(says_ready, installed), log)
        assert FORBIDDEN not in log(), log()


def says_ready(installed: Installed) -> bool:
    """Whether the process does."""
    ask = f"u.urlopen('https://{HERE}:{PORT}/readyz', context=ssl._create_unverified_context())"
    argv = installed.plane.inside([sys.executable, "-c", f"import ssl, urllib.request as u; {ask}"])
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_the_webhook_has_these_rights_and_no_others(settled: Installed) -> None:
    tried = [loss.right for losses in ROUNDS for loss in losses]
    given = [right for role in roles(settled) for right in role.stored]
    assert sorted(map(str, given)) == sorted(map(str, [*tried, LISTING_PODS]))


@pytest.mark.parametrize("losses", ROUNDS, ids=[str(losses[0].right) for losses in ROUNDS])
def test_the_webhook_needs(settled: Installed, losses: tuple[Loss, ...]) -> None:
    lost = [loss.right for loss in losses]
    for loss in losses:
        if loss.before:
            settled.plane.kubectl(*loss.before)
    wide, own = roles(settled)
    with wide.without(*lost), own.without(*lost), webhook(settled) as log:
        for loss in losses:
            wait(partial(is_said, loss.says, log), log)
    wait_ready(settled)


def test_without_the_right_to_list_pods_whoever_labels_their_namespace_hears_that_nobody_looked(
    settled: Installed, namespace: Namespace
) -> None:
    leads = endpoint_slice(NAMESPACE, SERVICE, [HERE])
    settled.plane.kubectl("apply", "-f", "-", input=json.dumps(leads))
    words = ("label", "namespace", namespace.name, f"{ENFORCE}=restricted", "--dry-run=server")
    with roles(settled)[0].without(LISTING_PODS), webhook(settled) as log:
        wait(lambda: "refuses to list them: 403" in settled.plane.kubectl_raw(*words).stderr, log)
    settled.plane.kubectl("delete", "endpointslice", leads["metadata"]["name"], "-n", NAMESPACE)


def is_said(pattern: str, log: Callable[[], str]) -> bool:
    """Whether the log says so."""
    return re.search(pattern, log()) is not None


def wait(noticed: Callable[[], object], log: Callable[[], str]) -> None:
    """Until it is so; fails with the log."""
    end = time.monotonic() + NOTICED_WITHIN
    while not noticed():
        assert time.monotonic() < end, log()
        time.sleep(0.2)


# The enforcer.


@asynccontextmanager
async def enforcer(installed: Installed, folder: Path) -> AsyncIterator[tuple[Path, FakeRuntime]]:
    """Its process with its service account, on a node in a folder; what it says goes to a file."""
    furnish(folder)
    words = [word for word in arguments(folder) if word != "--no-cluster"]
    for option, value in (("--node", NODE), ("--sysfs", "/")):
        words[words.index(option) + 1] = value
    account = ["--kubeconfig", str(installed.account(NAME)), "--listen", ""]
    log = folder / "log"
    async with FakeRuntime(folder / "nri.sock") as runtime:
        with log.open("wb") as out:
            argv = installed.plane.inside([sys.executable, *words, *account])
            process = await asyncio.create_subprocess_exec(*argv, stderr=out, env=dict(os.environ))
        try:
            yield log, runtime
        finally:
            process.kill()
            await process.wait()


async def a_forged_pod_comes(runtime: FakeRuntime, space: str) -> None:
    """Its owner is to be told, and whether it may run depends on its namespace."""
    plugin = await runtime.plugin()
    box = Sandbox("box", "uid", space, "forged", {ANNOTATION: "all the cores, please"}, "/kubepods/poduid", 77)
    await plugin.run_sandbox(box)
    try:
        await plugin.create(box, Container("id", "box", "app", cgroups_path="/kubepods/poduid/id"))
    except Exception as error:  # in a namespace that enforces, or that is not known, it is refused
        print(error)


def published(installed: Installed) -> str:
    """The owners of what the node has published; ``none`` where it has nothing, and empty where nobody owns it."""
    path = "jsonpath={.metadata.ownerReferences[*].name}"
    done = installed.plane.kubectl_raw("get", TOPOLOGIES, NODE, "-o", path)
    return done.stdout if done.returncode == 0 else "none"


Noticed = Callable[[Installed, str], bool]
"""Whether something is wrong, by the cluster and the log."""

ENFORCERS: dict[Right, Noticed] = {
    Right("namespaces", "get"): lambda installed, log: "namespace not known" in log and "refuses GET" in log,
    Right("nodes", "get"): lambda installed, log: published(installed) == "",
    Right("events", "create"): lambda installed, log: "event not taken" in log and FORBIDDEN in log,
    Right(TOPOLOGIES, "create"): lambda installed, log: "topology not published" in log,
    Right(TOPOLOGIES, "patch"): lambda installed, log: "topology not published" in log,
}
"""What somebody notices without the right."""


def test_the_enforcer_has_these_rights_and_no_others(installed: Installed) -> None:
    assert sorted(Role.read(installed.plane, "clusterrole", NAME).stored) == sorted(ENFORCERS)


@pytest.fixture
def node(installed: Installed) -> Iterator[None]:
    """The Node object that stands for the folder; nothing is published of it yet."""
    installed.plane.kubectl("create", "-f", "-", input=f"{{apiVersion: v1, kind: Node, metadata: {{name: {NODE}}}}}")
    yield
    installed.plane.kubectl("delete", "node", NODE)
    installed.plane.kubectl("delete", TOPOLOGIES, NODE, "--ignore-not-found")


@pytest.mark.usefixtures("node")
async def test_with_all_of_them_nothing_is_noticed(installed: Installed, namespace: Namespace, tmp_path: Path) -> None:
    async with enforcer(installed, tmp_path) as (log, runtime):
        await a_forged_pod_comes(runtime, namespace.name)
        await until(lambda: published(installed) == NODE and namespace.list("events") != [], log)
        noticed = [str(right) for right, look in ENFORCERS.items() if look(installed, log.read_text())]
        assert noticed == []


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("right", ENFORCERS, ids=str)
async def test_the_enforcer_needs(installed: Installed, namespace: Namespace, tmp_path: Path, right: Right) -> None:
    with Role.read(installed.plane, "clusterrole", NAME).without(right):
        async with enforcer(installed, tmp_path) as (log, runtime):
            await a_forged_pod_comes(runtime, namespace.name)
            await until(lambda: ENFORCERS[right](installed, log.read_text()), log)


async def until(noticed: Callable[[], bool], log: Path) -> None:
    """Until it is so; fails with the log."""
    end = time.monotonic() + NOTICED_WITHIN
    while not await asyncio.to_thread(noticed):
        assert time.monotonic() < end, log.read_text()
        await asyncio.sleep(0.2)
