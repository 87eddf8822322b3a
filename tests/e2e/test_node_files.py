"""What the lab writes for a node: images, the initrd's archive, the kubelet's settings, and the console's lines."""

from __future__ import annotations

import base64
import io
import json
import socket
import tarfile
import threading
from pathlib import Path

import pytest

from e2e.lab.console import GuestEndedError, Reply, monitor, reply, request, run_in_guest
from e2e.lab.errors import LabError
from e2e.lab.images import Image, archive
from e2e.lab.initrd import cpio
from e2e.lab.kubelet import (
    KubeletVariant,
    NodeSettings,
    Runtime,
    containerd_configuration,
    firewall,
    kubelet_configuration,
    node_files,
)
from e2e.lab.rootfs import MASKED, units

SETTINGS = NodeSettings("n1", "10.0.11.15", "10.0.11.2", 6443, "10.85.1.0/24", KubeletVariant.NONE)


def members(data: bytes) -> dict[str, bytes]:
    """The files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {one.name: file.read() for one in tar if (file := tar.extractfile(one)) is not None}


def test_an_image_is_an_oci_layout_whose_digests_are_those_of_its_parts() -> None:
    layout = members(archive(Image("localhost/x:1", {"bin/x": b"program"}, {"bin/y": "x"}, ("bin",), ("/bin/x",))))
    index = json.loads(layout["index.json"])
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "localhost/x:1"
    manifest = json.loads(layout[blob(index["manifests"][0]["digest"])])
    config = json.loads(layout[blob(manifest["config"]["digest"])])
    assert config["config"]["Cmd"] == ["/bin/x"]
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    layer = layout[blob(manifest["layers"][0]["digest"])]
    assert manifest["layers"][0]["size"] == len(layer)
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getnames() == ["bin", "bin/x", "bin/y"]
        assert tar.getmember("bin/y").linkname == "x"


def blob(digest: str) -> str:
    """Where a layout has the part of that digest."""
    return digest.replace("sha256:", "blobs/sha256/")


def test_the_same_content_is_the_same_image_to_the_byte() -> None:
    assert archive(Image("a:1", {"f": b"1"})) == archive(Image("a:1", {"f": b"1"}))
    assert archive(Image("a:1", {"f": b"1"})) != archive(Image("a:1", {"f": b"2"}))


def test_the_initrds_archive_has_its_members_at_multiples_of_four_and_a_trailer() -> None:
    packed = cpio(("dev",), {"init": b"#!x\n\n"})
    assert len(packed) % 4 == 0
    assert packed.count(b"070701") == 3
    assert packed.startswith(b"070701" + b"00000001" + b"000041ED")
    start = packed.index(b"init\0")
    assert packed[start + 6 :].startswith(b"#!x\n\n")  # 110 bytes of header and 5 of name, and one to a multiple of 4
    assert packed.rstrip(b"\0").endswith(b"TRAILER!!!")


def test_the_default_kubelet_manages_no_cpus_and_the_peer_does() -> None:
    default, peer = (kubelet_configuration(variant) for variant in KubeletVariant)
    assert default["cpuManagerPolicy"] == "none"
    assert "topologyManagerPolicy" not in default
    assert peer["featureGates"] == {"PodLevelResourceManagers": True}
    assert (peer["cpuManagerPolicy"], peer["memoryManagerPolicy"]) == ("static", "Static")
    assert (peer["topologyManagerPolicy"], peer["topologyManagerScope"]) == ("single-numa-node", "pod")


def test_the_peers_reserved_memory_is_the_sum_that_the_kubelet_demands() -> None:
    peer = json.loads(json.dumps(kubelet_configuration(KubeletVariant.PEER)))
    parts = (peer["kubeReserved"], peer["systemReserved"])
    reserved = sum(int(one["memory"].removesuffix("Mi")) for one in parts)
    eviction = int(peer["evictionHard"]["memory.available"].removesuffix("Mi"))
    assert peer["reservedMemory"][0]["limits"]["memory"] == f"{reserved + eviction}Mi"


def test_every_file_that_the_kubelets_unit_names_is_written() -> None:
    written = node_files(SETTINGS)
    for option in units()["kubelet.service"].split():
        name, _, path = option.partition("=/")
        if name in ("--config", "--kubeconfig", "EnvironmentFile"):
            assert path in written, f"{option} is not among the node's files"


def test_no_unit_that_the_node_needs_is_masked() -> None:
    assert not set(units()) & set(MASKED)


def test_containerd_has_one_runtime_and_the_nodes_own_pause_image() -> None:
    text = containerd_configuration(Runtime.CRUN)
    assert "default_runtime_name = 'crun'" in text
    assert "sandbox = 'localhost/pause:1'" in text
    assert "SystemdCgroup = true" in text


def test_pods_reach_the_api_server_under_the_services_address() -> None:
    assert "ip daddr 10.0.0.1 tcp dport 443 dnat to 10.0.11.2:6443" in firewall(SETTINGS)


def test_a_request_to_the_guest_is_one_line_led_by_an_empty_one() -> None:
    body = base64.b64encode(b"echo 1\n").decode()
    assert request("ab", "echo 1\n", 2.5) == f"\nab 2.5 {len(body)} {body}\n".encode()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"ab 3 .aGk= .", Reply(3, "hi", "")),
        (b"cd 0 .aGk= .", None),
        (b"ab 0", None),
        (b"", None),
    ],
)
def test_only_the_whole_answer_to_ones_own_request_counts(line: bytes, found: Reply | None) -> None:
    assert reply(line, "ab") == found


def serve(path: Path, *answers: bytes) -> threading.Thread:
    """A machine's socket that gives these answers, one for each line with something in it, and then closes; without
    answers it does so after the first line."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def talk() -> None:
        with listener, listener.accept()[0] as stream, stream.makefile("rb") as lines:
            for answer in answers:
                if answer.startswith(b"{"):
                    stream.sendall(answer + b"\n")
                    continue
                asked = next(line for line in lines if line.strip()).split()
                stream.sendall(b"old 0 . .\n" + asked[0] + answer + b"\n")
            if answers:
                lines.read()  # until the other side has had enough
            else:
                next(line for line in lines if line.strip())

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    return thread


def test_an_answer_that_a_killed_process_left_behind_is_passed_over(tmp_path: Path) -> None:
    talking = serve(tmp_path / "agent.sock", b" 0 .b2s= .")
    assert run_in_guest(tmp_path / "agent.sock", "true", 5) == Reply(0, "ok", "")
    talking.join(5)


def test_a_guest_that_ends_is_told_from_one_that_is_slow(tmp_path: Path) -> None:
    talking = serve(tmp_path / "agent.sock")
    with pytest.raises(GuestEndedError, match=r"the guest behind .* closed its console; it has stopped"):
        run_in_guest(tmp_path / "agent.sock", "true", 5)
    talking.join(5)
    with pytest.raises(GuestEndedError, match=r"nothing answers at .* \(No such file or directory\); .*"):
        run_in_guest(tmp_path / "nobody.sock", "true", 5)


def test_what_qemus_monitor_refuses_is_one_sentence(tmp_path: Path) -> None:
    refusal = b'{"error": {"class": "GenericError", "desc": "no such thing"}}'
    talking = serve(tmp_path / "m.sock", b'{"QMP": {}}', b'{"return": {}}', b'{"event": "STOP"}', refusal)
    with pytest.raises(LabError) as refused:
        monitor(tmp_path / "m.sock", "jump")
    assert str(refused.value) == "QEMU refused jump: no such thing"
    talking.join(5)
