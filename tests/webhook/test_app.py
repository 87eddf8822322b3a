"""A real process over TLS: what it answers, what it refuses, how it goes away."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared.seal import ANNOTATION, KeyRing, open_
from tests.support.live import JSON, Live, webhook
from tests.support.reviews import container, pod, review
from webhook.app import allowance
from webhook.certs import issue, make_authority, utc_now
from webhook.settings import MEBIBYTE

BODY = json.dumps(review(pod())).encode()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with webhook() as process:
        yield process


def test_it_says_where_it_is(live: Live) -> None:
    assert list(live.said) == ["CA certificate", "public key", "nodes", "policy", "ready"]
    assert (live.said["nodes"], live.said["policy"]) == ("azure-nd96isr-h100-v5", "single-numa-node, mode enforce")


def test_a_pod_is_patched_with_an_intent_that_the_public_key_verifies(live: Live) -> None:
    response = live.review("/mutate?timeout=10s", review(pod()))
    (operation,) = json.loads(b64decode(response["patch"]))
    keys = KeyRing.from_pem(Path(live.said["public key"].partition(" (id")[0]).read_bytes(), "x")
    intent = open_(operation["value"][ANNOTATION], "demo", "web", ["app"], keys)
    assert (response["uid"], response["allowed"], intent.bubble) == (review(pod())["request"]["uid"], True, 2)


def test_a_pod_that_does_not_fit_is_forbidden(live: Live) -> None:
    status = live.review("/validate", review(pod(container(cpu="60"))))["status"]
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert status["message"].startswith('Pod "web": too large, asks 60 CPUs, the roomiest NUMA node has 48 CPUs; ')


def test_a_large_body_is_read(live: Live) -> None:
    content = review(pod(annotations={"padding": "x" * 7 * MEBIBYTE}))
    assert live.review("/mutate", content)["allowed"]


def test_it_is_healthy_ready_and_countable(live: Live) -> None:
    assert live.get("/healthz") == (200, "ok\n")
    assert live.get("/readyz") == (200, "ready\n")
    status, text = live.get("/metrics")
    assert status == 200
    assert 'armistice_reviews_total{decision="allowed",kind="pod",phase="mutate",verdict="fits"}' in text


NOT_REVIEW = "expected an AdmissionReview of admission.k8s.io/v1 as JSON"

REFUSED = [
    ("an empty body", b"", JSON, 400, f"the body is empty; {NOT_REVIEW}\n"),
    ("no JSON", b"hello", JSON, 400, "the body is not JSON: invalid character (byte 0)\n"),
    (
        "another type",
        BODY,
        {"Content-Type": "text/plain"},
        400,
        'the Content-Type is "text/plain"; expected application/json\n',
    ),
    ("no type", BODY, {}, 400, 'the Content-Type is ""; expected application/json\n'),
    (
        "a packed body",
        BODY,
        {**JSON, "Content-Encoding": "gzip"},
        400,
        "the body has a Content-Encoding; send it as it is\n",
    ),
    (
        "a body that is too long",
        b" " * (8 * MEBIBYTE + 1),
        JSON,
        400,
        "the body is longer than the 8388608 bytes that are read\n",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("what", "body", "headers", "status", "text"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_no_review_gets_a_sentence(
    what: str, body: bytes, headers: dict[str, str], status: int, text: str, live: Live
) -> None:
    assert live.post("/mutate", body, headers) == (status, text)


def test_a_type_with_parameters_is_taken(live: Live) -> None:
    assert live.post("/mutate", BODY, {"Content-Type": "Application/JSON; charset=utf-8"})[0] == 200


def test_other_places_say_what_there_is(live: Live) -> None:
    assert live.get("/mutate") == (405, "/mutate is for POST\n")
    assert live.get("/") == (
        404,
        "nothing is served here; there is POST /mutate, POST /validate, GET /healthz, GET /readyz, GET /metrics\n",
    )


def raw(live: Live, sent: bytes, patience: float = 15.0) -> bytes:
    """What comes back to bytes of any kind, until the other side closes."""
    plain = socket.create_connection(("127.0.0.1", live.port), timeout=patience)
    with live.trust.wrap_socket(plain, server_hostname="localhost") as secure:
        answer = b""
        with suppress(ssl.SSLError, ConnectionError):
            secure.sendall(sent)
            while part := secure.recv(65536):
                answer += part
        return answer


HEAD = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.slow
def test_a_body_that_never_comes_is_a_400(live: Live) -> None:
    answer = raw(live, HEAD + b"Content-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\nthe body did not arrive within 5 seconds\n")


def test_a_body_in_chunks_is_read(live: Live) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:10], BODY[10:]))
    answer = raw(live, HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_chunks_without_end_are_a_400(live: Live) -> None:
    chunk = b"%x\r\n%s\r\n" % (MEBIBYTE, b" " * MEBIBYTE)
    answer = raw(live, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 9)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_broken_http_is_a_400(live: Live) -> None:
    for sent in (b"\x00\x01\x02\r\n\r\n", b"POST /mutate HTTP/9.9\r\n\r\n", HEAD + b"Content-Length: -1\r\n\r\n"):
        assert raw(live, sent).startswith(b"HTTP/1."), sent
        assert b" 400 " in raw(live, sent).split(b"\r\n")[0]


def test_old_tls_is_not_spoken(live: Live) -> None:
    trust = live.trust
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    older = live.connection(trust)
    older.connect()
    older.close()
    with socket.create_connection(("127.0.0.1", live.port)) as plain:  # a hello of TLS 1.1, as bytes
        hello = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x02\xc0\x13" + b"\x01\x00"
        record = b"\x01" + len(hello).to_bytes(3, "big") + hello
        plain.sendall(b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record)
        assert plain.recv(7)[:1] in (b"\x15", b"")  # an alert, or nothing more


ALLOWANCES = [
    ("timeout=10s", 9.0),
    ("a=b&timeout=1500ms&c=d", 1.35),
    ("timeout=1m30s", 81.0),
    ("timeout=0.5s", 0.45),
    ("", float("inf")),
    ("timeout=", float("inf")),
    ("timeout=soon", float("inf")),
    ("timeout=-1s", float("inf")),
    ("mytimeout=1s", float("inf")),
    (f"timeout={'9' * 400}s", float("inf")),
]


@pytest.mark.parametrize(("query", "seconds"), ALLOWANCES, ids=[row[0][:40] for row in ALLOWANCES])
def test_a_tenth_of_the_callers_time_is_left_for_the_way_back(query: str, seconds: float) -> None:
    assert allowance(query) == pytest.approx(seconds)


def test_a_review_that_has_no_time_left_is_answered_all_the_same(live: Live) -> None:
    response = live.review("/mutate?timeout=1ns", review(pod()))
    assert (
        response["status"]["message"] == 'Pod "web" was not judged: its review arrived too late to be answered in time'
    )


# Modes.


def test_the_mode_caps_what_is_done() -> None:
    with webhook("--mode", "warn") as live:
        response = live.review("/validate", review(pod(container(cpu="60"))))
        assert response["allowed"]
        assert response["warnings"][0].startswith('Pod "web": too large, asks 60 CPUs, ')


def test_a_share_and_a_policy_can_be_given() -> None:
    with webhook("--policy", "best-effort", "--max-sidecar-share", "10") as live:
        assert live.review("/validate", review(pod(container(cpu="60"))))["allowed"]
        heavy = review(pod(container(), container("istio-proxy", cpu="1")))
        assert "over the 10 % allowed" in live.review("/validate", heavy)["status"]["message"]


# Certificates and going away.


def written(folder: Path) -> tuple[Path, Path, bytes]:
    """A pair of files, and what to trust for it."""
    authority = make_authority(utc_now())
    leaf = issue(authority, ["localhost", "127.0.0.1"], utc_now())
    cert, key = folder / "tls.crt", folder / "tls.key"
    key.write_bytes(leaf.key)
    cert.write_bytes(leaf.certificate)
    return cert, key, authority.pem


def test_a_new_certificate_is_taken_under_load_without_a_failed_request(tmp_path: Path) -> None:
    cert, key, first = written(tmp_path)
    with webhook("--cert", str(cert), "--key", str(key), "--certificate-poll", "0.1") as live:
        trust = ssl.create_default_context(cadata=first.decode())
        failures: list[str] = []
        stop = threading.Event()

        def load() -> None:
            connection = live.connection(trust)
            while not stop.is_set():
                connection.request("POST", "/mutate", BODY, JSON)
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    failures.append(str(response.status))
            connection.close()

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        cert.write_bytes(b"half of a certif")  # a writer that is not done yet
        time.sleep(0.5)
        _, _, second = written(tmp_path)
        time.sleep(0.7)
        new = live.connection(ssl.create_default_context(cadata=second.decode()))
        new.request("GET", "/metrics")
        text = new.getresponse().read().decode()
        new.close()
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert 'armistice_certificate_reloads_total{result="loaded"} 1.0' in text
        assert "certificate refused, the one before stays in use: " in live.log()


def test_it_goes_away_in_good_order() -> None:
    with webhook("--drain", "1.5") as live:
        busy = live.connection()
        busy.request("GET", "/readyz")
        assert busy.getresponse().read() == b"ready\n"
        live.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        busy.request("POST", "/mutate", BODY, JSON)
        answer = busy.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (200, "close")
        answer.read()
        busy.close()
        assert live.get("/readyz") == (503, "not ready: it is going away\n")
        assert live.get("/healthz") == (200, "ok\n")
        assert live.process.wait(10) == 0


UNSERVABLE = [
    (
        "a key without a certificate",
        ["--key", "k"],
        "--key is given without --cert; name the certificate too, or leave both out",
    ),
    ("a certificate that is not there", ["--cert", "c.pem"], "c.pem cannot be read: No such file or directory"),
    ("a port that is none", ["--port", "70000"], "--port 70000: ports are 0 to 65535"),
    ("a drain below zero", ["--drain", "-1"], "--drain -1: seconds, 0 or more"),
    ("a machine that nobody knows", ["--machine", "laptop"], "no machine 'laptop' in the catalogue"),
]


@pytest.mark.parametrize(("what", "arguments", "said"), UNSERVABLE, ids=[row[0] for row in UNSERVABLE])
def test_what_cannot_be_served_is_said_in_one_sentence(
    what: str, arguments: list[str], said: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "webhook.command", "webhook", "--machine", "aws-t3.medium", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=20)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"armistice: {said}")
    assert ended.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_said_in_one_sentence(live: Live) -> None:
    command = [
        sys.executable,
        "-m",
        "webhook.command",
        "webhook",
        "--machine",
        "aws-t3.medium",
        "--port",
        str(live.port),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"armistice: port {live.port} of 127.0.0.1 is taken; give another one with --port\n"
