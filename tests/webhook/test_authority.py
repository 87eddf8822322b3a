"""Two authorities that never end together: what is stored next, who signs, and a year and a half of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from webhook.authority import Authorities, Served, Sightings, Slot, Terms, due, next_signer, renewed, retires, signer
from webhook.certs import Authority, Leaf, certificates_in, fingerprint, issue, make_authority, refusal

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TERMS = Terms()
NAMES = ["armistice-webhook.armistice-system.svc"]
FIRST, SECOND = Slot


def days(number: float) -> timedelta:
    return timedelta(days=number)


def stored(first: Authority, second: Authority) -> dict[str, bytes]:
    pairs = ((FIRST, first), (SECOND, second))
    return {k: v for slot, made in pairs for k, v in ((slot.certificate, made.pem), (slot.key, made.key_pem))}


def made(first: float, second: float, life: float = 365) -> dict[str, bytes]:
    """A Secret whose authorities are that many days old, at NOW."""
    return stored(make_authority(NOW - days(first), days(life)), make_authority(NOW - days(second), days(life)))


def ends(data: dict[str, bytes]) -> dict[Slot, float]:
    """In how many days from NOW each authority ends."""
    found = Authorities.read(data).found
    return {slot: (authority.span.end - NOW) / days(1) for slot, authority in found.items()}


# What is stored next.


def test_an_empty_secret_gets_two_authorities_that_do_not_end_together() -> None:
    fields = renewed(Authorities.read({}), NOW, TERMS)
    assert set(fields) == {"ca-1.crt", "ca-1.key", "ca-2.crt", "ca-2.key"}
    assert ends(fields) == {FIRST: 365, SECOND: 182.5}
    assert renewed(Authorities.read(fields), NOW, TERMS) == {}


def test_no_two_authorities_have_one_name() -> None:
    found = Authorities.read(renewed(Authorities.read({}), NOW, TERMS)).found
    assert len({authority.certificate.subject for authority in found.values()}) == 2


OTHER = make_authority(NOW)
ED25519 = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
LEAF = issue(OTHER, NAMES, NOW)

BAD = [
    ("a slot without its key", {"ca-1.key": None}, "it is missing"),
    ("a certificate cut short", {"ca-1.crt": OTHER.pem[:200]}, "its certificate or its key cannot be read as PEM"),
    ("an empty key", {"ca-1.key": b""}, "its certificate or its key cannot be read as PEM"),
    ("another one's key", {"ca-1.key": OTHER.key_pem}, "its certificate and its key are no pair"),
    ("a key of another kind", {"ca-1.key": ED25519}, "its key is not one of an elliptic curve"),
    (
        "a server's certificate",
        {"ca-1.crt": LEAF.certificate, "ca-1.key": LEAF.key},
        "its certificate is not one of an authority",
    ),
]


@pytest.mark.parametrize(("what", "change", "said"), BAD, ids=[row[0] for row in BAD])
def test_a_slot_that_is_of_no_use_is_made_anew_and_the_other_stays(
    what: str, change: dict[str, bytes | None], said: str
) -> None:
    data = {k: v for k, v in {**made(200, 63), **change}.items() if v is not None}
    authorities = Authorities.read(data)
    assert authorities.faults == {FIRST: said}
    assert set(renewed(authorities, NOW, TERMS)) == {"ca-1.crt", "ca-1.key"}


DUE = [
    ("two in the middle of their lives", made(100, 200), ()),
    ("one a day before a quarter of its life is left", made(100, 272), ()),
    ("one with a quarter of its life left", made(100, 274), (SECOND,)),
    ("one that has ended", made(366, 100), (FIRST,)),
    ("two that have ended: both at once, for there is nothing to lose", made(366, 400), (FIRST, SECOND)),
    ("two that have retired: the one that ends first", made(280, 290), (SECOND,)),
    ("one that has retired while the other has just been made", made(1 / 24, 290), ()),
    ("one that has retired while the other is two hours old", made(2.1 / 24, 290), (SECOND,)),
    ("one that has yet to begin, by our clock", made(-1, 100), ()),
]


@pytest.mark.parametrize(("what", "data", "slots"), DUE, ids=[row[0] for row in DUE])
def test_when_a_slot_is_made_anew(what: str, data: dict[str, bytes], slots: tuple[Slot, ...]) -> None:
    assert due(Authorities.read(data), NOW, TERMS) == slots


LIVES = [
    ("while the other has half a year left", 182.5, 365),
    ("while the other would end at the same time", 5, 182.5),
    ("while the other ends a little more than a quarter of a life before", 92, 365),
    ("while the other ends a little less than a quarter of a life before", 91, 182.5),
]


@pytest.mark.parametrize(("what", "age", "life"), LIVES, ids=[row[0] for row in LIVES])
def test_a_lost_slot_is_made_so_that_the_two_end_apart(what: str, age: float, life: float) -> None:
    left = {key: value for key, value in made(age, 0).items() if key.startswith("ca-1")}
    assert ends(renewed(Authorities.read(left), NOW, TERMS)) == {SECOND: life}


# The bundle.


def test_the_bundle_is_both_slots_in_order_whatever_was_there_before() -> None:
    data = made(100, 200)
    both = data["ca-1.crt"] + data["ca-2.crt"]
    authorities = Authorities.read(data)
    for present in (b"", b"nonsense", OTHER.pem, data["ca-2.crt"] + data["ca-1.crt"], both):
        assert authorities.bundle(present) == both


def test_an_authority_that_lingers_stays_but_does_not_come_back() -> None:
    authorities = Authorities.read(made(100, 200))
    both = authorities.bundle()
    lingering = {OTHER.id}
    assert authorities.bundle(OTHER.pem + both, lingering) == both + OTHER.pem
    assert authorities.bundle(both + OTHER.pem, lingering) == both + OTHER.pem
    assert authorities.bundle(both, lingering) == both


# Who signs.

SIGNERS = [
    ("the older of two", made(100, 50), "both", FIRST),
    ("the younger where the older retires before the leaf ends", made(250, 50), "both", SECOND),
    ("the older where the younger is not an hour old", made(250, 0.02), "both", FIRST),
    ("the first of two that are new", made(0, 0), "none", FIRST),
    ("the one that stays longer where both retire too early", made(255, 250), "both", SECOND),
    ("the one that API servers trust, however young", made(100, 0.01), "second", SECOND),
    ("the one that has not ended", made(366, 0), "both", SECOND),
    ("the one that has begun", made(-1, 0), "both", SECOND),
]


@pytest.mark.parametrize(("what", "data", "trusted", "slot"), SIGNERS, ids=[row[0] for row in SIGNERS])
def test_who_signs_a_leaf(what: str, data: dict[str, bytes], trusted: str, slot: Slot) -> None:
    authorities = Authorities.read(data)
    ids = {name: {authorities.found[slot].id} for name, slot in (("first", FIRST), ("second", SECOND))}
    known = {"both": ids["first"] | ids["second"], "none": set[str](), **ids}[trusted]
    assert signer(authorities, NOW, known, TERMS) == authorities.found[slot]


def test_nobody_signs_where_both_have_ended() -> None:
    assert signer(Authorities.read(made(366, 400)), NOW, (), TERMS) is None


def served(issuer: Authority, age: float, chance: float = 0) -> Served:
    """A leaf of that age in days, at NOW."""
    return Served.of(issue(issuer, NAMES, NOW - days(age), TERMS.leaf_life).span, issuer, chance)


GONE = make_authority(NOW - days(100))
STANDING = Authorities.read(made(250, 100))
OLD, YOUNG = STANDING.found[FIRST], STANDING.found[SECOND]
RETIRED = Authorities.read(made(274, 100))

MOVES = [
    ("no leaf yet", None, STANDING, {OLD.id, YOUNG.id}, SECOND),
    ("a leaf of ten days", served(YOUNG, 10), STANDING, {OLD.id, YOUNG.id}, None),
    ("a leaf at two thirds of its life", served(YOUNG, 20.1), STANDING, {OLD.id, YOUNG.id}, SECOND),
    ("a leaf whose lot is to go early", served(YOUNG, 17.1, 1.0), STANDING, {OLD.id, YOUNG.id}, SECOND),
    ("a leaf whose lot is to go late", served(YOUNG, 17.1, 0.0), STANDING, {OLD.id, YOUNG.id}, None),
    ("a leaf of one that will retire", served(OLD, 5), STANDING, {OLD.id, YOUNG.id}, None),
    ("a leaf of one that has retired", served(RETIRED.found[FIRST], 5), RETIRED, RETIRED.ids, SECOND),
    ("a leaf of one that is gone", served(GONE, 5), STANDING, {GONE.id, OLD.id, YOUNG.id}, SECOND),
    ("a leaf of one that is gone, but nobody trusts another", served(GONE, 5), STANDING, {GONE.id}, None),
    ("a leaf that nobody trusts, nor any other", served(GONE, 5), STANDING, set[str](), None),
    ("a leaf that nobody trusts, beside one that all do", served(OLD, 5), STANDING, {YOUNG.id}, SECOND),
    ("a leaf that has ended", served(GONE, 31), STANDING, {GONE.id}, SECOND),
    ("a leaf that has yet to begin: the clock was set back", served(YOUNG, -1), STANDING, set[str](), SECOND),
]


@pytest.mark.parametrize(("what", "leaf", "authorities", "trusted", "slot"), MOVES, ids=[row[0] for row in MOVES])
def test_when_a_leaf_gives_way(
    what: str, leaf: Served | None, authorities: Authorities, trusted: set[str], slot: Slot | None
) -> None:
    expected = authorities.found[slot] if slot else None
    assert next_signer(leaf, authorities, NOW, trusted, TERMS) == expected


def test_a_leaf_of_half_a_minute_is_not_renewed_all_the_time() -> None:
    leaf = issue(YOUNG, NAMES, NOW, timedelta(seconds=30))
    early, late = (Served.of(leaf.span, YOUNG, chance).renew_at - NOW for chance in (1.0, 0.0))
    assert (early, late) == (timedelta(seconds=17), timedelta(seconds=20))


def test_what_was_trusted_at_the_start_is_trusted_and_what_came_later_has_to_settle() -> None:
    both = OTHER.pem + GONE.pem
    seen = Sightings.first([OTHER.pem, OTHER.pem]).after([both, both], frozenset(), at=100.0)
    assert seen.settled(100.0, TERMS) == {OTHER.id}
    assert seen.settled(110.0, TERMS) == {OTHER.id, GONE.id}
    assert seen.after([both, b""], frozenset(), 120.0).settled(200.0, TERMS) == frozenset()


def test_what_left_the_secret_lingers_for_five_minutes() -> None:
    seen = Sightings.first([]).after([], frozenset({OTHER.id}), 0.0).after([], frozenset({GONE.id}), 60.0)
    assert seen.lingering(359.0, TERMS) == {OTHER.id}
    assert seen.lingering(360.0, TERMS) == frozenset()
    assert seen.after([], frozenset({OTHER.id}), 100.0).lingering(100.0, TERMS) == {GONE.id}


# Time passes.


@dataclass
class World:
    """A Secret, a bundle, and clients that hold any bundle that was in force of late."""

    secret: dict[str, bytes] = field(default_factory=dict)
    bundle: bytes = b""
    lately: list[tuple[datetime, bytes]] = field(default_factory=list)
    """Bundles that were replaced, and when."""
    changes: list[tuple[datetime, tuple[str, ...]]] = field(default_factory=list)
    """What was written to the Secret."""
    verified: set[tuple[bytes, bytes]] = field(default_factory=set)

    @property
    def authorities(self) -> Authorities:
        return parsed(frozenset(self.secret.items()))

    def publish(self, bundle: bytes, now: datetime) -> None:
        if self.bundle:
            self.lately.append((now, self.bundle))
        self.bundle = bundle

    def held(self, now: datetime, propagation: timedelta) -> list[bytes]:
        self.lately = [(when, bundle) for when, bundle in self.lately if now - when <= propagation]
        return [self.bundle, *(bundle for _, bundle in self.lately)]


@dataclass
class Replica:
    """One process: what the keeper does in a round, without a network."""

    seen: Sightings | None = None
    leaf: Leaf | None = None
    served: Served | None = None
    leaves: int = 0

    def look(self, world: World, now: datetime, terms: Terms, chance: float) -> None:
        at = now.timestamp()
        self.seen = self.seen or Sightings.first([world.bundle])
        fields = renewed(world.authorities, now, terms)
        if fields:
            world.secret = {**world.secret, **fields}
            world.changes.append((now, tuple(sorted(fields))))
        authorities = world.authorities
        self.seen = self.seen.after([world.bundle], authorities.ids, at)
        bundle = authorities.bundle(world.bundle, self.seen.lingering(at, terms))
        if bundle != world.bundle:
            world.publish(bundle, now)
        self.seen = self.seen.after([world.bundle], authorities.ids, at)
        issuer = next_signer(self.served, authorities, now, self.seen.settled(at, terms), terms)
        if issuer:
            self.leaf = issue(issuer, NAMES, now, terms.leaf_life)
            self.served = Served.of(self.leaf.span, issuer, chance)
            self.leaves += 1


def check(world: World, replica: Replica, now: datetime, propagation: timedelta) -> None:
    """Every client, whichever bundle it holds, accepts what the replica serves."""
    if replica.leaf is None or replica.served is None:
        return
    assert replica.served.span.covers(now), f"{now}: the leaf ended on {replica.served.span.end}"
    for bundle in world.held(now, propagation):
        if (bundle, replica.leaf.certificate) not in world.verified:
            found = {fingerprint(certificate): certificate for certificate in certificates_in(bundle)}
            assert replica.served.issuer in found, f"{now}: a client does not know {replica.served.issuer}"
            assert refusal(replica.leaf, found[replica.served.issuer], NAMES, now) == ""
            world.verified.add((bundle, replica.leaf.certificate))


@lru_cache(maxsize=8)
def parsed(fields: frozenset[tuple[str, bytes]]) -> Authorities:
    return Authorities.read(dict(fields))


@pytest.mark.slow
def test_a_year_and_a_half_in_which_no_client_meets_a_leaf_it_does_not_know() -> None:
    """Three replicas that look every two hours, one of which is restarted now and then; clients that are up to two
    hours behind."""
    chance = random.Random(7)
    world, replicas = World(), [Replica(), Replica(), Replica()]
    now, step = NOW, timedelta(hours=2)
    while now < NOW + days(560):
        for index, replica in enumerate(replicas):
            moment = now + timedelta(seconds=17 * index)
            replica.look(world, moment, TERMS, chance.random())
            for each in replicas:
                check(world, each, moment, timedelta(hours=2))
        if chance.random() < 0.001:
            replicas[chance.randrange(3)] = Replica()
        now += step
    written = [(round((when - NOW) / days(1)), fields) for when, fields in world.changes]
    first, second = ("ca-1.crt", "ca-1.key"), ("ca-2.crt", "ca-2.key")
    assert written == [(0, first + second), (137, second), (274, first), (411, second), (548, first)]
    assert all(replica.leaves < 40 for replica in replicas)
    assert len(world.bundle.split(b"BEGIN CERTIFICATE")) == 3


def test_every_minute_of_short_lives_with_slots_that_somebody_takes_away() -> None:
    """Lives of a few hours, so that minutes matter; clients are up to 5 s behind, as API servers may be."""
    terms = Terms(timedelta(hours=8), timedelta(minutes=40), timedelta(minutes=10))
    chance = random.Random(11)
    world, replicas = World(), [Replica(), Replica(), Replica()]
    taken: list[str] = []
    for minute in range(24 * 60):
        for index, replica in enumerate(chance.sample(replicas, 3)):
            moment = NOW + timedelta(minutes=minute, seconds=19 * index + chance.random())
            replica.look(world, moment, terms, chance.random())
            for each in replicas:
                check(world, each, moment, timedelta(seconds=5))
        if minute % 300 == 299:
            taken.append(("ca-1", "ca-2", "ca-")[len(taken) % 3])
            world.secret = {k: v for k, v in world.secret.items() if not k.startswith(taken[-1])}
    assert len(taken) == 4
    assert len(world.changes) > 2 + len(taken), "some retired by themselves"


def test_an_authority_never_leaves_by_itself_while_a_leaf_of_it_may_be_in_use() -> None:
    authorities = Authorities.read(made(243, 100))
    old = authorities.found[FIRST]
    assert signer(authorities, NOW, authorities.ids, TERMS) == old
    leaf = issue(old, NAMES, NOW, TERMS.leaf_life)
    assert leaf.span.end < retires(old.span)
