"""What the commands take: manifests with ``-f``, nodes, a policy. In one place: a flag means the same everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from shared import catalogue
from shared.cpuset import CpuSet
from shared.defaulting import LimitRange, with_defaults
from shared.documents import objects, parse_documents, read_documents
from shared.errors import InputError
from shared.pod import Pod
from shared.policy import Isolation, Placing, Scope, Smt, TopologyPolicy
from shared.quantity import parse, to_whole
from shared.topology import Machine
from webhook.nodes import ClusterNode, Fleet
from webhook.pod import Subject, find_template, limit_range, parse_pod, parse_wish, subject, template_path
from webhook.wish import ANYWHERE, Wish

MANIFEST_SUFFIXES = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Item:
    """One object that makes pods."""

    source: str
    """File and the object's number in it, from 1: ``deploy.yaml#1``."""
    subject: Subject
    pod: Pod
    """With its defaults."""
    wish: Wish = ANYWHERE
    """What it says about nodes."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """What ``-f`` gave."""

    items: tuple[Item, ...]
    skipped: int
    """Objects that hold no pod."""


# Manifests.


def read_manifests(files: Sequence[str]) -> Manifests:
    """Every pod and template in the files. LimitRange objects among them count for their namespace, wherever they
    stand. Raises InputError naming file and object."""
    found = [(source, obj) for name in files for source, obj in objects_of(name)]
    ranges: dict[str, list[LimitRange]] = {}
    for source, obj in found:
        if _is_limit_range(obj):
            with _naming(source, obj):
                ranges.setdefault(subject(obj).namespace, []).append(limit_range(obj))
    items = tuple(item for source, obj in found if (item := _item(source, obj, ranges)) is not None)
    return Manifests(items, sum(1 for _, obj in found if template_path(obj) is None and not _is_limit_range(obj)))


def _is_limit_range(obj: Mapping[str, Any]) -> bool:
    return obj.get("kind") == "LimitRange"


def objects_of(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object that one ``-f`` gives, with file and number. Raises InputError naming what cannot be read."""
    for file in _files_of(name):
        if file == STANDARD_INPUT:
            documents = parse_documents(_standard_input(), "standard input")
        else:
            documents = read_documents(Path(file))
        for number, obj in enumerate(objects(documents), start=1):
            if not isinstance(obj, dict):
                raise InputError(f"{file}#{number}: expected a Kubernetes object, found {type(obj).__name__}")
            yield f"{file}#{number}", obj


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("standard input is not text in UTF-8") from error


def _files_of(name: str) -> Iterator[str]:
    path = Path(name)
    if name == STANDARD_INPUT or not path.is_dir():
        yield name
        return
    files = sorted(str(file) for file in path.rglob("*") if file.suffix in MANIFEST_SUFFIXES and file.is_file())
    if not files:
        raise InputError(f"{name}: no file in this folder ends in {', '.join(MANIFEST_SUFFIXES)}")
    yield from files


def _item(source: str, obj: Mapping[str, Any], ranges: Mapping[str, Sequence[LimitRange]]) -> Item | None:
    about = subject(obj)
    with _naming(source, obj):
        template = find_template(obj)
        if template is None:
            return None
        pod = with_defaults(parse_pod(template), ranges.get(about.namespace, ()))
        return Item(source, about, pod, parse_wish(template))


@contextmanager
def _naming(source: str, obj: Mapping[str, Any]) -> Iterator[None]:
    """An error within gets the file and the object in front."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {subject(obj)}: {error}") from error


def tell_skipped(manifests: Manifests) -> None:
    """One line on standard error where objects were passed over."""
    if manifests.skipped:
        skipped = manifests.skipped
        click.echo(
            "1 object without a pod skipped" if skipped == 1 else f"{skipped} objects without pods skipped", err=True
        )
    elif not manifests.items:
        click.echo("nothing to do: the input holds no object", err=True)


def manifest_option(command: F) -> F:
    """``-f``."""
    return click.option(
        "-f",
        "--filename",
        "files",
        metavar="FILE",
        multiple=True,
        required=True,
        help="A file, a folder (searched through), or - for standard input; repeatable.",
    )(command)


def _decorated(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """Add options so that ``--help`` lists them in this order."""
    for option in reversed(options):
        command = option(command)
    return command


# Policy.


@dataclass(frozen=True, slots=True)
class Wanted:
    """The policy that the flags ask for."""

    placing: Placing
    max_share: int | None


def policy_options(command: F) -> F:
    """``--policy`` and its kin, with the values of the namespace labels."""
    options = (
        _choice("--policy", TopologyPolicy, TopologyPolicy.SINGLE_NUMA_NODE, "How strictly pods are aligned."),
        click.option(
            "--max-sidecar-share",
            type=click.IntRange(1, 100),
            metavar="PERCENT",
            help="The sidecars' largest share of the pod's CPU or memory.",
        ),
        _choice("--scope", Scope, Scope.POD, "What is aligned: the pod, or each container that owns CPUs."),
        _choice("--isolation", Isolation, Isolation.AUTO, "How cores are kept exclusive on the node."),
        _choice("--smt", Smt, Smt.FULL_CORES, "Whether SMT siblings may belong to different pods."),
    )
    return _decorated(command, options)


def _choice(flag: str, values: type[Any], default: Any, text: str) -> Callable[[F], F]:
    names = [value.value for value in values]
    return click.option(flag, type=click.Choice(names), default=default.value, show_default=True, help=text)


def wanted(policy: str, max_sidecar_share: int | None, scope: str, isolation: str, smt: str) -> Wanted:
    """The flags as values."""
    placing = Placing(TopologyPolicy(policy), Scope(scope), Isolation(isolation), Smt(smt))
    return Wanted(placing, max_sidecar_share)


# Nodes.


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is kept from pods on every machine."""

    cpus: CpuSet
    memory: int
    """Bytes."""


def reservation_options(command: F) -> F:
    """``--reserved-cpus`` and ``--reserved-memory``."""
    memory = click.option("--reserved-memory", metavar="QUANTITY", default="0", help="Memory kept from pods: 1Gi.")
    command = memory(command)
    return click.option("--reserved-cpus", metavar="LIST", default="", help="CPUs kept from pods: 0-1,64.")(command)


def reservation(reserved_cpus: str, reserved_memory: str) -> Reservation:
    """The flags as values. Raises InputError naming the flag."""
    try:
        cpus = CpuSet.parse(reserved_cpus)
    except InputError as error:
        raise InputError(f"--reserved-cpus: {error}") from error
    try:
        memory = to_whole("memory", parse(reserved_memory))
    except InputError as error:
        raise InputError(f"--reserved-memory {reserved_memory}: {error}") from error
    if memory < 0:
        raise InputError(f"--reserved-memory {reserved_memory}: must be greater than or equal to 0")
    return Reservation(cpus, memory)


def node_options(command: F) -> F:
    """Where nodes come from."""
    options = (
        click.option(
            "--machine", "machines", metavar="NAME", multiple=True, help="A machine of the catalogue; repeatable."
        ),
        click.option("--sysfs", metavar="ROOT", help="Folder that holds sys/ and proc/; / is this machine."),
        click.option("--nodes", metavar="FILE", help="NodeResourceTopology objects (v1alpha2), Nodes too."),
        click.option("--cluster", is_flag=True, help="The nodes of the current kubeconfig's cluster."),
    )
    return _decorated(command, options)


def read_nodes(machines: Sequence[str], sysfs: str | None, nodes: str | None, cluster: bool) -> list[Machine]:
    """The machines that the flags name, this one by default (said on standard error)."""
    if sysfs is None and not (machines or nodes is not None or cluster):
        click.echo("held against this machine; --machine NAME, --nodes FILE or --cluster choose others", err=True)
        sysfs = "/"
    return [*_named(machines, sysfs), *_published(nodes, cluster)]


def _named(machines: Sequence[str], sysfs: str | None) -> list[Machine]:
    found = [catalogue.machine(name) for name in machines]
    if sysfs is not None:
        from shared.sysfs import read_machine

        found.append(read_machine(Path(sysfs)))
    return found


def _published(nodes: str | None, cluster: bool) -> list[Machine]:
    found: list[Machine] = []
    if nodes is not None:
        from shared.noderesourcetopology import read_file

        found += read_file(Path(nodes))
    if cluster:
        from webhook.cluster.listing import read_cluster

        found += read_cluster()
    return found


def read_fleet(
    machines: Sequence[str], sysfs: str | None, nodes: str | None, cluster: bool, reserved: Reservation
) -> Fleet:
    """The same, arranged by what pods may ask of nodes, where there are Node objects: the cluster's, or such as stand
    among the topologies in the file. A machine that was named beside them is a node without labels and taints."""
    found = read_nodes(machines, sysfs, nodes, cluster)
    known = [*_nodes_of_file(nodes), *_nodes_of_cluster(cluster)]
    if not known:
        return Fleet.whole(found, reserved.cpus, reserved.memory)
    plain = [ClusterNode(machine.name, {}, (), {}) for machine in found[: len(machines) + (sysfs is not None)]]
    fleet = Fleet.of([*known, *plain], found, None, reserved.cpus, reserved.memory)
    if fleet.unusable:
        raise InputError(fleet.unusable[0])
    return fleet


def _nodes_of_file(path: str | None) -> Iterator[ClusterNode]:
    documents = read_documents(Path(path)) if path is not None else []
    for number, obj in enumerate(objects(documents), start=1):
        if isinstance(obj, dict) and (obj.get("apiVersion"), obj.get("kind")) == ("v1", "Node"):
            try:
                yield ClusterNode.from_object(obj)
            except InputError as error:
                raise InputError(f"{path}#{number}: {error}") from error


def _nodes_of_cluster(cluster: bool) -> list[ClusterNode]:
    """The cluster's Nodes; none where they may not be read, which is said."""
    if not cluster:
        return []
    from webhook.cluster.listing import read_cluster_nodes

    try:
        return read_cluster_nodes()
    except InputError as error:
        click.echo(f"{error}; so every node counts for every pod", err=True)
        return []


def output_option(*formats: str) -> Callable[[F], F]:
    """``-o`` with the formats that a command knows; the first is the default."""
    return click.option("-o", "--output", type=click.Choice(formats), default=formats[0], show_default=True)
