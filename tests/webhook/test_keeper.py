"""What a replica does to be trusted, at a stand-in API server: from nothing, in a crowd, and after whatever happens."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.aio import client

from shared.seal import KeyRing, SigningKey
from tests.support.stored import Stored, stored
from webhook.authority import Authorities, Terms
from webhook.bundles import Configuration, bundles
from webhook.certs import Certificate, make_authority, placeholder, utc_now
from webhook.cluster.writing import Writer
from webhook.figures import Work
from webhook.installation import Installation
from webhook.keeper import Keeper, Pace
from webhook.keys import ephemeral, new_private_pem
from webhook.keys import read as read_key

Json = dict[str, Any]

HERE = Installation("armistice", "armistice-system", "armistice-webhook-0")
SPACE = "/api/v1/namespaces/armistice-system"
AUTHORITIES = f"{SPACE}/secrets/armistice-ca"
SIGNING = f"{SPACE}/secrets/armistice-signing"
KEYS = f"{SPACE}/configmaps/armistice-keys"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/armistice-system/leases/armistice-webhook"
CONFIGURATIONS = {
    one: f"/apis/admissionregistration.k8s.io/v1/{one.value}webhookconfigurations/zz-armistice" for one in Configuration
}

TERMS = Terms(settle=0.7, linger=5.0)
PACE = Pace(look=0.5, retry=0.05, breath=0.02, patience=0.4, key_delay=timedelta(seconds=3))


def configuration(one: Configuration, *names: str) -> Json:
    """As the chart renders it: without a bundle."""
    service = {"name": "armistice-webhook", "namespace": "armistice-system", "path": "/mutate"}
    webhooks = [{"name": f"{name}.armistice.dev", "clientConfig": {"service": service}} for name in names]
    return {"kind": one.kind, "metadata": {"name": "zz-armistice"}, "webhooks": webhooks}


def install(server: Stored) -> None:
    """What the chart brings."""
    server.put(CONFIGURATIONS[Configuration.MUTATING], configuration(Configuration.MUTATING, "pods"))
    server.put(CONFIGURATIONS[Configuration.VALIDATING], configuration(Configuration.VALIDATING, "enforce", "warn"))


def bundles_of(server: Stored) -> set[bytes]:
    """Every bundle in force."""
    found = (bundles(server.objects[path]) for path in CONFIGURATIONS.values() if path in server.objects)
    return {bundle for webhooks in found for bundle in webhooks.values()}


def field_of(server: Stored, path: str, name: str) -> bytes:
    return base64.b64decode(server.objects[path]["data"][name])


@dataclass
class Replica:
    """One process's keeper."""

    keeper: Keeper
    certificate: Certificate
    task: asyncio.Task[None]
    api: client.ApiClient
    learned: list[tuple[SigningKey, KeyRing]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return not self.keeper.unready()

    @property
    def key(self) -> str:
        assert self.keeper.keys
        return self.keeper.keys[0].id

    @property
    def believed(self) -> set[str]:
        assert self.keeper.keys
        return set(self.keeper.keys[1].keys)

    async def leave(self) -> None:
        """In good order."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.api.close()


class Crowd:
    """Replicas at one API server."""

    def __init__(self, server: Stored) -> None:
        self.server = server
        self.replicas: list[Replica] = []

    def start(
        self,
        terms: Terms = TERMS,
        pace: Pace = PACE,
        clock: Callable[[], datetime] = utc_now,
        files: bool = False,
    ) -> Replica:
        """One more."""
        here = replace(HERE, identity=f"armistice-webhook-{len(self.replicas)}")
        certificate = placeholder(["localhost"], utc_now())
        api = self.server.client()
        learned: list[tuple[SigningKey, KeyRing]] = []
        keeper = Keeper(
            here,
            None if files else certificate,
            here.dns_names,
            lambda key, keys: learned.append((key, keys)),
            terms,
            pace,
        )
        replica = Replica(keeper, certificate, asyncio.create_task(keeper.run(Writer(api, clock))), api, learned)
        self.replicas.append(replica)
        return replica


@pytest.fixture
async def server() -> AsyncIterator[Stored]:
    async with stored() as server:
        yield server


@pytest.fixture
async def crowd(server: Stored) -> AsyncIterator[Crowd]:
    crowd = Crowd(server)
    yield crowd
    for replica in crowd.replicas:
        if not replica.task.done():
            await replica.leave()
        assert replica.task.cancelled(), replica.task


async def until(true: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.01)


async def accepted(replica: Replica, bundle: bytes, name: str = HERE.dns_names[0]) -> bool:
    """Whether a client with that bundle completes a handshake, as the API server would."""
    trust = ssl.create_default_context(cadata=bundle.decode())
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = trust.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = replica.certificate.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
        if ours.version() and theirs.version() and ours.cipher():
            try:
                theirs.do_handshake()
                return True
            except ssl.SSLWantReadError:
                continue
    raise AssertionError("the handshake does not end")


async def seen_through(server: Stored, replicas: Sequence[Replica], while_: Callable[[], bool]) -> None:
    """Clients accept every replica, whichever bundle of the last fifth of a second they hold."""
    held: dict[bytes, float] = {}
    async with asyncio.timeout(30):
        while while_():
            now = asyncio.get_running_loop().time()
            held |= dict.fromkeys(bundles_of(server), now)
            for replica in replicas:
                assert replica.ready
                for bundle in [bundle for bundle, last in held.items() if now - last < 0.2]:
                    assert await accepted(replica, bundle)
            await asyncio.sleep(0.02)


# From nothing.


async def test_from_nothing_to_ready(server: Stored, crowd: Crowd) -> None:
    install(server)
    replica = crowd.start()
    assert replica.keeper.unready() == "its signing key is not known yet"
    await until(lambda: replica.ready)
    (bundle,) = bundles_of(server)
    assert await accepted(replica, bundle)
    assert bundle == field_of(server, AUTHORITIES, "ca-1.crt") + field_of(server, AUTHORITIES, "ca-2.crt")
    key, _ = read_key(field_of(server, SIGNING, "intent.key"), "test")
    believed = KeyRing.from_pem(server.objects[KEYS]["data"]["intent.pub"].encode(), "test")
    assert set(believed.keys) == {key.id} == {replica.key}
    assert [key.id for key, _ in replica.learned] == [replica.key]
    assert server.objects[AUTHORITIES]["type"] == server.objects[SIGNING]["type"] == "Opaque"
    for path in (AUTHORITIES, SIGNING, KEYS, LEASE):
        assert server.objects[path]["metadata"]["labels"] == HERE.labels
    figures = replica.keeper.figures
    assert figures.repairs == {Configuration.MUTATING: 1, Configuration.VALIDATING: 1}
    assert figures.present == {Configuration.MUTATING: True, Configuration.VALIDATING: True}
    await until(lambda: figures.synced is not None)
    assert figures.public_keys == 1


async def test_every_name_of_the_service_is_good(server: Stored, crowd: Crowd) -> None:
    install(server)
    replica = crowd.start()
    await until(lambda: replica.ready)
    (bundle,) = bundles_of(server)
    for name in HERE.dns_names:
        assert await accepted(replica, bundle, name)
    assert not await accepted(replica, bundle, "somebody.else.svc")


@pytest.mark.parametrize("leases", [200, 403], ids=["in order", "without the right to a Lease"])
async def test_three_at_once_agree_on_one_of_everything(leases: int, server: Stored, crowd: Crowd) -> None:
    install(server)
    server.refuse = lambda verb, path: leases if leases != 200 and "leases" in path else 0
    replicas = [crowd.start() for _ in range(3)]
    await until(lambda: all(replica.ready for replica in replicas))
    await asyncio.sleep(1.2)
    (bundle,) = bundles_of(server)
    assert all([await accepted(replica, bundle) for replica in replicas])
    assert len({replica.key for replica in replicas}) == 1
    writes = [path for verb, path in server.written]
    assert writes.count(f"{SPACE}/secrets") == 2, "each Secret was made once"
    assert writes.count(AUTHORITIES) == writes.count(SIGNING) == 0, "and never written again"
    assert writes.count(f"{SPACE}/configmaps") == 1
    if leases == 200:
        assert sum(replica.keeper.figures.leading for replica in replicas) == 1


async def test_a_secret_of_before_is_used_as_it_is(server: Stored, crowd: Crowd) -> None:
    install(server)
    first = crowd.start()
    await until(lambda: first.ready)
    before = dict(server.objects)
    await first.leave()
    second = crowd.start()
    await until(lambda: second.ready)
    assert second.key == first.key
    for path in (AUTHORITIES, SIGNING, KEYS, *CONFIGURATIONS.values()):
        assert server.objects[path] is before[path], path


async def test_whoever_leaves_hands_the_lease_on(server: Stored, crowd: Crowd) -> None:
    first = crowd.start()
    await until(lambda: first.keeper.figures.leading)
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "armistice-webhook-0"
    await first.leave()
    assert server.objects[LEASE]["spec"]["holderIdentity"] == ""
    second = crowd.start()
    await until(lambda: second.keeper.figures.leading, within=2.0)


async def test_a_leader_that_does_nothing_is_not_waited_for_long(server: Stored, crowd: Crowd) -> None:
    install(server)
    spec = {"holderIdentity": "ghost", "renewTime": "2026-03-01T12:00:00.000000Z", "leaseDurationSeconds": 15}
    server.put(LEASE, {"kind": "Lease", "metadata": {"name": "armistice-webhook"}, "spec": spec})
    replica = crowd.start()
    await asyncio.sleep(0.2)
    assert server.written == []
    await until(lambda: replica.ready)
    assert not replica.keeper.figures.leading
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "ghost"


# Whatever happens.


async def test_a_bundle_that_somebody_changes_is_put_right_at_once(server: Stored, crowd: Crowd) -> None:
    install(server)
    replica = crowd.start(pace=replace(PACE, look=60.0))
    await until(lambda: replica.ready)
    (bundle,) = bundles_of(server)
    await asyncio.sleep(0.3)
    install(server)  # as a GitOps tool does: without the field
    assert bundles_of(server) == {b""}
    await until(lambda: bundles_of(server) == {bundle}, within=3.0)
    path = CONFIGURATIONS[Configuration.VALIDATING]
    changed = server.objects[path]
    changed["webhooks"][1]["clientConfig"]["caBundle"] = base64.b64encode(make_authority(utc_now()).pem).decode()
    server.put(path, changed)
    await until(lambda: bundles_of(server) == {bundle}, within=3.0)
    assert replica.keeper.figures.repairs == {Configuration.MUTATING: 2, Configuration.VALIDATING: 3}
    await until(lambda: replica.ready)


async def test_nothing_but_the_bundle_is_touched(server: Stored, crowd: Crowd) -> None:
    install(server)
    replica = crowd.start()
    await until(lambda: replica.ready)
    for one, path in CONFIGURATIONS.items():
        found = server.objects[path]
        for webhook in found["webhooks"]:
            del webhook["clientConfig"]["caBundle"]
        names = ("pods",) if one is Configuration.MUTATING else ("enforce", "warn")
        assert found["webhooks"] == configuration(one, *names)["webhooks"]


@pytest.mark.slow
async def test_a_lost_slot_is_made_anew_and_clients_notice_nothing(server: Stored, crowd: Crowd) -> None:
    install(server)
    replicas = [crowd.start() for _ in range(2)]
    await until(lambda: all(replica.ready for replica in replicas))
    await asyncio.sleep(1.0)
    old = field_of(server, AUTHORITIES, "ca-1.crt")
    kept = field_of(server, AUTHORITIES, "ca-2.crt")
    found = server.objects[AUTHORITIES]
    server.put(AUTHORITIES, {**found, "data": {k: v for k, v in found["data"].items() if not k.startswith("ca-1")}})
    await seen_through(server, replicas, lambda: any(old in bundle for bundle in bundles_of(server)))
    (bundle,) = bundles_of(server)
    assert bundle == field_of(server, AUTHORITIES, "ca-1.crt") + kept
    assert field_of(server, AUTHORITIES, "ca-1.crt") != old


@pytest.mark.slow
async def test_a_secret_that_is_gone_is_made_anew_and_clients_notice_nothing(server: Stored, crowd: Crowd) -> None:
    install(server)
    replicas = [crowd.start() for _ in range(2)]
    await until(lambda: all(replica.ready for replica in replicas))
    await asyncio.sleep(1.0)
    old = {field_of(server, AUTHORITIES, f"ca-{slot}.crt") for slot in (1, 2)}
    server.drop(AUTHORITIES)
    await seen_through(server, replicas, lambda: any(each in bundle for bundle in bundles_of(server) for each in old))
    assert Authorities.read({k: base64.b64decode(v) for k, v in server.objects[AUTHORITIES]["data"].items()}).found


async def test_without_configurations_it_is_ready_and_makes_none(server: Stored, crowd: Crowd) -> None:
    replica = crowd.start()
    await until(lambda: replica.ready)
    await asyncio.sleep(1.0)
    assert not any("configurations" in path for verb, path in server.written)
    assert replica.keeper.figures.present == {Configuration.MUTATING: False, Configuration.VALIDATING: False}
    install(server)
    await until(lambda: bundles_of(server) != {b""} and replica.ready)
    for path in CONFIGURATIONS.values():
        server.drop(path)
    await asyncio.sleep(1.2)
    assert replica.ready
    assert not any(path in server.objects for path in CONFIGURATIONS.values())


@pytest.mark.slow
async def test_an_outage_changes_nothing(server: Stored, crowd: Crowd) -> None:
    install(server)
    replica = crowd.start(terms=replace(TERMS, leaf_life=timedelta(seconds=3)))
    await until(lambda: replica.ready)
    (bundle,) = bundles_of(server)
    leaf = replica.certificate.not_after
    await server.stop()
    async with asyncio.timeout(20):
        while replica.certificate.not_after <= leaf + timedelta(seconds=3):
            assert replica.ready
            assert await accepted(replica, bundle), "it signs its leaf with what it has"
            await asyncio.sleep(0.02)
    await server.start()
    synced = replica.keeper.figures.synced
    await until(lambda: replica.keeper.figures.synced != synced)
    assert replica.ready


async def test_a_start_while_the_api_server_is_away_waits(server: Stored, crowd: Crowd) -> None:
    install(server)
    await server.stop()
    replica = crowd.start()
    await asyncio.sleep(0.3)
    assert replica.keeper.unready() == "its signing key is not known yet"
    await server.start()
    await until(lambda: replica.ready)


RIGHTS = [
    ("secrets", "its signing key is not known yet"),
    ("configmaps", "its signing key is not known yet"),
    ("mutatingwebhookconfigurations", "the webhook configurations have not been read yet"),
]


@pytest.mark.parametrize(("plural", "said"), RIGHTS, ids=[row[0] for row in RIGHTS])
async def test_a_right_that_is_lacking_keeps_it_unready(plural: str, said: str, server: Stored, crowd: Crowd) -> None:
    install(server)
    server.refuse = lambda verb, path: 403 if plural in path else 0
    replica = crowd.start()
    await asyncio.sleep(0.7)
    assert replica.keeper.unready() == said
    server.refuse = lambda verb, path: 0
    await until(lambda: replica.ready)


async def test_no_right_to_patch_is_told_by_the_webhook_that_does_not_trust(server: Stored, crowd: Crowd) -> None:
    install(server)
    server.refuse = lambda verb, path: 403 if verb == "PATCH" else 0
    replica = crowd.start()
    await asyncio.sleep(0.7)
    assert replica.keeper.unready() == (
        "the webhook pods.armistice.dev of MutatingWebhookConfiguration zz-armistice does not trust its certificate yet"
    )


# The clock.


@dataclass
class Clock:
    """One that a test sets."""

    offset: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@pytest.mark.slow
async def test_a_clock_that_is_set_wrong_is_not_believed(server: Stored, crowd: Crowd) -> None:
    """The API server's is: it is the one that judges certificates."""
    install(server)
    clock = Clock()
    replica = crowd.start(clock=clock)
    await until(lambda: replica.ready)
    (bundle,) = bundles_of(server)
    written = len([path for _, path in server.written if "secrets" in path])
    for days in (400, -400, 29.99, 0):
        clock.offset = timedelta(days=days)
        synced = replica.keeper.figures.synced
        await until(lambda synced=synced: replica.keeper.figures.synced != synced)  # type: ignore[misc]
        await asyncio.sleep(1.2)
        assert await accepted(replica, bundle)
        assert replica.ready
    assert bundles_of(server) == {bundle}
    assert len([path for _, path in server.written if "secrets" in path]) == written


# The key.


def stored_key(server: Stored, content: bytes) -> str:
    """What an admin does with ``kubectl apply``."""
    data = {"intent.key": base64.b64encode(content).decode()}
    server.put(SIGNING, {"kind": "Secret", "metadata": {"name": "armistice-signing"}, "type": "Opaque", "data": data})
    return read_key(content, "test")[0].id


def published(server: Stored) -> set[str]:
    return set(KeyRing.from_pem(server.objects[KEYS]["data"]["intent.pub"].encode(), "test").keys)


@pytest.mark.slow
async def test_a_new_key_is_published_long_before_it_signs_and_the_old_one_stays_believed(
    server: Stored, crowd: Crowd
) -> None:
    install(server)
    replicas = [crowd.start() for _ in range(2)]
    await until(lambda: all(replica.ready for replica in replicas))
    old = replicas[0].key
    new = stored_key(server, new_private_pem())
    await until(lambda: published(server) == {old, new})
    since = asyncio.get_running_loop().time()
    while any(replica.key == old for replica in replicas):
        assert published(server) == {old, new}
        await asyncio.sleep(0.01)
        assert all(replica.ready for replica in replicas)
    took = asyncio.get_running_loop().time() - since
    assert took > 1.9, "times are written to the second"
    await asyncio.sleep(0.7)
    for replica in replicas:
        assert replica.believed == {old, new}
        assert replica.key == new
    fresh = crowd.start()
    await until(lambda: fresh.ready)
    assert fresh.key == new


@pytest.mark.slow
async def test_a_replica_that_starts_meanwhile_waits_for_the_key_too(server: Stored, crowd: Crowd) -> None:
    install(server)
    first = crowd.start()
    await until(lambda: first.ready)
    new = stored_key(server, new_private_pem())
    await until(lambda: new in published(server))
    second = crowd.start()
    await until(lambda: "reaches the nodes by" in second.keeper.unready(), within=2.0)
    assert second.keeper.unready().startswith(f"its signing key {new} reaches the nodes by ")
    await until(lambda: first.key == new and second.ready)


async def test_an_admin_takes_an_old_public_key_away_for_good(server: Stored, crowd: Crowd) -> None:
    install(server)
    other, _ = ephemeral()
    replica = crowd.start()
    await until(lambda: replica.ready)
    found = server.objects[KEYS]
    text = found["data"]["intent.pub"]
    both = {**found, "data": {"intent.pub": text + _pem(other)}}
    server.put(KEYS, both)
    await until(lambda: other.id in replica.believed)
    server.put(KEYS, {**both, "data": {"intent.pub": text}})
    await until(lambda: other.id not in replica.believed)
    assert published(server) == {replica.key}
    assert not any(other.id in name for name in server.objects[KEYS]["metadata"]["annotations"])


def _pem(key: SigningKey) -> str:
    from webhook.keys import public_pem

    return public_pem(key).decode()


BROKEN: Sequence[tuple[str, Callable[[Stored], object]]] = [
    ("a key that is none", lambda server: server.put(SIGNING, _with(server, SIGNING, "intent.key", "bm9uZQ=="))),
    ("a public key that is none", lambda server: server.put(KEYS, _with(server, KEYS, "intent.pub", "none"))),
    ("no public keys at all", lambda server: server.drop(KEYS)),
    ("no signing key", lambda server: server.drop(SIGNING)),
]


def _with(server: Stored, path: str, name: str, value: str) -> Json:
    found = server.objects[path]
    return {**found, "data": {**found["data"], name: value}}


@pytest.mark.parametrize(("what", "breaks"), BROKEN, ids=[row[0] for row in BROKEN])
async def test_whatever_is_broken_the_key_in_use_stays_believed(
    what: str, breaks: Callable[[Stored], object], server: Stored, crowd: Crowd
) -> None:
    install(server)
    replica = crowd.start()
    await until(lambda: replica.ready)
    before = replica.key
    breaks(server)
    await asyncio.sleep(1.2)
    assert replica.ready
    assert replica.key == before
    if what == "a key that is none":
        assert field_of(server, SIGNING, "intent.key") == b"none", "what an admin put there is not overwritten"
        stored_key(server, new_private_pem())
    await until(lambda: before in published(server))


async def test_with_certificates_from_files_only_the_keys_are_kept(server: Stored, crowd: Crowd) -> None:
    install(server)
    replica = crowd.start(files=True)
    await until(lambda: replica.ready)
    await asyncio.sleep(0.7)
    assert {path for _, path in server.asked} <= {
        SIGNING, KEYS, LEASE, *(path.rpartition("/")[0] for path in (SIGNING, KEYS, LEASE))
    }  # fmt: skip


async def test_a_webhook_that_moves_while_it_is_patched_is_read_again(server: Stored, crowd: Crowd) -> None:
    install(server)
    path = CONFIGURATIONS[Configuration.VALIDATING]

    def moved(verb: str, asked: str) -> None:
        if (verb, asked) == ("PATCH", path) and server.asked.count((verb, asked)) == 1:
            server.put(path, configuration(Configuration.VALIDATING, "warn", "enforce", "templates"))

    server.before = moved
    replica = crowd.start()
    await until(lambda: replica.ready)
    assert replica.keeper.figures.conflicts == {Work.CONFIGURATIONS: 1}
    assert len(bundles_of(server)) == 1
