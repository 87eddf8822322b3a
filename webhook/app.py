"""The webhook on the network: aiohttp is known here only.

1. A request that cannot be a review is refused by its headers alone; so is one too many.
2. Its body is awaited, with an end to the patience.
3. It is parsed, decided and answered in one go: no other request can come in between, and none is waited for.

Whatever a caller sends it gets an AdmissionReview or a 400 with a sentence; what goes wrong in here is answered as the
namespace's policy has it, logged, and counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from time import monotonic

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from webhook.admission import Court, Decision, Phase, decide, failed
from webhook.certs import CertReloader, Reload, utc_now
from webhook.metrics import CONTENT_TYPE, Metrics, Refused
from webhook.review import Request, ReviewError, parse, reply
from webhook.settings import Settings

LOG = logging.getLogger("armistice.webhook")

JSON = "application/json"

MARGIN = 0.9
"""Part of the caller's timeout that is used: the answer has to get back, too."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Webhook:
    """One serving process. It keeps no state but what it is waiting for."""

    def __init__(
        self,
        settings: Settings,
        court: Callable[[], Court],
        certificate: CertReloader,
        unready: Callable[[], str] = lambda: "",
    ) -> None:
        """``court`` is asked for each review, ``unready`` for a reason not to be asked (empty when there is none)."""
        self._settings = settings
        self._court = court
        self._certificate = certificate
        self._unready = unready
        self._metrics = Metrics()
        self._in_flight = 0
        self._waiting_bytes = 0
        self._draining = False

    def routes(self) -> web.Application:
        """What is served."""
        app = web.Application(client_max_size=self._settings.longest_body)
        app.router.add_post("/mutate", self._reviewing(Phase.MUTATE))
        app.router.add_post("/validate", self._reviewing(Phase.VALIDATE))
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        return app

    def drain(self) -> None:
        """From now on not ready, and every answer closes its connection."""
        self._draining = True

    def check_certificate(self) -> None:
        """Follow the certificate's files; to be called now and then."""
        result = self._certificate.check(utc_now())
        if result is Reload.UNCHANGED:
            return
        self._metrics.reloaded(result)
        if result is Reload.LOADED:
            LOG.info("certificate loaded not_after=%s", self._certificate.not_after.isoformat())
        else:
            LOG.error("certificate refused, the one before stays in use: %s", self._certificate.complaint)

    # Reviews.

    def _reviewing(self, phase: Phase) -> Handler:
        async def review(http: web.Request) -> web.Response:
            return await self._review(http, phase)

        return review

    async def _review(self, http: web.Request, phase: Phase) -> web.Response:
        began = monotonic()
        complaint = self._impossible(http)
        if complaint:
            return self._bad(complaint, close=True)
        expected = http.content_length or self._settings.longest_body
        if self._busy(expected):
            self._metrics.refused(Refused.BUSY)
            return _sentence(503, "too many requests are being received; try again", close=True)
        self._in_flight += 1
        self._waiting_bytes += expected
        try:
            body = await self._body(http)
        except ReviewError as error:
            return self._bad(str(error), close=True)
        finally:
            self._in_flight -= 1
            self._waiting_bytes -= expected
        try:
            request = parse(body)
        except ReviewError as error:
            return self._bad(str(error), close=False)
        end = began + min(self._settings.longest_decision, allowance(http.rel_url.raw_query_string))
        content = self._answered(request, phase, began, end)
        response = web.Response(body=content, content_type=JSON)
        if self._draining:
            response.force_close()
        return response

    def _impossible(self, http: web.Request) -> str:
        """Why the headers alone rule a review out; empty when they do not."""
        given = http.headers.get("Content-Type", "")
        if given != JSON and given.partition(";")[0].strip().lower() != JSON:
            return f"the Content-Type is {json.dumps(given[:100])}; expected {JSON}"
        if "Content-Encoding" in http.headers:
            return "the body has a Content-Encoding; send it as it is"
        if (http.content_length or 0) > self._settings.longest_body:
            return self._too_long()
        return ""

    def _too_long(self) -> str:
        return f"the body is longer than the {self._settings.longest_body} bytes that are read"

    def _busy(self, expected: int) -> bool:
        """Whether one more body to wait for is one too many. The first may always come in."""
        settings = self._settings
        if self._in_flight >= settings.most_in_flight:
            return True
        return self._in_flight > 0 and self._waiting_bytes + expected > settings.most_waiting_bytes

    async def _body(self, http: web.Request) -> bytes:
        """The body. Raises ReviewError where it does not come, or not in one piece."""
        try:
            if http.content.is_eof():
                return await http.read()
            async with asyncio.timeout(self._settings.longest_wait):
                return await http.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise ReviewError(self._too_long()) from error
        except TimeoutError as error:
            raise ReviewError(f"the body did not arrive within {self._settings.longest_wait:g} seconds") from error
        except (web.RequestPayloadError, HttpProcessingError) as error:
            raise ReviewError("the body broke off, or is not what its headers say") from error

    def _answered(self, request: Request, phase: Phase, began: float, end: float) -> bytes:
        """The reply's bytes, with everything that is to be counted and logged."""
        try:
            decision = self._decided(request, phase, end)
            content = reply(request.uid, decision.answer)
        except Exception:  # a fault of ours must not become a 500, which the API server could not tell from an outage
            LOG.exception("fault uid=%s phase=%s", json.dumps(request.uid), phase.value)
            self._metrics.faulted()
            decision = failed(request, self._court(), "Armistice met a fault of its own, which it has logged")
            content = reply(request.uid, decision.answer)
        seconds = monotonic() - began
        self._metrics.decided(phase, decision, seconds)
        if not decision.answer.allowed or LOG.isEnabledFor(logging.DEBUG):
            _log(request, phase, decision, seconds)
        return content

    def _decided(self, request: Request, phase: Phase, end: float) -> Decision:
        if monotonic() >= end:
            return failed(request, self._court(), "its review arrived too late to be answered in time")
        return decide(request, phase, self._court(), lambda: monotonic() >= end)

    def _bad(self, complaint: str, close: bool) -> web.Response:
        self._metrics.refused(Refused.UNREADABLE)
        LOG.debug("refused: %s", complaint)
        return _sentence(400, complaint, close or self._draining)

    # Everything else.

    async def _healthz(self, _: web.Request) -> web.Response:
        return _sentence(200, "ok", self._draining)

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._reason_unready()
        return _sentence(503, f"not ready: {reason}", self._draining) if reason else _sentence(200, "ready", False)

    def _reason_unready(self) -> str:
        if self._draining:
            return "it is going away"
        if self._certificate.not_after <= utc_now():
            return "its certificate has ended"
        return self._unready()

    async def _metrics_text(self, _: web.Request) -> web.Response:
        text = self._metrics.text(self._certificate.not_after.timestamp(), self._in_flight)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})


def _sentence(status: int, text: str, close: bool) -> web.Response:
    response = web.Response(status=status, text=f"{text}\n")
    if close:
        response.force_close()
    return response


def _log(request: Request, phase: Phase, decision: Decision, seconds: float) -> None:
    """One decision, one line. Text of others is quoted, so that it can be no line of its own."""
    LOG.log(
        logging.DEBUG if decision.answer.allowed else logging.INFO,
        "%s phase=%s kind=%s namespace=%s name=%s verdict=%s uid=%s ms=%.1f",
        "allowed" if decision.answer.allowed else "denied",
        phase.value,
        decision.kind.value,
        json.dumps(request.namespace or ""),
        json.dumps(request.name or ""),
        decision.verdict.value if decision.verdict else "none",
        json.dumps(request.uid),
        1000 * seconds,
    )


_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIMEOUT = re.compile(r"(?:^|&)timeout=((?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|ms|s|m|h))+)(?:&|$)", re.ASCII)
_PART = re.compile(r"([0-9.]+)(ns|us|ms|s|m|h)")


@lru_cache(maxsize=64)
def allowance(query: str) -> float:
    """Seconds that the caller's ``timeout=10s`` leaves us; boundless when it says none, or none that can be read."""
    found = _TIMEOUT.search(query)
    if found is None:
        return float("inf")
    return MARGIN * sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(found.group(1)))


@asynccontextmanager
async def serving(webhook: Webhook, settings: Settings, certificate: CertReloader) -> AsyncIterator[int]:
    """Listen; the port is what one gets. In the end open requests are answered before the connections are closed."""
    runner = web.AppRunner(
        webhook.routes(),
        access_log=None,
        handle_signals=False,
        keepalive_timeout=settings.keep_alive,
        auto_decompress=False,  # nobody's small body becomes a large one in here
        lingering_time=2.0,
        shutdown_timeout=settings.longest_decision + settings.longest_wait,
    )
    async with AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=certificate.context, backlog=512)
        await site.start()
        port: int = runner.addresses[0][1]
        yield port


async def serve(
    webhook: Webhook,
    settings: Settings,
    certificate: CertReloader,
    ready: Callable[[int], None],
    leave: asyncio.Event,
    hurry: asyncio.Event,
    chores: tuple[Callable[[], None], ...] = (),
) -> None:
    """Serve until ``leave`` is set; then go on for the time of draining, or until ``hurry`` is set.

    ``ready`` is told the port. Chores are done before each look at the certificate's files.
    """
    async with serving(webhook, settings, certificate) as port, asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(webhook, settings.certificate_poll, chores), name="certificate")
        ready(port)
        await leave.wait()
        webhook.drain()
        LOG.info("draining seconds=%g", settings.drain)
        try:
            async with asyncio.timeout(settings.drain):
                await hurry.wait()
        except TimeoutError:
            pass
        watch.cancel()


async def _watch(webhook: Webhook, every: float, chores: tuple[Callable[[], None], ...]) -> None:
    """Each look takes a millisecond, and only where something changed."""
    while True:
        await asyncio.sleep(every)
        for chore in (*chores, webhook.check_certificate):
            try:
                chore()
            except OSError as error:  # a full or vanished disk: what is in memory goes on being served
                LOG.error("files cannot be written or read: %s", error)
