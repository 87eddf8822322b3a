"""The API server: the only module that speaks to it.

One request, one connection, in one worker thread: there are a few requests a minute at most, and a connection that is
kept open costs memory and has to be watched. Nothing of it is ever waited for by a container that starts.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from enforcer.access import Access
from enforcer.errors import ClusterError

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from ssl import SSLContext

TIMEOUT = 5.0
"""Seconds for one request. What is asked here takes an API server milliseconds."""

LONGEST_ANSWER = 4 << 20
"""Bytes. Objects have at most 3 MiB; none that is asked for here has a tenth of that."""

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
"""Server-side apply; JSON is YAML."""


class ApiServer:
    """One API server."""

    def __init__(self, access: Access, timeout: float = TIMEOUT) -> None:
        self._access = access
        self._timeout = timeout
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="api-server")

    async def get(self, path: str) -> Any:
        """The object there. Raises ClusterError, as all of these do."""
        return await self._ask("GET", path)

    async def post(self, path: str, body: object) -> Any:
        """Create an object."""
        return await self._ask("POST", path, body)

    async def apply(self, path: str, body: object, owner: str) -> Any:
        """Server-side apply: create or change it, as the owner of what the body says.

        Where another owns a part of it, the API server answers 409 and names it.
        """
        return await self._ask("PATCH", f"{path}?fieldManager={owner}", body, APPLY)

    def close(self) -> None:
        """Ask nothing more. A request that is under way ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, method: str, path: str, body: object = None, kind: str = JSON) -> Any:
        call = _Call(self._access, method, path, None if body is None else json.dumps(body).encode(), kind)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call.made, self._timeout)


class _Call:
    """One request."""

    def __init__(self, access: Access, method: str, path: str, body: bytes | None, kind: str) -> None:
        self._access = access
        self._method = method
        self._path = access.prefix + path
        self._body = body
        self._kind = kind
        self._what = f"{method} {path.partition('?')[0]}"

    def made(self, timeout: float) -> Any:
        """The answer's JSON. Imports what it needs at the first call: without a cluster it costs no memory."""
        from http.client import HTTPException, HTTPSConnection

        until = monotonic() + timeout
        try:
            context = _context(self._access)
            connection = HTTPSConnection(self._access.host, self._access.port, timeout=timeout, context=context)
            try:
                connection.request(self._method, self._path, self._body, self._headers())
                response = connection.getresponse()
                return self._read(response, _body(response, until))
            finally:
                connection.close()
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ClusterError(f"the API server {self._access.server} cannot be asked: {reason}") from error

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": JSON, "User-Agent": "armistice-enforcer", "Connection": "close"}
        if self._body is not None:
            headers["Content-Type"] = self._kind
        token = self._access.token
        if isinstance(token, Path):
            token = token.read_text(encoding="ascii", errors="replace").strip()
        return {**headers, "Authorization": f"Bearer {token}"} if token else headers

    def _read(self, response: HTTPResponse, content: bytes) -> Any:
        server = f"the API server {self._access.server}"
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            if 200 <= response.status < 300:
                raise ClusterError(f"{server} answered {self._what} with something that is no JSON") from error
            found = None
        if 200 <= response.status < 300:
            return found
        told = found.get("message") if isinstance(found, dict) else None
        why = f": {' '.join(str(told).split())[:500]}" if told else ""
        raise ClusterError(f"{server} refuses {self._what}: {response.status} {response.reason}{why}", response.status)


def _body(response: HTTPResponse, until: float) -> bytes:
    """All of it, within the time and the length that are allowed."""
    content = bytearray()
    while chunk := response.read1(65_536):
        content += chunk
        if len(content) > LONGEST_ANSWER:
            raise OSError(f"its answer is longer than {LONGEST_ANSWER} bytes")
        if monotonic() > until:
            raise TimeoutError("its answer took too long")
    return bytes(content)


def _context(access: Access) -> SSLContext:
    """What a TLS handshake needs, made anew for each: authorities and certificates are replaced while we run."""
    import ssl

    authority = access.authority
    context = ssl.create_default_context(
        cafile=str(authority) if isinstance(authority, Path) else None,
        cadata=authority.decode("ascii", "replace") if isinstance(authority, bytes) else None,
    )
    # Python 3.13 began to ask of authorities what kubectl does not, and what those of older clusters lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if access.certificate is not None:
        _load(context, access.certificate, access.key or access.certificate)
    return context


def _load(context: SSLContext, certificate: Path | bytes, key: Path | bytes) -> None:
    """OpenSSL reads certificates from files only: what is in memory goes through one that only we may read."""
    import tempfile  # with all it imports half a MiB, and only kubeconfigs come here

    with tempfile.NamedTemporaryFile(prefix="armistice-", suffix=".pem") as file:
        for pem in (key, certificate):
            file.write((pem if isinstance(pem, bytes) else pem.read_bytes()) + b"\n")
        file.flush()
        context.load_cert_chain(file.name)
