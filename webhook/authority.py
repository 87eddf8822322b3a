"""The two certificate authorities of an installation, as values: what a Secret holds, and what it has to hold next.

There are always two, and they never end together. Clients trust both, and a certificate is signed by one that they have
trusted for long, so that neither a new authority nor a new certificate has to reach everybody at the same moment:

1. An authority *retires* when a quarter of its life is left. Then its slot, and no other, gets a new one.
2. A leaf is signed by the oldest authority that does not retire before the leaf ends. So nothing that is in use hangs
   on an authority whose slot is replaced.
3. None younger than an hour signs, unless there is no other.
4. An authority that leaves its slot early, because somebody took it away, is still trusted for a few minutes: by then
   every replica has a leaf of another one.

Every deadline comes from the certificate itself, so that any life will do, and is held against the wall clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from shared.errors import InputError
from webhook.certs import (
    CA_LIFE,
    RENEW_AFTER,
    Authority,
    Span,
    certificates_in,
    fingerprint,
    make_authority,
    pem_of,
    read_authority,
)

RETIRED = 1 / 4
"""Part of an authority's life that is left when its slot gets a new one."""

JITTER = 1 / 10
"""Part of a leaf's life by which its renewal may come early: replicas do not renew together."""


class Slot(Enum):
    """The two, in the order in which clients are told of them; the value is the lead of its fields in the Secret."""

    FIRST = "ca-1"
    SECOND = "ca-2"

    @property
    def certificate(self) -> str:
        """The field of the certificate."""
        return f"{self.value}.crt"

    @property
    def key(self) -> str:
        """The field of its key."""
        return f"{self.value}.key"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long things last. Tests shorten them; nobody else has a reason to."""

    authority_life: timedelta = CA_LIFE
    leaf_life: timedelta = timedelta(days=30)
    """Short, because it needs no storage and nobody notices; long, because an API server may be away for a weekend."""
    youth: timedelta = timedelta(hours=1)
    """An authority does not sign before: by then every API server trusts it."""
    settle: float = 10.0
    """Seconds that an authority has been in every bundle before a leaf in use gives way to one of its own. API servers
    hear of a bundle by a watch, within a second."""
    linger: float = 300.0
    """Seconds that one that has left the Secret is trusted on: replicas look at the Secret once a minute."""


@dataclass(frozen=True, slots=True)
class Authorities:
    """What the Secret holds."""

    found: Mapping[Slot, Authority]
    """The usable ones."""
    faults: Mapping[Slot, str]
    """Why each of the other slots cannot be used."""

    @classmethod
    def read(cls, data: Mapping[str, bytes]) -> Authorities:
        """From the Secret's fields; there may be none."""
        found: dict[Slot, Authority] = {}
        faults: dict[Slot, str] = {}
        for slot in Slot:
            try:
                found[slot] = _read(data, slot)
            except InputError as error:
                faults[slot] = str(error)
        return cls(found, faults)

    @property
    def ids(self) -> frozenset[str]:
        """Of the usable ones."""
        return frozenset(authority.id for authority in self.found.values())

    def bundle(self, present: bytes = b"", lingering: Collection[str] = ()) -> bytes:
        """What clients are to trust, where they trust what is ``present``: both slots, always in the same order, and of
        the rest those that still linger, by their fingerprints. Whoever was taken away never comes back by this."""
        rest = [found for found in certificates_in(present) if fingerprint(found) in lingering]
        ours = [self.found[slot].certificate for slot in Slot if slot in self.found]
        return b"".join(pem_of(found) for found in (*ours, *rest))


def _read(data: Mapping[str, bytes], slot: Slot) -> Authority:
    if slot.certificate not in data or slot.key not in data:
        raise InputError("it is missing")
    return read_authority(data[slot.certificate], data[slot.key])


# What is to be stored next.


def due(authorities: Authorities, now: datetime, terms: Terms) -> tuple[Slot, ...]:
    """Slots that have to be made anew: all that are of no use, else one that has retired.

    The other one must have been there for twice the youth first: a while to be trusted, a while to sign every leaf. A
    certificate that has yet to begin stays: it is our clock that is wrong.
    """
    found = authorities.found
    useless = tuple(slot for slot in Slot if slot not in found or found[slot].span.end <= now)
    if useless:
        return useless
    first, other = sorted(Slot, key=lambda slot: found[slot].span.end)
    ripe = now - found[other].span.born >= 2 * terms.youth
    return (first,) if ripe and now >= retires(found[first].span) else ()


def renewed(authorities: Authorities, now: datetime, terms: Terms) -> dict[str, bytes]:
    """The fields of the Secret that have to change; none where all is well. A slot that is of use is never among them
    before it has retired."""
    slots = due(authorities, now, terms)
    standing = {slot: found for slot, found in authorities.found.items() if slot not in slots}
    fields: dict[str, bytes] = {}
    for slot in slots:
        standing[slot] = make_authority(now, _life(standing.values(), now, terms))
        fields |= {slot.certificate: standing[slot].pem, slot.key: standing[slot].key_pem}
    return fields


def _life(others: Iterable[Authority], now: datetime, terms: Terms) -> timedelta:
    """A whole life, or half of one where the two would otherwise end within a quarter of each other."""
    whole = terms.authority_life
    close = any(abs(now + whole - other.span.end) < whole * RETIRED for other in others)
    return whole / 2 if close else whole


def retires(span: Span) -> datetime:
    """When a quarter of an authority's life is left."""
    return span.end - (span.end - span.born) * RETIRED


# Who signs, and when.


@dataclass(frozen=True, slots=True)
class Served:
    """The leaf in use."""

    span: Span
    issuer: str
    """The id of the authority that signed it."""
    renew_at: datetime

    @classmethod
    def of(cls, span: Span, issuer: Authority, chance: float) -> Served:
        """A leaf just signed; ``chance``, from 0 to 1, is how much of the jitter falls to it."""
        return cls(span, issuer.id, span.born + (RENEW_AFTER - JITTER * chance) * (span.end - span.born))


@dataclass(frozen=True, slots=True)
class Sightings:
    """What one replica has seen of authorities that come and go. Times are seconds of a clock that is never set."""

    trusted: Mapping[str, float]
    """Since when each id is in every bundle in force."""
    inside: frozenset[str] = frozenset()
    """The ids in the Secret at the last look."""
    left: Mapping[str, float] = field(default_factory=dict)
    """When each of the others left it."""

    @classmethod
    def first(cls, bundles: Collection[bytes]) -> Sightings:
        """At the start: what is trusted then has been so for long, as far as anybody knows."""
        return cls(dict.fromkeys(_common(bundles), float("-inf")))

    def after(self, bundles: Collection[bytes], inside: frozenset[str], at: float) -> Sightings:
        """What is known after a look at the bundles in force and the Secret."""
        trusted = {found: self.trusted.get(found, at) for found in _common(bundles)}
        left = {**self.left, **dict.fromkeys(self.inside - inside, at)}
        return Sightings(trusted, inside, {found: when for found, when in left.items() if found not in inside})

    def settled(self, at: float, terms: Terms) -> frozenset[str]:
        """The ids that every API server trusts by now."""
        return frozenset(found for found, since in self.trusted.items() if at - since >= terms.settle)

    def lingering(self, at: float, terms: Terms) -> frozenset[str]:
        """The ids that left the Secret so lately that a replica may still use them."""
        return frozenset(found for found, when in self.left.items() if at - when < terms.linger)


def _common(bundles: Collection[bytes]) -> frozenset[str]:
    """The ids of the certificates that are in all of them; none where there is no bundle."""
    each = [frozenset(fingerprint(found) for found in certificates_in(bundle)) for bundle in bundles]
    return frozenset.intersection(*each) if each else frozenset()


def signer(authorities: Authorities, now: datetime, trusted: Collection[str], terms: Terms) -> Authority | None:
    """Who signs a leaf now; None while nobody can. ``trusted`` are the ids that every API server knows.

    Each wish counts as long as somebody fulfils it: trusted, not too young, and not to retire before the leaf ends. Of
    those left it is the oldest; where all retire too early, the one that stays longest.
    """
    inside = [authorities.found[slot] for slot in Slot if slot in authorities.found]
    able = [found for found in inside if found.span.covers(now)]
    able = [found for found in able if found.id in trusted] or able
    able = [found for found in able if now - found.span.born >= terms.youth] or able
    staying = [found for found in able if retires(found.span) >= now + terms.leaf_life]
    if staying:
        return min(staying, key=lambda found: found.span.born)
    return max(able, key=lambda found: retires(found.span), default=None)


def next_signer(
    served: Served | None, authorities: Authorities, now: datetime, trusted: Collection[str], terms: Terms
) -> Authority | None:
    """Who is to sign a new leaf now; None where the one in use stays.

    A leaf that works is never given up for one that an API server might not trust yet.
    """
    best = signer(authorities, now, trusted, terms)
    if best is None or served is None or not served.span.covers(now):
        return best
    if served.issuer not in trusted and best.id in trusted:
        return best
    may_move = best.id in trusted or best.id == served.issuer
    return best if may_move and _is_due(served, authorities, best, now) else None


def _is_due(served: Served, authorities: Authorities, best: Authority, now: datetime) -> bool:
    """By its age, or because its authority is leaving or gone."""
    if now >= served.renew_at:
        return True
    if served.issuer == best.id:
        return False
    issuer = next((found for found in authorities.found.values() if found.id == served.issuer), None)
    return issuer is None or now >= retires(issuer.span)
