"""The webhook on the network: aiohttp is known here only.

1. A request that cannot be a review is refused by its headers alone; so is one too many.
2. Its body is awaited, with an end to the patience.
3. It is parsed, decided and answered in one go: no other request can come in between, and none is waited for.

Whatever a caller sends it gets an AdmissionReview or a 400 with a sentence; what goes wrong in here is answered as the
namespace's policy has it, logged, and counted.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from time import monotonic
from types import MappingProxyType
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from shared.errors import InputError
from webhook.admission import Court, Decision, Phase, decide, failed, stranger
from webhook.certs import Certificate, Reload, utc_now
from webhook.metrics import CONTENT_TYPE, ClusterMetrics, KeeperMetrics, Metrics, Refused
from webhook.review import Request, ReviewError, parse, reply
from webhook.settings import Settings
from webhook.survey import Roll, Survey, Tightening, tightening

LOG = logging.getLogger("armistice.webhook")

_HTTP_LOG = logging.getLogger("armistice.http")
# Broken HTTP is the caller's fault, answered with a 400, and no reason to fill the log with tracebacks.
_HTTP_LOG.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

JSON = "application/json"

MARGIN = 0.9
"""Part of the caller's timeout that is used: the answer has to get back, too."""

ENFORCING = "/validate/switch-off-by/"
"""The API server asks below this about pods of namespaces that enforce only; what follows is for whoever reads it in an
error when nobody answers."""

MOST_STRANGERS = 64
"""Reviews that wait so at once; others are answered as they are."""

LONGEST_SURVEY = 1.0
"""Seconds that a namespace's existing pods are looked at, or half of what the caller leaves, whichever is less."""

MOST_SURVEYS = 4
"""At once; each may hold some thousand pods."""

IN_A_ROW = 16
"""Pods of a survey that are judged before other reviews have their turn."""

PodsOf = Callable[[str, float], Awaitable[Roll]]
"""Reads the pods of a namespace, until a time of the monotonic clock."""

Handler = Callable[[web.BaseRequest], Awaitable[web.Response]]


Companion = Callable[[], Awaitable[None]]
"""What runs beside the serving."""


class Call(NamedTuple):
    """Which call of the API server a path is for."""

    phase: Phase
    closed: bool = False
    """Whether it is only made for namespaces that enforce."""


class Webhook:
    """One serving process. It keeps no state but what it is waiting for."""

    def __init__(
        self,
        settings: Settings,
        court: Callable[[], Court],
        certificate: Certificate,
        unready: Callable[[], str] = lambda: "",
        collectors: Iterable[ClusterMetrics | KeeperMetrics] = (),
        pods_of: PodsOf | None = None,
        unable: Callable[[], str] = lambda: "",
    ) -> None:
        """``court`` is asked for each review, ``unready`` for a reason not to be asked (empty when there is none).

        ``collectors`` are metrics beside our own; ``pods_of`` is None where there is no cluster to ask; ``unable`` says
        why no review can be answered even if asked for.
        """
        self._settings = settings
        self._court = court
        self._certificate = certificate
        self._unready = unready
        self._unable = unable
        self._metrics = Metrics(collectors)
        self._in_flight = 0
        self._waiting_bytes = 0
        self._draining = False
        self._strangers = 0
        self._pods_of = pods_of
        self._surveys = 0
        self._handlers: dict[tuple[str, str], Handler] = {
            ("POST", "/mutate"): self._reviewing(Phase.MUTATE),
            ("POST", "/validate"): self._reviewing(Phase.VALIDATE),
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics_text,
        }
        self._below: dict[str, Handler] = {
            ENFORCING: self._reviewing(Phase.VALIDATE, closed=True),
            "/validate/": self._reviewing(Phase.VALIDATE),
            "/mutate/": self._reviewing(Phase.MUTATE),
        }

    async def serve(self, http: web.BaseRequest) -> web.Response:
        """Answer one HTTP request."""
        handler = self._handlers.get((http.method, http.path)) or self._handler_below(http)
        response = await handler(http) if handler else self._unknown(http)
        if self._draining:
            response.force_close()
        return response

    def _handler_below(self, http: web.BaseRequest) -> Handler | None:
        """Paths that say more than which call it is."""
        if http.method != "POST":
            return None
        return next((handler for lead, handler in self._below.items() if http.path.startswith(lead)), None)

    def _unknown(self, http: web.BaseRequest) -> web.Response:
        methods = [method for method, path in self._handlers if path == http.path]
        if methods:
            return _sentence(405, f"{http.path} is for {methods[0]}", close=True)
        served = ", ".join(f"{method} {path}" for method, path in self._handlers)
        return _sentence(404, f"nothing is served here; there is {served}", close=True)

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

    def _reviewing(self, phase: Phase, closed: bool = False) -> Handler:
        call = Call(phase, closed)

        async def review(http: web.BaseRequest) -> web.Response:
            return await self._review(http, call)

        return review

    async def _review(self, http: web.BaseRequest, call: Call) -> web.Response:
        began = monotonic()
        complaint = self._impossible(http)
        if complaint:
            return self._bad(complaint, close=True)
        if http.content.is_eof():
            return await self._reviewed(http, call, began, http.content.read_nowait())
        return await self._review_later(http, call, began)

    async def _review_later(self, http: web.BaseRequest, call: Call, began: float) -> web.Response:
        """Where the body did not come along with the headers."""
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
        return await self._reviewed(http, call, began, body)

    async def _reviewed(self, http: web.BaseRequest, call: Call, began: float, body: bytes) -> web.Response:
        """From a body to its answer, without a pause but for a namespace that is not known yet."""
        try:
            request = parse(body)
        except ReviewError as error:
            return self._bad(str(error), close=False)
        if reason := self._unable():  # the API server goes by its failurePolicy then
            self._metrics.refused(Refused.UNABLE)
            return _sentence(503, f"no review is answered yet: {reason}")
        end = began + allowance(http.rel_url.raw_query_string)
        if stranger(request, self._court()):
            await self._introduced(request, min(end, began + self._settings.longest_introduction))
        change = tightening(request, call.phase, self._court()) if self._pods_of else None
        existing = await self._existing(change, end) if change else ()
        return web.Response(body=self._answered(request, call, began, end, existing), content_type=JSON)

    async def _introduced(self, request: Request, end: float) -> None:
        """Wait until the namespace is known. The watch brings it; nobody is asked, so nobody can be made to ask."""
        if self._strangers >= MOST_STRANGERS:
            return
        self._strangers += 1
        try:
            while monotonic() < end and stranger(request, self._court()):
                await asyncio.sleep(0.02)
        finally:
            self._strangers -= 1

    async def _existing(self, change: Tightening, end: float) -> tuple[str, ...]:
        """What there is to say about the pods of a namespace that becomes stricter. Other reviews come in between."""
        if self._pods_of is None or self._surveys >= MOST_SURVEYS:
            return (f"namespace {change.namespace}: its pods were not looked at, too many others are",)
        began = monotonic()
        until = min(began + LONGEST_SURVEY, (began + end) / 2)
        self._surveys += 1
        try:
            survey = Survey(change, self._court(), await self._pods_of(change.namespace, until))
            for number, _ in enumerate(survey.steps(), start=1):
                if monotonic() >= until:
                    break
                if number % IN_A_ROW == 0:
                    await asyncio.sleep(0)
            return survey.warnings()
        except Exception:  # a namespace's labels can always be changed
            LOG.exception("fault while looking at existing pods namespace=%s", json.dumps(change.namespace))
            self._metrics.faulted()
            return (f"namespace {change.namespace}: its pods were not looked at, Armistice met a fault of its own",)
        finally:
            self._surveys -= 1

    def _impossible(self, http: web.BaseRequest) -> str:
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

    async def _body(self, http: web.BaseRequest) -> bytes:
        """The body. Raises ReviewError where it does not come, or not in one piece."""
        try:
            async with asyncio.timeout(self._settings.longest_wait):
                return await http.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise ReviewError(self._too_long()) from error
        except TimeoutError as error:
            raise ReviewError(f"the body did not arrive within {self._settings.longest_wait:g} seconds") from error
        except (web.RequestPayloadError, HttpProcessingError) as error:
            raise ReviewError("the body broke off, or is not what its headers say") from error

    def _answered(
        self, request: Request, call: Call, began: float, end: float, existing: tuple[str, ...] = ()
    ) -> bytes:
        """The reply's bytes, with everything that is to be counted and logged."""
        phase = call.phase
        try:
            decision = self._decided(request, call, end, existing)
            content = reply(request.uid, decision.answer)
        except Exception:  # a fault of ours must not become a 500, which the API server could not tell from an outage
            LOG.exception("fault uid=%s phase=%s", json.dumps(request.uid), phase.value)
            self._metrics.faulted()
            decision = failed(
                request, self._court(), "Armistice met a fault of its own, which it has logged", call.closed
            )
            content = reply(request.uid, decision.answer)
        seconds = monotonic() - began
        self._metrics.decided(phase, decision, seconds)
        if not decision.answer.allowed or LOG.isEnabledFor(logging.DEBUG):
            _log(request, phase, decision, seconds)
        return content

    def _decided(self, request: Request, call: Call, end: float, existing: tuple[str, ...]) -> Decision:
        now = monotonic()
        if now >= end:
            return failed(request, self._court(), "its review arrived too late to be answered in time", call.closed)
        enough = min(end, now + self._settings.longest_decision)
        return decide(request, call.phase, self._court(), lambda: monotonic() >= enough, call.closed, existing)

    def _bad(self, complaint: str, close: bool) -> web.Response:
        """``close`` where the body was not read to its end."""
        self._metrics.refused(Refused.UNREADABLE)
        LOG.debug("refused: %s", complaint)
        return _sentence(400, complaint, close)

    # Everything else.

    async def _healthz(self, _: web.BaseRequest) -> web.Response:
        return _sentence(200, "ok")

    async def _readyz(self, _: web.BaseRequest) -> web.Response:
        reason = self._reason_unready()
        return _sentence(503, f"not ready: {reason}") if reason else _sentence(200, "ready")

    def _reason_unready(self) -> str:
        if self._draining:
            return "it is going away"
        if self._certificate.ended(utc_now()):
            return "its certificate has ended"
        return self._unready()

    async def _metrics_text(self, _: web.BaseRequest) -> web.Response:
        text = self._metrics.text(self._certificate.not_after.timestamp(), self._in_flight, len(asyncio.all_tasks()))
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})


def _sentence(status: int, text: str, close: bool = False) -> web.Response:
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
async def serving(webhook: Webhook, settings: Settings, certificate: Certificate) -> AsyncIterator[int]:
    """Listen; the port is what one gets. In the end open requests are answered before the connections are closed."""
    loop = asyncio.get_running_loop()

    def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=settings.longest_body)

    # Neither application nor router: five paths do not need them, and they take a tenth of a review's time.
    server = web.Server(
        webhook.serve,
        request_factory=make_request,
        logger=_HTTP_LOG,
        access_log=None,
        keepalive_timeout=settings.keep_alive,
        auto_decompress=False,  # nobody's small body becomes a large one in here
        lingering_time=2.0,
    )
    runner = web.ServerRunner(
        server, handle_signals=False, shutdown_timeout=settings.longest_decision + settings.longest_wait
    )
    async with AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=certificate.context, backlog=512)
        try:
            await site.start()
        except OSError as error:
            raise InputError(_unheard(settings, error)) from error
        port: int = runner.addresses[0][1]
        yield port


def _unheard(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {settings.port} of {settings.host} is taken; give another one with --port"
    return f"nobody can listen on port {settings.port} of {settings.host}: {error.strerror or error}"


async def serve(
    webhook: Webhook,
    settings: Settings,
    certificate: Certificate,
    ready: Callable[[int], None],
    leave: asyncio.Event,
    hurry: asyncio.Event,
    chores: tuple[Callable[[], None], ...] = (),
    companions: Mapping[str, Companion] = MappingProxyType({}),
) -> None:
    """Serve until ``leave`` is set; then go on for the time of draining, or until ``hurry`` is set.

    ``ready`` is told the port. Chores are done before each look at the certificate's files. Companions, by the names of
    their tasks, run for as long as anything is served; one that ends early takes the process with it.
    """
    async with serving(webhook, settings, certificate) as port, asyncio.TaskGroup() as group:
        tasks = [group.create_task(_watch(webhook, settings.certificate_poll, chores), name="certificate")]
        tasks += [group.create_task(_lasting(name, run), name=name) for name, run in companions.items()]
        ready(port)
        await leave.wait()
        webhook.drain()
        LOG.info("draining seconds=%g", settings.drain)
        try:
            async with asyncio.timeout(settings.drain):
                await hurry.wait()
        except TimeoutError:
            pass
        for task in tasks:
            task.cancel()


async def _lasting(name: str, run: Companion) -> None:
    await run()
    raise RuntimeError(f"the task {name} ended, which it never should")


async def _watch(webhook: Webhook, every: float, chores: tuple[Callable[[], None], ...]) -> None:
    """Each look takes a millisecond, and only where something changed."""
    while True:
        await asyncio.sleep(every)
        for chore in (*chores, webhook.check_certificate):
            try:
                chore()
            except OSError as error:  # a full or vanished disk: what is in memory goes on being served
                LOG.error("files cannot be written or read: %s", error)
