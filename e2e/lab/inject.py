"""A second mutating webhook, as service meshes have them: it adds a container to every pod it is asked about.

Run by the lab as a process of its own; ``Injector`` registers it so that it is asked after Armistice.
"""

from __future__ import annotations

import argparse
import base64
import json
import ssl
import sys
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from e2e.lab.controlplane import ControlPlane
from e2e.lab.images import BUSYBOX
from e2e.lab.webhook import told

NAME = "zzz-injector"
"""Of its configuration: configurations are asked by name, and this one is the last."""

LABEL = "lab.armistice.dev/inject"
"""Of namespaces whose pods it is asked about."""

LATE, LATER = "late", "later"
"""Names of the container that it adds, and of the one that it adds when it is asked again."""


@dataclass(frozen=True, slots=True)
class Injector:
    """The running process, registered."""

    plane: ControlPlane
    cpu: str
    """What the container that it adds asks for."""
    again: bool = False
    """Whether it asks to be asked again when its pod was changed after it, and adds one more container then."""

    def start(self) -> None:
        """Start it and register it."""
        certificate, key = self.plane.issue(NAME, dns=("localhost",), ips=("127.0.0.1",))
        argv = [sys.executable, "-m", __name__, "--cert", str(certificate), "--key", str(key), "--cpu", self.cpu]
        (self.plane.run.logs / f"{NAME}.log").unlink(missing_ok=True)  # its address is read from there
        self.plane.run.spawn(NAME, argv)
        url = told(self.plane, NAME, "ready ")
        bundle = base64.b64encode(self.plane.ca_pem.read_bytes()).decode()
        hook = {
            "name": "injector.lab.armistice.dev",
            "clientConfig": {"url": url, "caBundle": bundle},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "namespaceSelector": {"matchExpressions": [{"key": LABEL, "operator": "Exists"}]},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded" if self.again else "Never",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
        content = json.dumps({**head, "metadata": {"name": NAME}, "webhooks": [hook]})
        self.plane.kubectl("apply", "-f", "-", input=content)

    def stop(self) -> None:
        """Take it away."""
        self.plane.kubectl("delete", "mutatingwebhookconfiguration", NAME, "--ignore-not-found")
        self.plane.run.end(NAME)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    for name in ("cert", "key", "cpu"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(given.cpu))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(Path(given.cert), Path(given.key))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    print(f"ready https://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def _handler(cpu: str) -> type[BaseHTTPRequestHandler]:
    amounts = {"cpu": cpu, "memory": "32Mi"}
    container = {
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "while :; do sleep 3600; done"],
        "resources": {"requests": amounts, "limits": amounts},
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
            names = {each["name"] for each in request["object"]["spec"]["containers"]}
            added = {"name": LATER if LATE in names else LATE, **container}
            patch = [{"op": "add", "path": "/spec/containers/-", "value": added}]
            content = base64.b64encode(json.dumps(patch).encode()).decode()
            response = {"uid": request["uid"], "allowed": True, "patchType": "JSONPatch", "patch": content}
            review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
            body = json.dumps(review).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


if __name__ == "__main__":
    main()
