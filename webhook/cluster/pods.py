"""The pods of one namespace, read when its labels become stricter: the only question asked while a review waits."""

from __future__ import annotations

import asyncio
from time import monotonic

import aiohttp
from kubernetes.aio import client

from shared.errors import InputError
from webhook.review import PodObject, pod_page
from webhook.survey import Roll

PAGE = 500
"""Pods asked for at a time; reading them takes some 10 ms."""

MOST = 3000
"""Pods that are read, as in Pod Security Admission."""


async def read_pods(api: client.ApiClient, namespace: str, until: float) -> Roll:
    """The pods of a namespace; the first of them where they are many, the time (``time.monotonic``) is up, or the API
    server fails on the way. Raises nothing: why there are none is said."""
    pods: list[PodObject] = []
    read = remaining = 0
    token = ""
    try:
        async with asyncio.timeout(max(0.0, until - monotonic())):
            while True:
                page = pod_page(await _asked(api, namespace, token))
                pods += page.pods
                read, remaining, token = read + page.read, page.remaining, page.token
                if not token or read >= MOST:
                    break
    except (InputError, aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        if not read:
            late = isinstance(error, TimeoutError)
            return Roll(complaint="the API server did not list them in time" if late else _told(error))
    return Roll(tuple(pods), read, read + max(remaining, bool(token)))


def _told(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


async def _asked(api: client.ApiClient, namespace: str, token: str) -> bytes:
    """One page as it comes. Raises InputError for a refusal."""
    query = [("limit", str(PAGE)), *([("continue", token)] if token else [])]
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    method, url, headers, _, _ = await api.param_serialize(
        "GET", "/api/v1/namespaces/{namespace}/pods", path_params={"namespace": namespace}, query_params=query,
        header_params=headers, auth_settings=["BearerToken"],
    )  # fmt: skip
    answer = await api.call_api(method, url, headers)
    response: aiohttp.ClientResponse = answer.response
    try:
        if response.status != 200:
            raise InputError(f"the API server refuses to list them: {response.status} {response.reason}")
        return await response.read()
    finally:
        response.close()
