"""What the chart's own pods do: ask for ``helm test``, and sweep after ``helm uninstall``.

It runs in our images, with nothing but Python's standard library, as ``python -c``. Values come from the environment;
what is wrong is said as one sentence on standard error, with exit code 1.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount")
"""Folder of the service account: the API server's authority, and the token."""

PATIENCE = float(os.environ.get("PATIENCE", "60"))
"""Seconds until something that may still be starting counts as broken."""

PAUSE = 2.0
"""Seconds between two tries."""

LABEL = "armistice.dev/enforce"
PUBLISHER = "armistice-enforcer"
"""The field manager of the topologies that our enforcer publishes."""

TOPOLOGIES = "/apis/topology.node.k8s.io/v1alpha2/noderesourcetopologies"
PAGE = 500


class Refused(Exception):
    """The API server did not do what it was asked for."""

    def __init__(self, text, status=0):
        super().__init__(text)
        self.status = status


def call(method, path, body=None):
    """The API server's answer: the object, and the headers."""
    server = f"https://{address()}"
    with open(f"{ACCOUNT}/token", encoding="ascii") as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=15, context=trusting()) as response:
            return json.load(response), response.headers
    except urllib.error.HTTPError as error:
        told = error.read().decode("utf-8", "replace")[:500]
        raise Refused(f"the API server refuses {method} {path}: {error.code} {told}", error.code) from error
    except (OSError, ValueError) as error:
        raise Refused(f"the API server cannot be asked for {method} {path}: {error}") from error


def address():
    """Host and port; an IPv6 address in brackets."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def trusting():
    """Whom we take for the API server."""
    context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)  # older clusters' authorities lack what it asks for
    return context


# helm test


def webhook_trouble():
    """Create a namespace with a label that nobody can read, as a dry run: Armistice warns of it, by the API server."""
    labels = {LABEL: "helm-test"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "helm-test-", "labels": labels}}
    _, headers = call("POST", "/api/v1/namespaces?dryRun=All", body)
    if any(LABEL in warning for warning in headers.get_all("Warning") or []):
        return ""
    return (
        f"the API server took a namespace with a mistyped label {LABEL} without a word of Armistice: it does not reach "
        "the webhook, or the configurations are gone; see the webhook's log, and `helm upgrade` brings them back"
    )


def enforcer_trouble():
    """Whether every node that should have an enforcer has one that is ready."""
    path = f"/apis/apps/v1/namespaces/{os.environ['NAMESPACE']}/daemonsets/{os.environ['ENFORCER']}"
    status = call("GET", path)[0].get("status", {})
    ready, wanted = status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)
    if 0 < wanted <= ready:
        return ""
    return f"the enforcer is ready on {ready} of {wanted} nodes; see `kubectl describe` and the log of its other pods"


QUESTIONS = (("WEBHOOK", webhook_trouble), ("ENFORCER", enforcer_trouble))
"""What is asked, each where its variable is set."""


def ask():
    """All that are set."""
    for name, question in QUESTIONS:
        if os.environ.get(name):
            answered(question)
            print(f"{os.environ[name]}: ok")


def answered(question):
    """Ask until there is no trouble any more, or no patience."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            trouble = question()
        except Refused as error:
            trouble = str(error)
        if not trouble:
            return
        if time.monotonic() >= end:
            raise Refused(trouble)
        time.sleep(PAUSE)


# helm uninstall


def sweep():
    """Delete what our enforcers have published; what others have stays."""
    ours = [item["metadata"]["name"] for item in topologies() if published_by_us(item)]
    for name in ours:
        try:
            call("DELETE", f"{TOPOLOGIES}/{name}")
        except Refused as error:
            if error.status != 404:  # gone by itself, with its node
                raise
    print(f"topologies deleted: {len(ours)}")


def topologies():
    """Every object, page by page; none where the CRD itself is gone."""
    more = ""
    while True:
        try:
            page, _ = call("GET", f"{TOPOLOGIES}?limit={PAGE}&continue={more}")
        except Refused as error:
            if error.status == 404:
                return
            raise
        yield from page["items"]
        more = page["metadata"].get("continue", "")
        if not more:
            return


def published_by_us(item):
    """Whether one of its fields is ours."""
    return any(entry.get("manager") == PUBLISHER for entry in item["metadata"].get("managedFields", []))


if __name__ == "__main__":
    try:
        {"ask": ask, "sweep": sweep}[sys.argv[1]]()
    except Refused as error:
        sys.exit(f"armistice: {error}")
