"""Stays connected to the runtime, whatever becomes of it.

It connects anew only when the connection is really gone: to register holds up every pod of the node while a container
is in its grace period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from enforcer.errors import ProtocolError, SetupError
from enforcer.nri.connection import DEADLINE, serve
from enforcer.nri.handlers import Handlers

SHORTEST = 0.1
"""Seconds between tries while the runtime starts: its NRI socket opens just before it takes pods, and a container that
is created until we are back is not ours."""
LONGEST = 1.0
"""Seconds between tries while there is no sign of a runtime."""


def pause_after(failure: Exception | None, last: float) -> float:
    """Seconds to wait before the next try. A socket that refuses belongs to a runtime that restarts: it is asked often.
    After a connection that worked (None) as well; else each pause is twice the last."""
    if failure is None or isinstance(failure.__cause__, ConnectionRefusedError):
        return SHORTEST
    return min(last * 2, LONGEST)


class _Link:
    """Whether we are connected, told once per change."""

    def __init__(self, told: Callable[[bool, str], None]) -> None:
        self._told = told
        self._last: tuple[bool, str] | None = None

    def up(self, runtime: str) -> None:
        self._tell(True, f"Connected to {runtime}.")

    def down(self, why: str) -> None:
        self._tell(False, why)

    def _tell(self, connected: bool, text: str) -> None:
        if self._last != (connected, text):
            self._last = connected, text
            self._told(connected, text)


async def stay_connected(
    socket: Path,
    name: str,
    index: str,
    handlers: Handlers,
    *,
    told: Callable[[bool, str], None],
    deadline: float = DEADLINE,
) -> NoReturn:
    """Serve connection after connection until cancelled.

    ``told`` learns whether we are connected (synchronised, to be exact) and a sentence for people; once per change, so
    a runtime that stays away is reported once.
    """
    link, pause = _Link(told), SHORTEST / 2
    while True:
        failure = await _one_connection(socket, name, index, handlers, deadline, link)
        link.down(str(failure) if failure else f"The runtime at {socket} ended the connection; it is tried again.")
        await asyncio.sleep(pause := pause_after(failure, pause))


async def _one_connection(
    socket: Path, name: str, index: str, handlers: Handlers, deadline: float, link: _Link
) -> SetupError | ProtocolError | None:
    try:
        await serve(socket, name, index, handlers, deadline=deadline, ready=link.up)
    except (SetupError, ProtocolError) as failure:
        return failure
    return None
