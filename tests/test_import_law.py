"""The import law, for every module of the project, and the law's own behaviour on small examples.

A new module or dependency usually means one more word in one of the tables below; the failing test says which.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.imports import (
    Module,
    core_law,
    order_law,
    outside_law,
    package_law,
    parse_module,
    reachable,
    read_modules,
    use_law,
)

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "shared": ("shared",),
    "webhook": ("shared", "webhook"),
    "enforcer": ("shared", "enforcer"),
}
"""Our packages, and which of them each may know. The two daemons meet in the intent annotation only."""

SHARED_ORDER = (
    "version",
    "errors",
    "value",
    "quantity",
    "cpuset",
    "documents",
    "topology",
    "sysfs",
    "noderesourcetopology",
    "catalogue",
    "pod",
    "sidecars",
    "kep753",
    "defaulting",
    "policy",
    "ed25519",
    "demand",
    "intent",
    "seal",
    "placement",
    "cores",
    "ledger",
    "units",
    "rooms",
    "misfit",
    "spanning",
    "settling",
    "allocator",
    "inventory",
)
"""The core from the ground up: a module imports only modules named before it."""

CORE_NEVER = (
    "asyncio",
    "concurrent",
    "http",
    "logging",
    "multiprocessing",
    "random",
    "secrets",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "urllib",
)
"""Standard library that means a clock, chance, a log, a thread, a process or the network."""

OUTSIDE = {
    "aiohttp": ("webhook.app", "webhook.cluster.pods", "webhook.cluster.watching", "webhook.cluster.writing"),
    "click": ("enforcer.__main__", "enforcer.command", "enforcer.settings", "webhook.command.*"),
    "cryptography": ("shared.ed25519", "shared.seal", "webhook.certs", "webhook.keys"),
    "google": ("enforcer.nri.*",),
    "jsonpatch": ("webhook.command.demo",),
    "kubernetes": ("webhook.cluster.*",),
    "msgspec": ("webhook.cluster.watching", "webhook.review"),
    "prometheus_client": ("webhook.metrics",),
    "rich": ("webhook.command.*",),
    "urllib3": ("webhook.cluster.listing",),
    "yaml": ("enforcer.command", "shared.documents", "webhook.cluster.*", "webhook.command.*"),
}
"""Packages from elsewhere, by the name one imports, and the modules that may import them; ``*`` is anything."""

ENTRY_POINTS = ("webhook.__main__", "webhook.command.*", "enforcer.__main__")
"""Modules that are started rather than imported."""

WAITING: dict[str, str] = {}
"""Modules whose user is not written yet: the name, and who that will be."""


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read_modules(ROOT, tuple(MAY_IMPORT))


def test_no_package_knows_one_it_must_not_know(modules: dict[str, Module]) -> None:
    assert package_law(modules, MAY_IMPORT) == []


def test_the_outside_world_is_imported_by_its_adapters_only(modules: dict[str, Module]) -> None:
    assert outside_law(modules, OUTSIDE, tuple(MAY_IMPORT)) == []


def test_the_core_only_decides(modules: dict[str, Module]) -> None:
    assert core_law(modules, CORE_NEVER) == []


def test_the_core_is_built_from_the_ground_up(modules: dict[str, Module]) -> None:
    assert order_law(modules, SHARED_ORDER) == []


def test_no_module_is_there_for_nobody(modules: dict[str, Module]) -> None:
    if not reachable(modules, ENTRY_POINTS):
        pytest.skip("none of the entry points is written yet")
    assert use_law(modules, ENTRY_POINTS, WAITING) == []


def some(**sources: str) -> dict[str, Module]:
    """Modules by their name with ``__`` for each dot."""
    names = {name.replace("__", "."): source for name, source in sources.items()}
    return {name: parse_module(name, source, is_package="." not in name) for name, source in names.items()}


IMPORTS = [
    ("a plain import", "import a.b", {"a.b"}),
    ("several at once", "import a, b as c", {"a", "b"}),
    ("a name from a module", "from a.b import c", {"a.b.c"}),
    ("an import inside a function", "def f():\n    import a", {"a"}),
    ("an import for the type checker", "if TYPE_CHECKING:\n    from a import B", {"a.B"}),
    ("a sibling by a relative import", "from . import ledger", {"shared.ledger"}),
    ("a name of a sibling by a relative import", "from .ledger import Ledger", {"shared.ledger.Ledger"}),
    ("a word that only looks like one", "'import a'", set()),
]


@pytest.mark.parametrize(("what", "source", "imports"), IMPORTS, ids=[row[0] for row in IMPORTS])
def test_what_counts_as_an_import(what: str, source: str, imports: set[str]) -> None:
    assert parse_module("shared.demand", source).imports == imports


def test_a_package_means_itself_by_one_dot() -> None:
    assert parse_module("shared", "from . import ledger", is_package=True).imports == {"shared.ledger"}


def test_shared_that_knows_a_daemon_is_told_to_turn_it_round() -> None:
    modules = some(shared__demand="from webhook.policy import Policy", webhook__policy="")
    assert package_law(modules, MAY_IMPORT) == [
        "shared.demand imports webhook.policy.Policy: shared may import of ours only shared. "
        "Move what both sides need down to shared."
    ]


def test_daemons_that_know_each_other_are_told_to_meet_in_shared() -> None:
    modules = some(webhook__app="import enforcer.plugin", enforcer__plugin="from webhook import app")
    assert package_law(modules, MAY_IMPORT) == [
        "webhook.app imports enforcer.plugin: webhook may import of ours only shared and webhook. "
        "Move what both sides need down to shared.",
        "enforcer.plugin imports webhook.app: enforcer may import of ours only shared and enforcer. "
        "Move what both sides need down to shared.",
    ]


def test_the_program_does_not_lean_on_its_tests() -> None:
    assert package_law(some(shared__pod="from tests.support import data"), MAY_IMPORT) == [
        "shared.pod imports tests.support.data: shared may import of ours only shared. "
        "Move what both sides need down to shared."
    ]


def test_a_second_importer_of_an_outside_thing_is_sent_to_the_first() -> None:
    modules = some(webhook__cluster="import kubernetes.client", webhook__policy="from kubernetes import client")
    assert outside_law(modules, {"kubernetes": ("webhook.cluster",)}, tuple(MAY_IMPORT)) == [
        "webhook.policy imports kubernetes, which only webhook.cluster may. Ask that module, or add yourself to the "
        "row in OUTSIDE of tests/test_import_law.py with a reason."
    ]


def test_a_new_outside_thing_needs_a_row() -> None:
    assert outside_law(some(webhook__app="import json, numpy"), {}, tuple(MAY_IMPORT)) == [
        "webhook.app imports numpy, which has no row in OUTSIDE of tests/test_import_law.py. Do without it, or add a "
        "row that names the one module to stand between it and us."
    ]


def test_a_clock_in_the_core_becomes_a_parameter() -> None:
    assert core_law(some(shared__inventory="import time", webhook__app="import time"), CORE_NEVER) == [
        "shared.inventory imports time: the core has no clock, chance, log, thread, process or network. Take the value "
        "as a parameter and let webhook or enforcer fetch it."
    ]


def test_an_import_upwards_in_the_core_is_found() -> None:
    modules = some(shared__ledger="from shared.allocator import place", shared__allocator="import shared.ledger")
    assert order_law(modules, ("ledger", "allocator")) == [
        "shared.ledger imports shared.allocator, which stands above it. Turn the import round, or move one of the two "
        "in SHARED_ORDER of tests/test_import_law.py."
    ]


def test_a_new_module_of_the_core_needs_a_place() -> None:
    assert order_law(some(shared="", shared__ledger=""), ()) == [
        "shared.ledger has no place in SHARED_ORDER of tests/test_import_law.py: name it there, after everything it "
        "imports."
    ]


def test_a_module_used_only_by_an_idle_one_is_idle_too() -> None:
    modules = some(
        webhook__main="import webhook.app",
        webhook__app="LATE = 'webhook.late'",
        webhook__late="",
        shared__old="import shared.older",
        shared__older="",
    )
    told = (
        "{} is used by no entry point. Remove it, import it where it is needed, or name it in ENTRY_POINTS or WAITING "
        "of tests/test_import_law.py."
    )
    entries = ("webhook.main",)
    assert use_law(modules, entries, {}) == [told.format("shared.old"), told.format("shared.older")]


def test_a_row_that_waits_for_nothing_is_removed() -> None:
    modules = some(enforcer__main="import shared.frames", shared__frames="")
    assert use_law(modules, ("enforcer.main",), {"shared.frames": "the enforcer"}) == [
        "shared.frames is in WAITING of tests/test_import_law.py, but does not wait any more (or is gone). "
        "Remove its row."
    ]
