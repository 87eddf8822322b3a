"""Messages to values and back, the subscription by version, and the generated code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from enforcer.errors import ProtocolError
from enforcer.nri import api_pb2 as api
from enforcer.nri.messages import adjustment_message, container_of, created, sandbox_of, update_messages
from enforcer.nri.service import EVENTS, Service, subscription
from enforcer.runtime import Adjustment, Container, ContainerState, Reply, Sandbox, Update
from tests.enforcer.nri.recorder import Recorder

ROOT = Path(__file__).resolve().parents[3]

SUBSCRIPTIONS = [
    ("a version that is not told is an old one", "", 0x6AF),
    ("0.9 knows no validation", "v0.9.1", 0x6AF),
    ("0.10 does", "v0.10.0", 0x26AF),
    ("0.12 does", "v0.12.0", 0x26AF),
    ("without a v", "0.12.1", 0x26AF),
    ("with what Go adds to a version", "v0.12.1-0.20260101000000-abcdef012345", 0x26AF),
    ("1.0 does", "v1.0.0", 0x26AF),
    ("a version that is none is an old one", "(devel)", 0x6AF),
]


@pytest.mark.parametrize(("what", "version", "events"), SUBSCRIPTIONS, ids=[row[0] for row in SUBSCRIPTIONS])
def test_which_events_are_asked_for(what: str, version: str, events: int) -> None:
    assert subscription(version) == events


def test_every_event_is_named_as_nri_names_it() -> None:
    names = {re.sub("(?<!^)(?=[A-Z])", "_", method).upper(): event.number for method, event in EVENTS.items()}
    assert names == {name: number for name, number in api.Event.items() if number in names.values()}


def test_only_running_a_sandbox_cannot_be_refused() -> None:
    assert [method for method, event in EVENTS.items() if not event.refusable] == ["RunPodSandbox"]


def test_a_sandbox_of_the_bare_minimum() -> None:
    assert sandbox_of(api.PodSandbox()) == Sandbox("", "", "", "")


def test_a_container_of_the_bare_minimum() -> None:
    assert container_of(api.Container()) == Container("", "", "")


def test_a_state_of_tomorrow_is_unknown() -> None:
    assert container_of(api.Container.FromString(bytes([4 << 3, 9]))).state is ContainerState.UNKNOWN


def test_a_pod_as_containerd_writes_it() -> None:
    """Field by field as NRI numbers them; labels (5), a handler (7) and addresses (10) are passed over."""
    wire = (
        b"\x0a\x02s1\x12\x05web-1\x1a\x02u1\x22\x04shop\x2a\x06\x0a\x01l\x12\x01m\x32\x06\x0a\x01a\x12\x01b"
        b"\x3a\x04runc\x42\x0a\x1a\x08/kube/u1\x48\x4d\x52\x08fe80::10"
    )
    assert sandbox_of(api.PodSandbox.FromString(wire)) == Sandbox(
        "s1", "u1", "shop", "web-1", {"a": "b"}, "/kube/u1", 77
    )


def test_a_container_as_containerd_writes_it() -> None:
    """Arguments (7) and environment (8) are passed over; the quota of the specification is not looked at."""
    cpu = b"\x12\x04\x08\xa0\x8d\x06\x32\x030-3\x3a\x010"
    resources = b"\x12" + bytes([len(cpu)]) + cpu
    linux = b"\x1a" + bytes([len(resources)]) + resources + b"\x2a\x03/p/"
    wire = (
        b"\x0a\x02c1\x12\x02s1\x1a\x03app\x20\x03\x32\x06\x0a\x01a\x12\x01b\x3a\x05sleep\x42\x03A=B"
        b"\x5a" + bytes([len(linux)]) + linux + b"\x60\x4e"
    )
    assert container_of(api.Container.FromString(wire)) == Container(
        "c1", "s1", "app", ContainerState.RUNNING, {"a": "b"}, "0-3", "0", "/p/", 78
    )


ADJUSTMENTS = [
    ("nothing leaves everything", Adjustment(), b""),
    ("CPUs only", Adjustment(cpus="2-3"), b"\x32\x09\x12\x07\x12\x05\x32\x032-3"),
    ("memory nodes only", Adjustment(mems="1"), b"\x32\x07\x12\x05\x12\x03\x3a\x011"),
    (
        "no quota is a quota of -1",
        Adjustment(no_quota=True),
        b"\x32\x11\x12\x0f\x12\x0d\x12\x0b\x08" + b"\xff" * 9 + b"\x01",
    ),
    ("a mark", Adjustment(annotations={"m": "1"}), b"\x12\x06\x0a\x01m\x12\x011"),
]


@pytest.mark.parametrize(("what", "adjustment", "wire"), ADJUSTMENTS, ids=[row[0] for row in ADJUSTMENTS])
def test_an_adjustment_in_bytes(what: str, adjustment: Adjustment, wire: bytes) -> None:
    assert adjustment_message(adjustment).SerializeToString() == wire


def test_an_update_in_bytes() -> None:
    (message,) = update_messages([Update("c2", "0-1")])
    assert message.SerializeToString() == b"\x0a\x02c2\x12\x09\x0a\x07\x12\x05\x32\x030-1"


def test_a_reply_that_wants_nothing_is_empty() -> None:
    assert created(Reply()).SerializeToString() == b""


def test_pods_without_end_are_not_read() -> None:
    service = Service(Recorder(), ready=lambda runtime: None, largest=1000)
    piece = api.SynchronizeRequest(pods=[api.PodSandbox(id="s" * 800)], more=True).SerializeToString()
    assert service.read("Synchronize", piece) is not None
    with pytest.raises(ProtocolError) as caught:
        service.read("Synchronize", piece)
    assert str(caught.value) == (
        f"The runtime described its pods and containers in {2 * len(piece)} bytes and has not finished; 1000 are the "
        "most that is read."
    )


async def test_a_runtime_without_a_name() -> None:
    told: list[str] = []
    service = Service(Recorder(), ready=told.append)
    for method in ("Configure", "Synchronize"):
        call = service.read(method, b"")
        assert call is not None
        await call.ask()
    assert told == ["a runtime without a name"]


async def test_a_second_synchronize_begins_anew() -> None:
    handlers = Recorder()
    service = Service(handlers, ready=lambda runtime: None)
    for name in ("s1", "s2"):
        call = service.read("Synchronize", api.SynchronizeRequest(pods=[api.PodSandbox(id=name)]).SerializeToString())
        assert call is not None
        await call.ask()
    assert handlers.asked == [("synchronize", [Sandbox(name, "", "", "")], []) for name in ("s1", "s2")]


def test_what_is_generated_is_what_the_proto_file_says(tmp_path: Path) -> None:
    """Renew it with the command in the file's head. What only the generator's version changes does not count."""
    protoc = pytest.importorskip("grpc_tools.protoc")
    assert protoc.main(["protoc", f"-I{ROOT}", f"--python_out={tmp_path}", f"{ROOT}/enforcer/nri/api.proto"]) == 0
    assert described(tmp_path) == described(ROOT)


def described(root: Path) -> str:
    """The messages in generated code."""
    code = (root / "enforcer/nri/api_pb2.py").read_text(encoding="utf-8")
    (line,) = (line for line in code.splitlines() if line.startswith("DESCRIPTOR = "))
    return line
