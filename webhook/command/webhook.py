"""``armistice webhook``: the admission webhook as a process."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource

from shared.errors import InputError
from shared.seal import KeyRing, SigningKey
from webhook.command.inputs import (
    Wanted,
    node_options,
    policy_options,
    read_fleet,
    reservation,
    reservation_options,
    wanted,
)
from webhook.command.output import count
from webhook.nodes import Fleet
from webhook.policy import ALWAYS_EXEMPT, Mode, NamespacePolicy, Rules, Uniform

if TYPE_CHECKING:
    from webhook.admission import Session
    from webhook.app import Companion
    from webhook.authority import Terms
    from webhook.certs import Certificate
    from webhook.command.keeping import Keeping
    from webhook.installation import Installation
    from webhook.keeper import Pace
    from webhook.survey import Roll

OWN_NAMESPACE = "POD_NAMESPACE"
"""Environment variable, set by the chart: the namespace that Armistice runs in, which is exempt."""

YOUNG_OBJECTS = 20_000
"""Allocations between two passes of Python's collector over young objects. Each review makes and drops about 2,000; the
default of 700 would look at them three times each."""


@click.command(
    short_help="The admission webhook, as a process.",
    epilog="\b\nExamples:\n  armistice webhook --machine dgx-h100\n"
    "  armistice webhook --port 8443 --cert tls.crt --key tls.key --nodes nodes.yaml --mode warn\n"
    "  armistice webhook --cluster --config config.yaml",
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
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Defaults, exemptions and mode for a cluster, in YAML; instead of the flags for the policy.",
)
@click.option(
    "--installation",
    metavar="NAME",
    help="Keep certificates and keys in the cluster, under names made of this one; needs --cluster.",
)
@click.option("--drain", default=10.0, show_default=True, metavar="SECONDS", help="Serve on so long after SIGTERM.")
@click.option("--certificate-poll", default=10.0, metavar="SECONDS", hidden=True, help="Between looks at the files.")
@click.option("--leaf-life", default=2_592_000.0, metavar="SECONDS", hidden=True, help="Of a certificate of our own.")
@click.option("--look", default=60.0, metavar="SECONDS", hidden=True, help="Between looks at certificates and keys.")
@click.option("--key-delay", default=180.0, metavar="SECONDS", hidden=True, help="From a key's publication to its use.")
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
    config: Path | None,
    installation: str | None,
    drain: float,
    certificate_poll: float,
    leaf_life: float,
    look: float,
    key_delay: float,
    verbose: bool,
    **policy: Any,
) -> None:
    """Answer AdmissionReviews at /mutate and /validate over TLS, until SIGTERM or Ctrl-C.

    With --cluster it follows a cluster's nodes and topologies, and each namespace's labels say its policy; where they
    say nothing the given policy counts. Without, it judges against the given nodes, with the given policy for every
    namespace. With --installation it keeps its certificates and keys in the cluster; else, without --cert, it makes a
    short-lived certificate of its own and says where its CA is. /healthz, /readyz and /metrics are served too.
    """
    from webhook.settings import Settings

    _check_flags(cluster, config)
    settings = Settings(host=host, port=port, cert=cert, key=key, drain=drain, certificate_poll=certificate_poll)
    reserved = reservation(reserved_cpus, reserved_memory)
    rules = _rules(config, wanted(**policy), Mode(mode))
    fleet = Fleet.whole(()) if cluster else read_fleet(machines, sysfs, nodes, cluster, reserved)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("armistice").setLevel(logging.DEBUG if verbose else logging.INFO)
    keep = _keep(installation, cluster, signing_key, (leaf_life, look, key_delay))
    # A pod has nothing to write, and no place for it.
    with nullcontext("") if keep else tempfile.TemporaryDirectory(prefix="armistice-webhook-") as folder:
        keys = _keys(signing_key)
        _run(settings, Path(folder), keys, fleet, rules, None if cluster else _against(fleet), keep)


_OF_NODES = ("machines", "sysfs", "nodes", "reserved_cpus", "reserved_memory")
_OF_POLICY = ("policy", "max_sidecar_share", "scope", "isolation", "smt", "mode")


def _check_flags(cluster: bool, config: Path | None) -> None:
    """Flags that say the same thing twice."""
    if cluster and (given := _given(_OF_NODES)):
        raise InputError(f"--cluster and {given}: nodes and what they reserve come from the cluster; leave {given} out")
    if config and (given := _given(_OF_POLICY)):
        raise InputError(f"--config and {given}: both say the policy; write it into {config} and leave {given} out")


def _given(names: tuple[str, ...]) -> str:
    """The first of some parameters that was given on the command line, as it is written there; or nothing."""
    ctx = click.get_current_context()
    found = (param for param in ctx.command.params if param.name in names)
    given = (param for param in found if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE)
    return next((param.opts[0] for param in given), "")


def _rules(config: Path | None, asked: Wanted, mode: Mode) -> Rules:
    """What the flags or the file settle."""
    exempt = frozenset({ALWAYS_EXEMPT, os.environ.get(OWN_NAMESPACE, "")} - {""})
    if config is not None:
        from webhook.config import read_config

        return read_config(config, exempt)
    placing = asked.placing
    policy = NamespacePolicy(
        enforce=placing.policy,
        warn=placing.policy,
        max_sidecar_share=asked.max_share,
        scope=placing.scope,
        isolation=placing.isolation,
        smt=placing.smt,
    )
    return Rules(policy, exempt, mode=mode)


def _keys(path: Path | None) -> tuple[SigningKey, KeyRing]:
    from webhook import keys

    return keys.ephemeral() if path is None else keys.load(path)


Keep: TypeAlias = "tuple[Installation, Terms, Pace]"
"""Where certificates and keys are kept, how long they last, and how often they are looked at."""


def _keep(
    name: str | None, cluster: bool, signing_key: Path | None, seconds: tuple[float, float, float]
) -> Keep | None:
    if name is None:
        return None
    from webhook.command.keeping import installation, times

    return installation(name, cluster, signing_key), *times(*seconds)


def _where_public(folder: Path, key: SigningKey, keep: Keep | None) -> str:
    """Where a node's admin finds the public key, which without an installation is written down here."""
    if keep:
        return f"ConfigMap {keep[0].namespace}/{keep[0].keys}"
    from webhook.keys import public_pem

    path = folder / "intent.pub"
    path.write_bytes(public_pem(key))
    return f"{path} (id {key.id})"


def _against(fleet: Fleet) -> str:
    known = fleet.everyone.known
    names = ", ".join(each.name for each in known[:3])
    more = len(known) - 3
    return f"{names} and {count(more, 'other')}" if more > 0 else names or "no node: every verdict is unknown"


def _run(
    settings: Any,
    folder: Path,
    keys: tuple[SigningKey, KeyRing],
    fleet: Fleet,
    rules: Rules,
    against: str | None,
    keep: Keep | None,
) -> None:
    """``against`` says which nodes; None follows a cluster."""
    from webhook.admission import Court, Session
    from webhook.app import Webhook, serve
    from webhook.certs import CertReloader, SelfMade, placeholder, utc_now
    from webhook.command.check import upgrades
    from webhook.verdict import Bench

    names = _names(settings.host)
    own = None if settings.cert or keep else SelfMade(folder, names, utc_now())
    cert, key = (own.cert, own.key) if own else (settings.cert, settings.key)
    certificate = CertReloader(cert, key, utc_now()) if cert else placeholder(names, utc_now())
    public = _where_public(folder, keys[0], keep)
    bench = Bench(fleet, upgrades())
    uniform = Uniform(rules.defaults, rules.exempt, rules.mode)
    # Without a cluster nothing went through mutation before it comes here, unless the caller brings the intent along.
    session = Session(Court(uniform, bench, *keys, intent_required=against is None, rules=rules))
    cluster = None if against is not None else _Cluster(session, rules)
    if cluster and keep:
        cluster.keep(keep, None if settings.cert else certificate, names if settings.host in names else ())
    process = Webhook(settings, lambda: session.court, certificate, **(cluster.parts if cluster else {}))

    def tell(port: int) -> None:
        if own:
            click.echo(f"CA certificate  {own.ca}")
        click.echo(f"public key      {public}")
        click.echo(f"nodes           {against or 'the cluster'}")
        labels = ", where a namespace's labels say nothing" if cluster else ""
        click.echo(f"policy          {rules.defaults.enforce.value}, mode {rules.mode.value}{labels}")
        click.echo(f"ready           https://{_in_url(settings.host)}:{port}")

    async def run() -> None:
        leave, hurry = _signals()
        chores = (lambda: own.renew_in_time(utc_now()),) if own else ()
        async with AsyncExitStack() as stack:
            companions = await cluster.companions(stack) if cluster else {}
            await serve(process, settings, certificate, tell, leave, hurry, chores, companions)

    _settle_memory()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
    asyncio.run(run())


def _settle_memory() -> None:
    """What is there by now stays; only what reviews make is worth looking at."""
    gc.collect()
    gc.freeze()


class _Cluster:
    """What it takes to follow a cluster."""

    def __init__(self, session: Session, rules: Rules) -> None:
        from webhook.following import View
        from webhook.metrics import ClusterMetrics
        from webhook.renewal import Renewal

        self._session = session
        self._view = View(rules)
        self._renewal = Renewal(self._view, self._learn)
        self._api: Any = None
        self._metrics = ClusterMetrics(self._view)
        self._keeping: Keeping | None = None
        session.learn(policies=self._view)

    def keep(self, keep: Keep, own: Certificate | None, names: Sequence[str]) -> None:
        """Certificates and keys of its own too."""
        from webhook.command.keeping import Keeping

        installation, terms, pace = keep
        self._keeping = Keeping(self._session, installation, own, names, terms, pace)

    @property
    def parts(self) -> dict[str, Any]:
        """What a webhook has to know of it."""
        keeping = self._keeping
        if keeping is None:
            return {"unready": self._renewal.unready, "collectors": (self._metrics,), "pods_of": self._pods_of}
        return {
            "unready": lambda: self._renewal.unready() or keeping.keeper.unready(),
            "collectors": (self._metrics, keeping.metrics),
            "pods_of": self._pods_of,
            "unable": keeping.unable,
        }

    def _learn(self, fleet: Fleet) -> None:
        first = bool(self._renewal.unready())
        self._session.learn(bench=replace(self._session.court.bench, fleet=fleet))
        if first:
            _settle_memory()

    async def _pods_of(self, namespace: str, until: float) -> Roll:
        from webhook.cluster.pods import read_pods

        return await read_pods(self._api, namespace, until)

    async def companions(self, stack: AsyncExitStack) -> Mapping[str, Companion]:
        """The tasks that follow it. Raises InputError where nothing says which cluster."""
        from webhook.cluster.connection import connect
        from webhook.cluster.watching import follow

        self._api = api = await connect()
        stack.push_async_callback(api.close)
        following: dict[str, Companion] = {"cluster": lambda: follow(api, self._view), "fleet": self._renewal.run}
        keeping = self._keeping
        return {**following, "keeper": lambda: keeping.run(api)} if keeping else following


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
