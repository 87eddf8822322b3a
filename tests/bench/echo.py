"""The least that an aiohttp webhook can do: TLS, read the body, send the same bytes back.

``python -m tests.bench.echo CERT KEY`` prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

from aiohttp import web


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/json")


async def serve(cert: str, key: str) -> None:
    """Serve for ever."""
    app = web.Application(client_max_size=8 * 2**20)
    app.router.add_post("/mutate", _echo)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context, backlog=512).start()
    print(f"ready           https://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:3]))
