"""Who imports whom, read from the source without running it.

Each law is a function from the modules to the sentences that say where it is broken and what to do about it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

LAW_FILE = "tests/test_import_law.py"
"""Where the tables of the laws are kept; named in the sentences."""


@dataclass(frozen=True, slots=True)
class Module:
    """One source file of ours."""

    name: str
    """Dotted, as one imports it; a package's own name for its ``__init__.py``."""
    is_package: bool
    imports: frozenset[str]
    """Dotted names, absolute. ``from a.b import c`` gives ``a.b.c``, be ``c`` a module or not."""
    mentions: frozenset[str]
    """String constants. A module loaded late is named by one."""

    @property
    def package(self) -> str:
        """The top-level package that holds it."""
        return self.name.partition(".")[0]


def parse_module(name: str, source: str, *, is_package: bool = False) -> Module:
    """Read one module's imports: anywhere in the file, in functions and under TYPE_CHECKING as well."""
    nodes = list(ast.walk(ast.parse(source)))
    strings = (node.value for node in nodes if isinstance(node, ast.Constant))
    return Module(
        name=name,
        is_package=is_package,
        imports=frozenset(found for node in nodes for found in _imported_by(node, name, is_package)),
        mentions=frozenset(value for value in strings if isinstance(value, str)),
    )


def _imported_by(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        up = node.level - 1 if is_package else node.level
        above = module.split(".")[: -up or None] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def read_modules(root: Path, packages: Sequence[str]) -> dict[str, Module]:
    """Every module of the packages under a checkout, by name, sorted."""
    files = sorted(file for package in packages for file in (root / package).rglob("*.py"))
    modules = (_read(root, file) for file in files)
    return {module.name: module for module in modules}


def _read(root: Path, file: Path) -> Module:
    parts = file.relative_to(root).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return parse_module(name, file.read_text(encoding="utf-8"), is_package=is_package)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _own(imported: str, modules: Mapping[str, Module]) -> str | None:
    """The module of ours that an imported name stands for or lies in."""
    while imported and imported not in modules:
        imported = imported.rpartition(".")[0]
    return imported or None


def _outside(module: Module, own_packages: Sequence[str]) -> list[str]:
    """The top-level packages from elsewhere that a module imports; the standard library is not among them."""
    tops = {name.partition(".")[0] for name in module.imports}
    return sorted(tops - set(own_packages) - sys.stdlib_module_names)


def package_law(modules: Mapping[str, Module], may_import: Mapping[str, Sequence[str]]) -> list[str]:
    """Which of our packages may know which."""
    own = {*may_import, "tests", "e2e"}
    return [
        f"{module.name} imports {name}: {module.package} may import of ours only {' and '.join(allowed)}. "
        "Move what both sides need down to shared."
        for module in modules.values()
        for allowed in [may_import[module.package]]
        for name in sorted(module.imports)
        if name.partition(".")[0] in own - set(allowed)
    ]


def outside_law(modules: Mapping[str, Module], table: Mapping[str, Sequence[str]], own: Sequence[str]) -> list[str]:
    """One outside thing, one adapter: who may import a package that is neither ours nor the standard library's."""
    broken = []
    for module in modules.values():
        for package in _outside(module, own):
            if package not in table:
                broken.append(
                    f"{module.name} imports {package}, which has no row in OUTSIDE of {LAW_FILE}. Do without it, or "
                    "add a row that names the one module to stand between it and us."
                )
            elif not _matches(module.name, table[package]):
                broken.append(
                    f"{module.name} imports {package}, which only {', '.join(table[package])} may. Ask that module, or "
                    f"add yourself to the row in OUTSIDE of {LAW_FILE} with a reason."
                )
    return broken


def core_law(modules: Mapping[str, Module], never: Sequence[str]) -> list[str]:
    """What of the standard library the core does without: it decides, others do."""
    return [
        f"{module.name} imports {top}: the core has no clock, chance, log, thread, process or network. Take the value "
        "as a parameter and let webhook or enforcer fetch it."
        for module in modules.values()
        if module.package == "shared"
        for top in sorted({name.partition(".")[0] for name in module.imports} & set(never))
    ]


def order_law(modules: Mapping[str, Module], order: Sequence[str]) -> list[str]:
    """The core's modules stand on each other in one order: each imports only what is named before it."""
    place = {f"shared.{name}": number for number, name in enumerate(order)}
    broken = []
    for module in modules.values():
        if module.package != "shared" or module.is_package:
            continue
        if module.name not in place:
            broken.append(
                f"{module.name} has no place in SHARED_ORDER of {LAW_FILE}: name it there, after everything it imports."
            )
            continue
        used = {_own(name, modules) for name in module.imports} - {None, "shared", module.name}
        broken += [
            f"{module.name} imports {name}, which stands above it. Turn the import round, or move one of the two in "
            f"SHARED_ORDER of {LAW_FILE}."
            for name in sorted(filter(None, used))
            if name in place and place[name] > place[module.name]
        ]
    return broken


def reachable(modules: Mapping[str, Module], entry_points: Sequence[str]) -> set[str]:
    """The modules that are loaded, early or late, by one of the entry points; entry points are patterns."""
    found: set[str] = set()
    waiting = [name for name in modules if _matches(name, entry_points)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            module = modules[name]
            used = {_own(imported, modules) for imported in module.imports} | (module.mentions & modules.keys())
            waiting += filter(None, used)
    return found


def use_law(modules: Mapping[str, Module], entry_points: Sequence[str], waiting: Mapping[str, str]) -> list[str]:
    """No module is there for nobody."""
    used = reachable(modules, entry_points)
    idle = [name for name, module in modules.items() if not module.is_package and name not in used]
    return [
        f"{name} is used by no entry point. Remove it, import it where it is needed, or name it in ENTRY_POINTS or "
        f"WAITING of {LAW_FILE}."
        for name in idle
        if name not in waiting
    ] + [
        f"{name} is in WAITING of {LAW_FILE}, but does not wait any more (or is gone). Remove its row."
        for name in waiting
        if name not in idle
    ]
