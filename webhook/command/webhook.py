"""``armistice webhook``: the admission webhook as a process."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from shared.errors import InputError
from shared.policy import TopologyPolicy
from shared.seal import KeyRing, SigningKey
from shared.topology import Machine
from webhook.command.inputs import (
    Wanted,
    node_options,
    policy_options,
    read_nodes,
    reservation,
    reservation_options,
    wanted,
)
from webhook.command.output import count
from webhook.nodes import Fleet
from webhook.policy import ALWAYS_EXEMPT, Mode, NamespacePolicy, Uniform

OWN_NAMESPACE = "POD_NAMESPACE"
"""Environment variable, set by the chart: the namespace that Armistice runs in, which is exempt."""

NO_CLUSTER = (
    "--cluster: this version cannot follow a cluster's nodes and namespaces yet; "
    "give the nodes with --nodes FILE (`kubectl get noderesourcetopologies -o yaml` prints them) or --machine NAME"
)

ONCE = (
    "--cluster: the nodes are read once, at the start, and every namespace has the policy of the flags; "
    "this version does not follow a cluster yet"
)

YOUNG_OBJECTS = 20_000
"""Allocations between two passes of Python's collector over young objects. Each review makes and drops about 2,000; the
default of 700 would look at them three times each."""


@click.command(
    short_help="The admission webhook, as a process.",
    epilog="\b\nExamples:\n  armistice webhook --machine dgx-h100\n"
    "  armistice webhook --port 8443 --cert tls.crt --key tls.key --nodes nodes.yaml --mode warn",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8443, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--cert", metavar="FILE", type=click.Path(path_type=Path), help="Certificate chain in PEM; watched.")
@click.option("--key", metavar="FILE", type=click.Path(path_type=Path), help="Its key in PEM; watched.")
@click.option(
    "--signing-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Ed25519 key in PEM that signs intents; without it one is made that lives as long as the process.",
)
@node_options
@reservation_options
@policy_options
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default=Mode.ENFORCE.value,
    show_default=True,
    help="The most that is done about a pod that breaks the policy.",
)
@click.option("--drain", default=10.0, show_default=True, metavar="SECONDS", help="Serve on so long after SIGTERM.")
@click.option("--certificate-poll", default=10.0, metavar="SECONDS", hidden=True, help="Between looks at the files.")
@click.option("-v", "--verbose", is_flag=True, help="Log allowed reviews too.")
def webhook(
    host: str,
    port: int,
    cert: Path | None,
    key: Path | None,
    signing_key: Path | None,
    machines: tuple[str, ...],
    sysfs: str | None,
    nodes: str | None,
    cluster: bool,
    reserved_cpus: str,
    reserved_memory: str,
    mode: str,
    drain: float,
    certificate_poll: float,
    verbose: bool,
    **policy: Any,
) -> None:
    """Answer AdmissionReviews at /mutate and /validate over TLS, until SIGTERM or Ctrl-C.

    Without a cluster it judges against the given nodes, with the given policy for every namespace. Without --cert it
    makes a short-lived certificate of its own and says where its CA is. /healthz, /readyz and /metrics are served too.
    """
    from webhook.settings import Settings

    if cluster and find_spec("webhook.cluster") is None:
        raise InputError(NO_CLUSTER)
    settings = Settings(host=host, port=port, cert=cert, key=key, drain=drain, certificate_poll=certificate_poll)
    reserved = reservation(reserved_cpus, reserved_memory)
    found = read_nodes(machines, sysfs, nodes, cluster)
    if cluster:
        click.echo(ONCE, err=True)
    fleet = Fleet.whole(found, reserved.cpus, reserved.memory)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("armistice").setLevel(logging.DEBUG if verbose else logging.INFO)
    with tempfile.TemporaryDirectory(prefix="armistice-webhook-") as folder:
        keys = _keys(signing_key)
        _run(settings, Path(folder), keys, fleet, uniform(wanted(**policy), Mode(mode)), _against(found))


def uniform(asked: Wanted, mode: Mode) -> Uniform:
    """The flags as one policy for every namespace."""
    placing = asked.placing
    policy = NamespacePolicy(
        enforce=placing.policy,
        warn=placing.policy if placing.policy is not TopologyPolicy.NONE else TopologyPolicy.NONE,
        max_sidecar_share=asked.max_share,
        scope=placing.scope,
        isolation=placing.isolation,
        smt=placing.smt,
    )
    exempt = {ALWAYS_EXEMPT, os.environ.get(OWN_NAMESPACE, "")} - {""}
    return Uniform(policy, frozenset(exempt), mode)


def _keys(path: Path | None) -> tuple[SigningKey, KeyRing]:
    from webhook import keys

    return keys.ephemeral() if path is None else keys.load(path)


def _against(machines: list[Machine]) -> str:
    names = ", ".join(machine.name for machine in machines[:3])
    more = len(machines) - 3
    return f"{names} and {count(more, 'other')}" if more > 0 else names or "no node: every verdict is unknown"


def _run(
    settings: Any,
    folder: Path,
    keys: tuple[SigningKey, KeyRing],
    fleet: Fleet,
    policies: Uniform,
    against: str,
) -> None:
    from webhook.admission import Court
    from webhook.app import Webhook, serve
    from webhook.certs import CertReloader, SelfMade, utc_now
    from webhook.command.check import upgrades
    from webhook.keys import public_pem
    from webhook.verdict import Bench

    own = None if settings.cert else SelfMade(folder, _names(settings.host), utc_now())
    cert, key = (own.cert, own.key) if own else (settings.cert, settings.key)
    certificate = CertReloader(cert, key, utc_now())
    public = folder / "intent.pub"
    public.write_bytes(public_pem(keys[0]))
    # Nothing has gone through mutation before it comes here, unless the caller says so by bringing the intent along.
    court = Court(policies, Bench(fleet, upgrades()), *keys, intent_required=False)
    process = Webhook(settings, lambda: court, certificate)

    def tell(port: int) -> None:
        if own:
            click.echo(f"CA certificate  {own.ca}")
        click.echo(f"public key      {public} (id {keys[0].id})")
        click.echo(f"nodes           {against}")
        click.echo(f"policy          {policies.policy.enforce.value}, mode {policies.mode.value}")
        click.echo(f"ready           https://{_in_url(settings.host)}:{port}")

    async def run() -> None:
        leave, hurry = _signals()
        chores = (lambda: own.renew_in_time(utc_now()),) if own else ()
        await serve(process, settings, certificate, tell, leave, hurry, chores)

    gc.collect()
    gc.freeze()  # what is there by now stays; only what reviews make is worth looking at
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
    asyncio.run(run())


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """SIGTERM leaves in good order; Ctrl-C, or a second SIGTERM, at once."""
    leave, hurry = asyncio.Event(), asyncio.Event()

    def terminated() -> None:
        (hurry if leave.is_set() else leave).set()

    def interrupted() -> None:
        leave.set()
        hurry.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminated)
    loop.add_signal_handler(signal.SIGINT, interrupted)
    return leave, hurry


def _names(host: str) -> list[str]:
    """What clients may call us: always this machine's own names, and the address given unless it means all of them."""
    given = [] if host in ("0.0.0.0", "::") else [host]
    return list(dict.fromkeys([*given, "localhost", "127.0.0.1", "::1"]))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
