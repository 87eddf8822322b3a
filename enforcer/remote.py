"""The same proof from a person's machine: find the pod's node and the enforcer there, and run the command in it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from shared.errors import InputError

SELECTOR = "app.kubernetes.io/name=armistice,app.kubernetes.io/component=enforcer"
CONTAINER = "enforcer"
SECONDS = 30
"""That the API server may take for a question."""

_LOGGED = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ ")
"""How a line of klog begins (``k8s.io/klog/v2``): severity, month and day, time."""


def prove_remotely(kubectl: str, pod: str, namespace: str, form: str) -> int:
    """Run the proof on the pod's node, with its output as it comes. The answer is its exit code."""
    space, node = find_node(kubectl, pod, namespace)
    home, enforcer = find_enforcer(kubectl, node)
    command = [kubectl, "exec", "--namespace", home, enforcer, "--container", CONTAINER, "--"]
    command += ["python", "-m", "enforcer", "proof", pod, "--namespace", space, "--output", form]
    return subprocess.run(command, check=False).returncode


def find_node(kubectl: str, pod: str, namespace: str) -> tuple[str, str]:
    """The pod's namespace and node. Raises InputError."""
    if "/" in pod:
        space, _, name = pod.rpartition("/")
        raise InputError(f"{pod} is no name of a pod: give the namespace on its own, {name} --namespace {space}")
    found = _ask(kubectl, "get", "pod", pod, *(("--namespace", namespace) if namespace else ()))
    space, node = found["metadata"]["namespace"], found["spec"].get("nodeName", "")
    if not node:
        raise InputError(f"pod {space}/{pod} is on no node yet: see 'kubectl describe pod {pod} -n {space}'")
    return space, node


def find_enforcer(kubectl: str, node: str) -> tuple[str, str]:
    """Namespace and name of the running enforcer of a node. Raises InputError."""
    found = _ask(
        kubectl, "get", "pods", "--all-namespaces", "--selector", SELECTOR,
        "--field-selector", f"spec.nodeName={node},status.phase=Running",
    )  # fmt: skip
    if not found["items"]:
        raise InputError(
            f"no enforcer runs on node {node}: install the chart with the enforcer, and see that its DaemonSet "
            f"tolerates the node's taints"
        )
    metadata = found["items"][0]["metadata"]
    return metadata["namespace"], metadata["name"]


def _ask(kubectl: str, *arguments: str) -> Any:
    """An object of the API as kubectl prints it. Its own error is the sentence that the person reads."""
    try:
        done = subprocess.run(
            [kubectl, *arguments, "--output", "json"], capture_output=True, check=False, text=True, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{_shown(kubectl, arguments)} did not answer: {error}") from error
    if done.returncode:
        raise InputError(f"{_shown(kubectl, arguments)} failed: {reason(done.stderr)}")
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise InputError(f"{_shown(kubectl, arguments)} answered with no JSON: use kubectl 1.24 or newer") from error


def reason(errors: str) -> str:
    """The sentence in what kubectl wrote to standard error, without the log lines of its client before it."""
    lines = [line for line in errors.splitlines() if line.strip() and not _LOGGED.match(line)]
    return "\n".join(lines) or errors.strip() or "no reason was given"


def _shown(kubectl: str, arguments: Sequence[str]) -> str:
    return f"'{kubectl} {' '.join(arguments)}'"
