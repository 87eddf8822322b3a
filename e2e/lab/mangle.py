"""A proxy before the webhook that spoils its replies on purpose: what shows that the scenarios can fail.

The first part of the request's path says how; the rest goes on to the webhook. Run by the lab as a process of its own.
"""

from __future__ import annotations

import argparse
import base64
import json
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Response = dict[str, Any]
"""``response`` of an AdmissionReview."""


def untouched(response: Response) -> None:
    """As it came: what is true of this one is no fault of the proxy."""


def silent(response: Response) -> None:
    """No warnings."""
    response.pop("warnings", None)


def lenient(response: Response) -> None:
    """Everything is allowed."""
    response.pop("status", None)
    response["allowed"] = True


def speechless(response: Response) -> None:
    """A denial without its reason."""
    if not response["allowed"]:
        response["status"] = {"code": 403, "reason": "Forbidden"}


def patchless(response: Response) -> None:
    """No patch."""
    response.pop("patch", None)
    response.pop("patchType", None)


def typeless(response: Response) -> None:
    """A patch that does not say what it is."""
    response.pop("patchType", None)


def foreign(response: Response) -> None:
    """The answer to another question."""
    response["uid"] = "00000000-0000-0000-0000-000000000000"


def forged(response: Response) -> None:
    """Intents that claim one CPU more than was sealed."""
    if "patch" in response:
        patch = json.loads(base64.b64decode(response["patch"]))
        text = json.dumps(patch).replace('\\"bubble\\":3', '\\"bubble\\":4')
        response["patch"] = base64.b64encode(text.encode()).decode()


def conniving(response: Response) -> None:
    """Forged intents, and a validation that does not look."""
    forged(response)
    lenient(response)


WAYS: Mapping[str, Callable[[Response], None]] = {
    way.__name__: way
    for way in (untouched, silent, lenient, speechless, patchless, typeless, foreign, forged, conniving)
}


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    for name in ("to", "cert", "key", "ca"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(given.to, ssl.create_default_context(cafile=given.ca)))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(Path(given.cert), Path(given.key))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    print(f"ready https://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def _handler(to: str, trusted: ssl.SSLContext) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            _, way, rest = self.path.split("/", 2)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = urllib.request.Request(f"{to}/{rest}", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, context=trusted) as answer:
                review = json.load(answer)
            WAYS[way](review["response"])
            content = json.dumps(review).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler


if __name__ == "__main__":
    main()
