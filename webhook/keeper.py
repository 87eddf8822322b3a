"""What a replica does to be trusted: certificates, the bundles of the configurations, and the key that signs intents.

At the start, once a minute, and at once when one of the configurations changes:

1. The key: the Secret has one, the ConfigMap its public part; it signs when the nodes have it (:mod:`publication`).
2. The authorities: the Secret has two that last (:mod:`authority`).
3. The bundles: every webhook of both configurations trusts both. Whatever somebody puts there is put right.
4. The leaf: signed in memory, verified as a client would, and only then swapped in.

Every replica does all of it, on what it has just read; only who writes is a matter of turns (:mod:`turns`). A step
that fails leaves what was known before, is said once, and comes again: while the API server is away the process serves
on, and signs its leaf with the authorities it has.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from shared.errors import InputError
from shared.seal import KeyRing, SigningKey
from webhook.authority import Authorities, Served, Sightings, Terms, due, next_signer, renewed
from webhook.bundles import Configuration, bundles, repair
from webhook.certs import Certificate, certificates_in, fingerprint, issue, refusal
from webhook.cluster.writing import ROUNDS, ClusterError, Conflict, Place, Writer, config_map, configuration, secret
from webhook.fields import fields_of, with_fields
from webhook.figures import Figures, Work
from webhook.installation import PRIVATE_KEY, Installation
from webhook.keys import new_private_pem
from webhook.keys import read as read_key
from webhook.publication import DELAY, Publication
from webhook.turns import Turns

LOG = logging.getLogger("armistice.keeper")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the keeper waits for what. Seconds, where nothing else is said."""

    look: float = 60.0
    """Between looks at everything: a leaf and a bundle have days."""
    retry: float = 1.0
    """After a look that failed; twice as long each time, up to ``look`` but no more than half a minute."""
    breath: float = 0.3
    """After each look: what changes together is taken together, and a storm of changes costs three looks a second."""
    patience: float = 5.0
    """So long the leader is given to do what is to be done, before anybody does it."""
    key_delay: timedelta = DELAY
    """From the publication of a key to its use."""


TERMS, PACE = Terms(), Pace()


class Keeper:
    """One replica's."""

    def __init__(
        self,
        installation: Installation,
        certificate: Certificate | None,
        names: Sequence[str],
        learn: Callable[[SigningKey, KeyRing], None],
        terms: Terms = TERMS,
        pace: Pace = PACE,
    ) -> None:
        """``certificate`` is the live one; None where it comes from files, and bundles are somebody else's. ``names``
        are what clients call us; ``learn`` is told of the key that signs and of all that are believed."""
        self.figures = Figures()
        self.keys: tuple[SigningKey, KeyRing] | None = None
        """The key that signs, and all that are believed; None while it is not known or may not sign yet."""
        self._installation = installation
        self._writer: Writer
        self._learn = learn
        self._certificate = certificate
        self._names = names
        self._terms = terms
        self._pace = pace
        self._places = {
            one: configuration(one.kind, installation.configuration) for one in Configuration if certificate
        }
        self._authorities = Authorities.read({})
        self._in_force: dict[Configuration, dict[str, bytes]] = {}
        """The bundle of each webhook as last read back."""
        self._seen: Sightings | None = None
        self._served: Served | None = None
        self._next_key: SigningKey | None = None
        """The one in the Secret, which may have to wait."""
        self._key_waits_until: datetime | None = None
        self._turns = Turns(installation, self.figures, pace.patience, self._tell)
        self._told: dict[str, str] = {}
        self._woken = asyncio.Event()

    # What others ask.

    def unready(self) -> str:
        """Why no review should come here yet; empty when all is well."""
        if self.keys is None:
            return self._without_key()
        return self._untrusted() if self._certificate else ""

    def _without_key(self) -> str:
        if self._next_key and self._key_waits_until:
            return (
                f"its signing key {self._next_key.id} reaches the nodes by {self._key_waits_until:%H:%M:%S} UTC, "
                "and the one before is gone"
            )
        return "its signing key is not known yet"

    def _untrusted(self) -> str:
        if self._served is None:
            return "it has no certificate of its own yet"
        if not self._served.span.covers(self._writer.now()):
            return "its certificate has ended, and no authority can sign another one"
        if len(self._in_force) < len(self._places):
            return "the webhook configurations have not been read yet"
        for one, webhooks in self._in_force.items():
            for name, bundle in webhooks.items():
                if self._served.issuer not in {fingerprint(found) for found in certificates_in(bundle)}:
                    where = f"{one.kind} {self._installation.configuration}"
                    return f"the webhook {name} of {where} does not trust its certificate yet"
        return ""

    # The loop.

    async def run(self, writer: Writer) -> None:
        """Until it is cancelled; then the Lease is handed on."""
        self._writer = writer
        try:
            await self._turns.campaign(writer)  # first: who writes need not wait for its turn then
            async with asyncio.TaskGroup() as group:
                group.create_task(self._turns.run(writer, self._woken.set), name="leadership")
                for place in self._places.values():
                    group.create_task(self._follow(place), name=f"watch {place.kind}")
                group.create_task(self._keep(), name="keeper")
        finally:
            await self._turns.hand_on(writer)

    async def _keep(self) -> None:
        failed = 0
        while True:
            self._woken.clear()
            failed = 0 if await self._look() else failed + 1
            await asyncio.sleep(self._pace.breath)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause(failed)):
                    await self._woken.wait()

    def _pause(self, failed: int) -> float:
        if failed:
            return min(self._pace.retry * 2.0 ** min(failed - 1, 10), self._pace.look, 30.0)
        return min(self._pace.look, *self._appointments())

    def _appointments(self) -> Iterator[float]:
        """Seconds to what comes before the next look."""
        at = monotonic()
        yield self._pace.look
        yield from self._turns.waits()
        if self._key_waits_until:
            yield max((self._key_waits_until - self._writer.now()).total_seconds(), 0.0)
        for since in self._seen.trusted.values() if self._seen else ():
            if at < since + self._terms.settle:
                yield since + self._terms.settle - at

    async def _look(self) -> bool:
        """One look at everything. Whether all is well."""
        well = True
        for step in self._steps():
            well &= await self._step(step)
        if well:
            self.figures.synced = self._writer.now()
        return well

    def _steps(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        if self._certificate is None:
            return (self._keep_key,)
        return self._keep_key, self._keep_authorities, self._keep_bundles, self._keep_leaf

    async def _step(self, step: Callable[[], Awaitable[None]]) -> bool:
        what = step.__name__.removeprefix("_keep_")
        try:
            await step()
        except (ClusterError, InputError) as error:
            self._tell(what, str(error))
            return False
        except Exception:  # a fault of ours: what is served goes on being served
            LOG.exception("fault what=%s", what)
            return False
        self._tell(what, "")
        return True

    def _tell(self, what: str, trouble: str) -> None:
        """Once, however often it comes."""
        if trouble and trouble != self._told.get(what):
            LOG.warning("trouble what=%s: %s", what, trouble)
        elif not trouble and self._told.get(what):
            LOG.info("trouble is over what=%s", what)
        self._told[what] = trouble

    # 1. The key that signs intents.

    async def _keep_key(self) -> None:
        key, others = await self._stored_key()
        if self._next_key is None or self._next_key.id != key.id:
            self._next_key = key  # the same object for as long as it is the same key: it remembers its last seals
        signing = self.keys[0].public if self.keys else key.public
        publication = await self._published([key.public, signing, *others.keys.values()])
        self._use_key(publication)

    async def _stored_key(self) -> tuple[SigningKey, KeyRing]:
        place = secret(self._installation.signing, self._installation.namespace)

        def change(found: Json | None) -> Json | None:
            if PRIVATE_KEY in fields_of(found):
                self._turns.nothing_to_do(Work.SIGNING_KEY)
                return None
            if not self._turns.mine(Work.SIGNING_KEY):
                return None
            return with_fields(found or self._installation.labelled(place.bare), {PRIVATE_KEY: new_private_pem()})

        found, made = await self._writer.ensure(place, change, self.figures.conflict(Work.SIGNING_KEY))
        if made:
            LOG.info("signing key made secret=%s", place.name)
        content = fields_of(found).get(PRIVATE_KEY)
        if content is None:
            raise InputError(f"{place} has no {PRIVATE_KEY} yet; the replica that writes makes it")
        return read_key(content, f"{place}: {PRIVATE_KEY}")

    async def _published(self, public: Sequence[bytes]) -> Publication:
        place = config_map(self._installation.keys, self._installation.namespace)

        def change(found: Json | None) -> Json | None:
            wanted = Publication.of(found).with_keys(public, self._writer.now())
            if found is not None and wanted.is_in(found):
                self._turns.nothing_to_do(Work.PUBLIC_KEYS)
                return None
            if not self._turns.mine(Work.PUBLIC_KEYS):
                return None
            return wanted.into(found or self._installation.labelled(place.bare))

        found, written = await self._writer.ensure(place, change, self.figures.conflict(Work.PUBLIC_KEYS))
        publication = Publication.of(found)
        if written:
            LOG.info("public keys published ids=%s", ",".join(sorted(publication.ring.keys)))
        return publication

    def _use_key(self, publication: Publication) -> None:
        key = self._next_key
        assert key is not None
        self.figures.public_keys = len(publication.ring.keys)
        usable = publication.usable_at(key.id, self._pace.key_delay)
        signing = self.keys[0] if self.keys else None
        ripe = usable is not None and usable <= self._writer.now()
        self._key_waits_until = None if ripe or (signing and signing.id == key.id) else usable
        if ripe and (signing is None or signing.id != key.id):
            LOG.info("signing key in use id=%s", key.id)
            signing = key
        if signing is None:
            return
        ring = KeyRing({**publication.ring.keys, signing.id: signing.public, key.id: key.public})
        if self.keys is None or self.keys != (signing, ring):
            self.keys = signing, ring
            self._learn(signing, ring)

    # 2. The authorities.

    async def _keep_authorities(self) -> None:
        place = secret(self._installation.authorities, self._installation.namespace)

        def change(found: Json | None) -> Json | None:
            authorities = Authorities.read(fields_of(found))
            if not due(authorities, self._writer.now(), self._terms):
                self._turns.nothing_to_do(Work.AUTHORITIES)
                return None
            if not self._turns.mine(Work.AUTHORITIES):
                return None
            return with_fields(
                found or self._installation.labelled(place.bare), renewed(authorities, self._writer.now(), self._terms)
            )

        found, made = await self._writer.ensure(place, change, self.figures.conflict(Work.AUTHORITIES))
        self._authorities = Authorities.read(fields_of(found))
        if made:
            LOG.info("authority made secret=%s", place.name)
        self.figures.ends = {slot: authority.span.end for slot, authority in self._authorities.found.items()}

    # 3. The bundles.

    async def _keep_bundles(self) -> None:
        read = {one: await self._writer.get(place) for one, place in self._places.items()}
        self._read_back(read)
        for one, place in self._places.items():
            read[one] = await self._repaired(one, place, read[one])
        self._read_back(read)

    async def _repaired(self, one: Configuration, place: Place, found: Json | None) -> Json | None:
        for _ in range(ROUNDS):
            operations = repair(found, self._wanted) if found and self._authorities.found else []
            if not operations:
                self._turns.nothing_to_do(one)
                return found
            if not self._turns.mine(one):
                return found
            try:
                found = await self._writer.patch(place, operations)
            except Conflict:
                self.figures.conflicts[Work.CONFIGURATIONS] += 1
                found = await self._writer.get(place)
                continue
            self.figures.repairs[one] += 1
            LOG.info("caBundle repaired configuration=%s webhooks=%d", one.value, len(operations) // 2)
            return found  # as it was stored: were it changed again on its way, that is for the next look
        return found

    def _wanted(self, present: bytes) -> bytes:
        lingering = self._seen.lingering(monotonic(), self._terms) if self._seen else ()
        return self._authorities.bundle(present, lingering)

    def _read_back(self, read: Mapping[Configuration, Json | None]) -> None:
        """What is in force now, and what that means for who is trusted."""
        self._in_force = {one: bundles(found) for one, found in read.items()}
        for one, found in read.items():
            if self.figures.present.get(one) is not (found is not None):
                self.figures.present[one] = found is not None
                LOG.info("configuration %s is %s", self._places[one], "there" if found else "absent: switched off")
        every = [bundle for webhooks in self._in_force.values() for bundle in webhooks.values()]
        seen = self._seen or Sightings.first(every)
        self._seen = seen.after(every, self._authorities.ids, monotonic())

    # 4. The leaf.

    async def _keep_leaf(self) -> None:
        """Without a word to the API server."""
        assert self._certificate is not None
        now = self._writer.now()
        issuer = next_signer(self._served, self._authorities, now, self._trusted(), self._terms)
        if issuer is None:
            if self._served is None or not self._served.span.covers(now):
                raise InputError("no authority can sign a certificate now")
            return
        leaf = issue(issuer, self._names, now, self._terms.leaf_life)
        fault = refusal(leaf, issuer.certificate, self._names, now)
        if fault:
            raise InputError(f"the certificate just made is not used, for clients would refuse it: {fault}")
        self._certificate.swap(leaf)
        self._served = Served.of(leaf.span, issuer, random.random())

    def _trusted(self) -> frozenset[str]:
        if self._seen is None or not any(self._in_force.values()):
            return self._authorities.ids  # nobody asks us, so that nobody can mind
        return self._seen.settled(monotonic(), self._terms)

    # News.

    async def _follow(self, place: Place) -> None:
        """Wake the loop at each change. What a watch misses, the next look sees."""
        pause = self._pace.retry
        while True:
            try:
                async for _ in self._writer.changes(place):
                    self._woken.set()
                    pause = self._pace.retry
            except ClusterError as error:
                self._tell(f"watch of {place.kind}", str(error))
                pause = min(2 * pause, self._pace.patience)
            else:
                self._tell(f"watch of {place.kind}", "")
            await asyncio.sleep(pause)
