"""``armistice demo``: the main job, end to end, with nothing to set up.

A real webhook process answers real AdmissionReviews over TLS; this side plays the API server, and prints what kubectl
would. Nothing outside the process, its folder and one loopback port is touched.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import click
import jsonpatch

from shared import catalogue
from shared.documents import read_documents
from shared.errors import ArmisticeError, IntentError
from shared.intent import Intent
from shared.ledger import Ledger
from shared.policy import Placing, TopologyPolicy
from shared.quantity import spoken
from shared.seal import ANNOTATION, KeyRing, open_
from shared.topology import Machine
from webhook.command.inputs import read_manifests
from webhook.command.output import count, print_people, size

MACHINE = "azure-nd96isr-h100-v5"
"""Two NUMA nodes with four GPUs each, and small enough for a terminal."""

NAMESPACE = "demo"

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

STORIES = (
    ("llm-server.yaml", "an inference server with its sidecars"),
    ("llm-server-traced.yaml", "the same, with heavier sidecars"),
    ("trainer.yaml", "training on all eight GPUs"),
    ("packet-engine.yaml", "a pod budget with nothing left to share"),
    ("gateway.yaml", "a Deployment, judged by its template"),
)
"""What is applied, in this order: each file, and what it is."""

PLURALS = {"Pod": "pods", "Deployment": "deployments"}

PATIENCE = 30.0
"""Seconds for the webhook to start, and for an answer."""

WIDTH = 80


@dataclass(frozen=True, slots=True)
class Server:
    """A running webhook."""

    url: str
    ca: Path
    public: Path
    """Its public key, in PEM."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one manifest."""

    created: bool
    obj: Mapping[str, Any]
    """As it would be stored: patched."""


@click.command(
    short_help="The whole of it, shown in a few seconds.",
    epilog="\b\nExamples:\n  armistice demo\n  NO_COLOR=1 armistice demo | less",
)
def demo() -> None:
    """Show the whole of it, on this machine, in a few seconds: a webhook, its verdicts, its intents, their places."""
    machine = catalogue.machine(MACHINE)
    _say(
        "Armistice treats a pod as one machine. It tells you at kubectl apply whether the pod fits one NUMA node, "
        "and writes down, signed, what each of its containers is to get there.",
        indent="",
    )
    print_people("")
    with running() as server:
        _introduce(server, machine)
        applied = [_apply(server, file, about) for file, about in STORIES]
        _show_intent(server, applied[0])
    _show_places(machine)
    _show_ways_on()


# A webhook.


@contextmanager
def running() -> Iterator[Server]:
    """A webhook process of our own on a free port; gone afterwards, whatever happens."""
    arguments = ["webhook", "--port", "0", "--machine", MACHINE, "--drain", "0"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "webhook.command", *arguments],
            stdout=subprocess.PIPE,
            stderr=complaints,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        too_long = threading.Timer(PATIENCE, process.kill)
        too_long.start()
        try:
            server = _started(process, complaints)
            too_long.cancel()
            yield server
        finally:
            too_long.cancel()
            _end(process)


def _started(process: subprocess.Popen[str], complaints: IO[bytes]) -> Server:
    """What the process says about itself. Raises ArmisticeError where it ends before it is ready."""
    said: dict[str, str] = {}
    assert process.stdout is not None
    for line in process.stdout:
        name, _, value = line.strip().partition("  ")
        said[name] = value.strip()
        if name == "ready":
            return Server(said["ready"], Path(said["CA certificate"]), Path(said["public key"].partition(" (id")[0]))
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    raise ArmisticeError(f"the webhook did not start: {lines[-1] if lines else 'it said nothing'}")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _introduce(server: Server, machine: Machine) -> None:
    gpus = sum(sum(node.devices.values()) for node in machine.numa_nodes)
    memory = size(sum(node.memory or 0 for node in machine.numa_nodes))
    nodes = count(len(machine.numa_nodes), "NUMA node")
    _heading("1  A webhook, as a cluster would run it")
    _typed(f"armistice webhook --port 0 --machine {MACHINE}")
    _say(f"listens on {server.url}, TLS with a CA of its own")
    _say(f"knows one node with {count(len(machine.online), 'CPU')} in {nodes}, {memory} and {gpus} GPUs")
    _say(f"holds every namespace to {TopologyPolicy.SINGLE_NUMA_NODE.value}")
    print_people("")
    _heading("2  Five manifests, sent to it as the API server sends them")


# The API server's part.


def _apply(server: Server, file: str, about: str) -> Applied:
    """Mutation, patch, validation; printed as kubectl would print it."""
    (obj,) = read_documents(EXAMPLES / file)
    assert isinstance(obj, dict)
    _typed(f"kubectl apply -f {file}", about)
    warnings: list[str] = []
    for path in ("/mutate", "/validate"):
        response = _reviewed(server, path, obj)
        warnings += [text for text in response.get("warnings", ()) if text not in warnings]
        if not response["allowed"]:
            _print_warnings(warnings)
            _print_denial(file, path, response["status"])
            print_people("")
            return Applied(False, obj)
        if "patch" in response:
            obj = jsonpatch.apply_patch(obj, json.loads(b64decode(response["patch"])))
    _print_warnings(warnings)
    _coloured(_created(obj), "green")
    print_people("")
    return Applied(True, obj)


def _reviewed(server: Server, path: str, obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """The response of one AdmissionReview. Raises ArmisticeError where it is none."""
    request = review(obj)
    status, body = _posted(server, path, json.dumps(request).encode())
    if status != http.client.OK:
        raise ArmisticeError(f"{server.url}{path} answered {status}: {body.decode(errors='replace').strip()}")
    response: Mapping[str, Any] = json.loads(body)["response"]
    if response["uid"] != request["request"]["uid"]:
        raise ArmisticeError(f"{server.url}{path} answered another request")
    return response


def review(obj: Mapping[str, Any]) -> dict[str, Any]:
    """An AdmissionReview about a new object, as an API server makes it."""
    group, _, version = obj["apiVersion"].rpartition("/")
    kind = {"group": group, "version": version, "kind": obj["kind"]}
    resource = {"group": group, "version": version, "resource": PLURALS[obj["kind"]]}
    request = {
        "uid": str(uuid.uuid4()),
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": obj["metadata"]["name"],
        "namespace": NAMESPACE,
        "operation": "CREATE",
        "userInfo": {"username": "you", "groups": ["system:authenticated"]},
        "object": obj,
        "oldObject": None,
        "dryRun": False,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _posted(server: Server, path: str, body: bytes) -> tuple[int, bytes]:
    trust = ssl.create_default_context(cafile=str(server.ca))
    address = urlsplit(server.url)
    connection = http.client.HTTPSConnection(address.hostname or "", address.port, context=trust, timeout=PATIENCE)
    try:
        connection.request("POST", f"{path}?timeout=10s", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _created(obj: Mapping[str, Any]) -> str:
    group = obj["apiVersion"].rpartition("/")[0]
    kind = obj["kind"].lower() + (f".{group}" if group else "")
    return f"{kind}/{obj['metadata']['name']} created"


def _print_warnings(warnings: list[str]) -> None:
    for text in warnings:
        _coloured(f"Warning: {text}", "yellow")


def _print_denial(file: str, path: str, status: Mapping[str, Any]) -> None:
    webhook = f"{path.strip('/')}.armistice.dev"
    _coloured(
        f'Error from server ({status["reason"]}): error when creating "{file}": admission webhook "{webhook}" denied '
        f"the request: {status['message']}",
        "red",
    )


# What the node reads.


def _show_intent(server: Server, applied: Applied) -> None:
    """The annotation of the first pod, verified as the node would, and refused where it should be."""
    text = applied.obj["metadata"]["annotations"][ANNOTATION]
    name = applied.obj["metadata"]["name"]
    keys = KeyRing.from_pem(server.public.read_bytes(), str(server.public))
    intent = open_(text, NAMESPACE, name, None, keys)
    _heading(f"3  The intent that pod {name} now carries")
    _say(f"{ANNOTATION}: {len(text)} bytes of JSON, signed with Ed25519")
    for line in _parts(intent):
        print_people(f"   {line}")
    _verdict("read by its own pod", "verified with the public key of the webhook", "green")
    for story, forged, namespace in (
        ("with one CPU more", re.sub(r'"slice":(\d+)', lambda m: f'"slice":{int(m[1]) + 1}', text), NAMESPACE),
        ("in another namespace", text, "prod"),
    ):
        try:
            open_(forged, namespace, name, None, keys)
        except IntentError as error:
            _verdict(story, f"refused, {error}", "red")
    print_people("")


def _parts(intent: Intent) -> Iterator[str]:
    """The pod's containers and what each is to get, one a line."""
    longest = max(len(part.name) for part in intent.parts)
    for part in intent.parts:
        if part.slice:
            gets = f"{spoken('cpu', 1000 * part.slice)} of its own"
        else:
            gets = "the pod's CPUs, before the others start" if part.role.value == "init" else "the pod shared pool"
        yield f"  {part.name:<{longest}}  {part.role.value:<9}  {gets}"
    pool = spoken("cpu", 1000 * intent.pool)
    total = spoken("cpu", 1000 * intent.bubble)
    yield f"  {'together':<{longest}}  {intent.placement.value:<9}  {total}, {pool} of them in the pod shared pool"


# Where it lands.


def _show_places(machine: Machine) -> None:
    """The first pod and a replica of the Deployment, put on the machine by the allocator that judged them."""
    from webhook.command.place import place_all, show

    _heading("4  Where they land: the allocator that judged them, with its last step")
    items = read_manifests([str(EXAMPLES / STORIES[index][0]) for index in (0, -1)]).items
    ledger, placed = place_all(Ledger.of(machine), items, Placing())
    show(ledger, placed)
    print_people("")


def _show_ways_on() -> None:
    _heading("5  Your turn")
    _typed(f"armistice check -f YOUR.yaml --machine {MACHINE}", "the verdict, for you or your CI")
    _typed(f"armistice place -f YOUR.yaml --machine {MACHINE}", "the picture")
    _typed("armistice machines", "machines to hold pods against")
    _say(f"The five manifests are in {EXAMPLES}.", indent="")


# Printing.


def _heading(text: str) -> None:
    from rich.text import Text

    print_people(Text(text, style="bold"), "")


def _say(text: str, indent: str = "   ") -> None:
    print_people(*_lines(text, indent))


def _typed(command: str, about: str = "") -> None:
    from rich.text import Text

    line = Text(f"   $ {command}", style="bold")
    if about and len(line) + len(about) + 5 <= WIDTH:
        line.append(f"   # {about}", style="not bold dim")
    elif about:
        print_people(Text(f"   # {about}", style="dim"))
    print_people(line)


def _verdict(story: str, text: str, colour: str) -> None:
    from rich.text import Text

    first, *others = _lines(text, " " * 26)
    print_people(Text(f"   {story:<23}").append(first.strip(), style=colour))
    print_people(*(Text(line, style=colour) for line in others))


def _coloured(text: str, colour: str) -> None:
    from rich.text import Text

    print_people(*(Text(line, style=colour) for line in _lines(text, "   ")))


def _lines(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
