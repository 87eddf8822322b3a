"""Single objects of the cluster, by name: read, made, replaced, patched, and watched for a change.

Nothing is ever overwritten that was not read before: what is replaced carries the version that was read, and a patch
says what it expects to find. Who comes second reads again, and decides anew on what is there now.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

import aiohttp
from kubernetes.aio import client

from shared.errors import ArmisticeError

Json = dict[str, Any]

ROUNDS = 10
"""Times that a change is tried; somebody else's came first all the others."""

TIMEOUT = aiohttp.ClientTimeout(total=10.0, connect=5.0)
"""Seconds for one call."""

SLOW = timedelta(minutes=1)
"""Clocks that differ by less are taken for equal."""

WATCH = 240
"""Seconds after which the API server ends a watch; the connection may have died unheard meanwhile."""

PATIENCE = aiohttp.ClientTimeout(total=WATCH + 30.0, connect=5.0)


class ClusterError(ArmisticeError):
    """The API server could not be asked, or said no. The text names the object and the reason."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        """Of the answer; 0 where there was none."""

    @property
    def forbidden(self) -> bool:
        """Whether rights are lacking."""
        return self.status in (401, 403)


class Conflict(ClusterError):
    """Somebody else was there first."""


@dataclass(frozen=True, slots=True)
class Place:
    """One named object, whether it is there or not."""

    kind: str
    api_version: str
    plural: str
    name: str
    namespace: str = ""
    """Empty for what belongs to the whole cluster."""

    @property
    def folder(self) -> str:
        """Where objects of its kind are made."""
        root = "api" if self.api_version == "v1" else "apis"
        inside = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"/{root}/{self.api_version}{inside}/{self.plural}"

    @property
    def path(self) -> str:
        """Where it is itself."""
        return f"{self.folder}/{self.name}"

    @property
    def bare(self) -> Json:
        """An object without content."""
        namespace = {"namespace": self.namespace} if self.namespace else {}
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": self.name, **namespace}}

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def secret(name: str, namespace: str) -> Place:
    """A Secret."""
    return Place("Secret", "v1", "secrets", name, namespace)


def config_map(name: str, namespace: str) -> Place:
    """A ConfigMap."""
    return Place("ConfigMap", "v1", "configmaps", name, namespace)


def lease(name: str, namespace: str) -> Place:
    """A Lease."""
    return Place("Lease", "coordination.k8s.io/v1", "leases", name, namespace)


def account(name: str, namespace: str) -> Place:
    """A ServiceAccount."""
    return Place("ServiceAccount", "v1", "serviceaccounts", name, namespace)


def configuration(kind: str, name: str) -> Place:
    """A MutatingWebhookConfiguration or ValidatingWebhookConfiguration."""
    return Place(kind, "admissionregistration.k8s.io/v1", f"{kind.lower()}s", name)


class Writer:
    """Named objects of one cluster. Every method raises ClusterError where the API server is away or says no."""

    def __init__(self, api: client.ApiClient, clock: Callable[[], datetime], owner: Place | None = None) -> None:
        """What is made belongs to ``owner``, where that is there, and goes with it."""
        self._api = api
        self._clock = clock
        self._owner = owner
        self._heard: tuple[datetime, float] | None = None
        """The API server's time, and ours by a clock that is never set, of its last answer."""

    def now(self) -> datetime:
        """The wall clock; the API server's, gone on since its last answer, where the two differ by more than a slow
        answer explains. It is the one that judges certificates, and ours may be set at any moment."""
        now = self._clock()
        if self._heard is None:
            return now
        said, at = self._heard
        theirs = said + timedelta(seconds=monotonic() - at)
        return theirs if abs(theirs - now) > SLOW else now

    async def get(self, place: Place) -> Json | None:
        """The object; None where there is none."""
        return await self._call("GET", place, place.path)

    async def create(self, place: Place, obj: Json) -> Json:
        """Make it, as the owner's. Raises Conflict where there is one."""
        owned = {**obj, "metadata": {**obj["metadata"], **await self._ownership()}}
        return _there(place, await self._call("POST", place, place.folder, owned))

    async def _ownership(self) -> Json:
        """Read at each making, of which there are few: an owner that went and came back has another uid, and what
        belongs to the one before is collected as garbage. Nothing is made while it cannot be read."""
        found = await self.get(self._owner) if self._owner else None
        if self._owner is None or found is None:
            return {}
        named = {"apiVersion": self._owner.api_version, "kind": self._owner.kind, "name": self._owner.name}
        return {"ownerReferences": [{**named, "uid": found["metadata"]["uid"]}]}

    async def replace(self, place: Place, obj: Json) -> Json:
        """Replace what was read. Raises Conflict where it has changed since, or is gone."""
        return _there(place, await self._call("PUT", place, place.path, obj))

    async def patch(self, place: Place, operations: list[Json]) -> Json:
        """Apply a JSON patch. Raises Conflict where one of its tests fails, or the object is gone."""
        return _there(place, await self._call("PATCH", place, place.path, operations))

    async def ensure(
        self, place: Place, change: Callable[[Json | None], Json | None], conflict: Callable[[], None]
    ) -> tuple[Json | None, bool]:
        """Bring an object to where ``change`` wants it; returns it as it then is, and whether it was us who wrote it.

        ``change`` is given what is there (None: nothing) and returns what should be, or None where all is well. It is
        asked again whenever somebody else was faster, which ``conflict`` hears of. Raises Conflict in the end.
        """
        for _ in range(ROUNDS):
            found = await self.get(place)
            wanted = change(found)
            if wanted is None:
                return found, False
            try:
                return await (self.replace(place, wanted) if found is not None else self.create(place, wanted)), True
            except Conflict:
                conflict()
        raise Conflict(f"{place} was changed by others {ROUNDS} times in a row")

    async def changes(self, place: Place) -> AsyncIterator[None]:
        """Something for each change of the object, and once at the start if it is there. Ends after a while."""
        query = [("watch", "true"), ("fieldSelector", f"metadata.name={place.name}"), ("timeoutSeconds", str(WATCH))]
        try:
            answer = await self._send("GET", place.folder, query, None, PATIENCE)
            try:
                await self._check(place, "watch", answer)
                async for line in answer.response.content:
                    if line.strip():
                        yield None
            finally:
                answer.response.close()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _away(place, error) from error

    async def _call(self, verb: str, place: Place, path: str, body: Any = None) -> Json | None:
        try:
            answer = await self._send(verb, path, [], body, TIMEOUT)
            await answer.read()
            if verb == "GET" and answer.status == 404:
                return None
            await self._check(place, verb, answer)
            found: Json = json.loads(answer.data)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _away(place, error) from error
        return found

    async def _send(
        self, verb: str, path: str, query: list[tuple[str, str]], body: Any, timeout: aiohttp.ClientTimeout
    ) -> Any:
        kind = "application/json-patch+json" if verb == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind}
        request = await self._api.param_serialize(
            verb, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer = await self._api.call_api(*request, _request_timeout=timeout)
        self._hear_time(answer.headers.get("Date", ""))
        return answer

    def _hear_time(self, date: str) -> None:
        try:
            said = parsedate_to_datetime(date)
        except (ValueError, TypeError):
            return  # a date that cannot be read tells nothing
        if said.tzinfo is not None:
            self._heard = said, monotonic()

    @staticmethod
    async def _check(place: Place, verb: str, answer: Any) -> None:
        if answer.status < 400:
            return
        text = _told(await answer.read()) or answer.reason
        said = f"the API server refuses to {_VERBS.get(verb, verb)} {place}: {answer.status} {text}"
        # 422 is a patch whose test fails; 404 here is an object that went before it could be changed.
        raced = answer.status == 409 or (answer.status, verb) in ((404, "PUT"), (404, "PATCH"), (422, "PATCH"))
        raise (Conflict if raced else ClusterError)(said, answer.status)


_VERBS = {"GET": "read", "POST": "create", "PUT": "update", "PATCH": "patch"}


def _there(place: Place, obj: Json | None) -> Json:
    if obj is None:
        raise ClusterError(f"the API server has no answer about {place}")
    return obj


def _told(body: bytes) -> str:
    """The message of a Status, which is what a refusal comes with."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _away(place: Place, error: Exception) -> ClusterError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ClusterError(f"the API server cannot be asked about {place}: {reason}")
