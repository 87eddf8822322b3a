"""``armistice proof``: on a node, or from anywhere through kubectl.

Exit: 0 everything promised holds, 1 something does not, 2 it cannot be read.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from enforcer.cgroup import Cgroups
from enforcer.exhibit import document, lines
from enforcer.processes import Processes
from enforcer.promise import PodPromise
from enforcer.proof import PodFound, prove
from enforcer.remote import prove_remotely
from enforcer.report import MissingReport, Report, read_report
from shared.errors import ArmisticeError, InputError

EXAMPLE = """\b
Examples:
  armistice proof                      # every pod of this node
  armistice proof web -n shop          # one of them
  kubectl armistice proof web -o json  # from anywhere
"""


class Unreadable(click.ClickException):
    """The proof cannot be given either way."""

    exit_code = 2


@click.command(epilog=EXAMPLE)
@click.argument("pod", default="")
@click.option("-n", "--namespace", default="", help="The pod's namespace.")
@click.option("-o", "--output", "form", type=click.Choice(["table", "json", "yaml"]), default="table")
@click.option("--state-dir", type=click.Path(path_type=Path), default=Path("/run/armistice"), show_default=True,
              help="Where the node's enforcer leaves its report.")  # fmt: skip
@click.option("--cgroup-root", type=click.Path(path_type=Path), default=Path("/sys/fs/cgroup"), show_default=True)
@click.option("--proc", type=click.Path(path_type=Path), default=Path("/proc"), show_default=True)
@click.option("--remote", is_flag=True, help="Ask the pod's node through kubectl, even on a node.")
@click.pass_context
def proof(
    context: click.Context, pod: str, namespace: str, form: str, state_dir: Path, cgroup_root: Path, proc: Path,
    remote: bool,
) -> None:  # fmt: skip
    """What was promised to pods, and what the kernel says, thread by thread and page by page."""
    try:
        report = None if remote else _report(state_dir)
        if report is None:
            context.exit(_remotely(pod, namespace, form, state_dir))
        found = prove(report, choose(report, pod, namespace), Cgroups(cgroup_root), Processes(proc))
    except ArmisticeError as error:
        raise Unreadable(str(error)) from error
    _print(found, form)
    context.exit(0 if all(each.holds for each in found) else 1)


def choose(report: Report, pod: str, namespace: str) -> list[PodPromise]:
    """The promises that are asked about. Raises InputError when one by name is not there."""
    chosen = [
        each for each in report.promises if pod in ("", each.name) and namespace in ("", each.namespace)
    ]  # fmt: skip
    if pod and not chosen:
        known = ", ".join(f"{each.namespace}/{each.name}" for each in report.promises) or "none"
        asked = f"{namespace}/{pod}" if namespace else pod
        raise InputError(f"the enforcer of {report.machine} has promised nothing to pod {asked}; it knows: {known}")
    return chosen


def _report(state_dir: Path) -> Report | None:
    """The node's report; None where there is none, but a kubectl to ask with."""
    try:
        return read_report(state_dir)
    except MissingReport:
        if shutil.which("kubectl"):
            return None
        raise


def _remotely(pod: str, namespace: str, form: str, state_dir: Path) -> int:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise InputError("kubectl is not in PATH: install it, or run this on the pod's node")
    if not pod:
        raise InputError(
            f"there is no report in {state_dir}, so this is no node: name a pod, as in 'armistice proof web'"
        )
    return prove_remotely(kubectl, pod, namespace, form)


def _print(found: list[PodFound], form: str) -> None:
    if form == "table":
        click.echo("\n".join(lines(found)) or "The enforcer of this node has promised nothing to any pod.")
    elif form == "json":
        click.echo(json.dumps(document(found), indent=2))
    else:
        _print_yaml(document(found))


def _print_yaml(content: dict[str, Any]) -> None:
    import yaml  # only here: the daemon must not carry it

    yaml.safe_dump(content, sys.stdout, sort_keys=False, width=10**6)
