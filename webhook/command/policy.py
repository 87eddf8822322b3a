"""``armistice policy``: what is in force in which namespace, where it comes from, and since when."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from shared.errors import InputError
from webhook.command.inputs import objects_of, output_option
from webhook.command.output import Format, print_document, print_people, print_table
from webhook.policy import ALWAYS_EXEMPT, Rules
from webhook.printable import printable
from webhook.standing import Setting, Since, Source, Standing, standing

OURS = "app.kubernetes.io/name=armistice"
"""The label of everything that the chart installs."""

CONFIG_SUFFIX, CONFIG_KEY = "-config", "config.yaml"
"""The chart's ConfigMap is called so after the installation, and holds the config file under this key."""

DATE = 10
"""Characters of a time that are its date."""

LEVELS = ("enforce", "warn", "audit")


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The configurations by which the API server asks us."""

    mutating: tuple[str, ...] = ()
    validating: tuple[str, ...] = ()
    homes: frozenset[str] = frozenset()
    """Namespaces of the Services that they name."""
    complaint: str = ""
    """Why they could not be looked for; empty when they could."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is to show."""

    standings: tuple[Standing, ...]
    defaults: str
    """Where the cluster's defaults and exemptions come from."""
    rules: Rules = field(default_factory=Rules)
    webhooks: Webhooks | None = None
    """None where no cluster was asked."""


@click.command(
    short_help="What is in force in which namespace, and since when.",
    epilog="\b\nExamples:\n  armistice policy\n  armistice policy inference -o yaml\n"
    "  armistice policy -f webhook/examples/namespaces.yaml",
)
@click.argument("namespace", required=False)
@click.option(
    "-f",
    "--filename",
    "files",
    metavar="FILE",
    multiple=True,
    help="Namespaces in a file, a folder, or - for standard input; repeatable. No cluster is asked then.",
)
@click.option("--cluster", is_flag=True, help="The current kubeconfig's cluster; the default.")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The webhook's config file: defaults and exemptions. Else the cluster's own is looked for.",
)
@output_option("table", "json", "yaml")
def policy(namespace: str | None, files: tuple[str, ...], cluster: bool, config: Path | None, output: str) -> int:
    """Show each namespace's policy: the labels over the cluster's defaults, where each value comes from, and since
    when. With a NAMESPACE, every setting of that one. Namespaces that a
    cluster is deleting are left out.

    Exit code: 0 shown; 1 a label is mistyped, so that the strictest value counts (isolation: auto); 2 the input could
    not be read.
    """
    if files and cluster:
        raise click.UsageError("-f and --cluster each say where namespaces come from; give one", _context())
    situation = _of_files(files, namespace, config) if files else _of_cluster(namespace, config)
    form = Format(output)
    if form is not Format.TABLE:
        print_document(content(situation), form)
    else:
        _show(situation, whole=namespace is not None)
    return int(any(each.mistyped for each in situation.standings))


def _context() -> click.Context:
    return click.get_current_context()


# Reading.


BUILT_IN = "none is given, so a namespace without labels asks for nothing"


def _of_files(files: Sequence[str], namespace: str | None, config: Path | None) -> Situation:
    rules, origin = _given(config) if config else (Rules(), BUILT_IN)
    found = [(source, obj) for name in files for source, obj in objects_of(name) if _is_namespace(obj)]
    standings = []
    for source, obj in found:
        try:
            standings.append(standing(obj, rules))
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    chosen = tuple(each for each in standings if namespace in (None, each.namespace))
    if not chosen:
        which = f"Namespace {namespace}" if namespace else "Namespace"
        raise InputError(
            f"{', '.join(files)}: no {which} is there; `kubectl get namespaces -o yaml` writes such a file"
        )
    return Situation(chosen, origin, rules)


def _is_namespace(obj: Mapping[str, Any]) -> bool:
    return (obj.get("apiVersion"), obj.get("kind")) == ("v1", "Namespace")


def _stays(obj: Mapping[str, Any]) -> bool:
    """Whether a namespace still takes pods: one that is being deleted takes none, so nothing is in force there."""
    return "deletionTimestamp" not in (obj.get("metadata") or {})


def _given(config: Path) -> tuple[Rules, str]:
    from webhook.config import read_config

    return read_config(config, (ALWAYS_EXEMPT,)), str(config)


def _of_cluster(namespace: str | None, config: Path | None) -> Situation:
    from webhook.cluster.listing import NAMESPACES, connect, listed, read_one

    api = connect("-f with namespaces from a file")
    found = (
        [obj for obj in listed(api, NAMESPACES) if _stays(obj)]
        if namespace is None
        else [read_one(api, NAMESPACES, namespace)]
    )
    webhooks = _webhooks(api)
    rules, origin = _given(config) if config else _installed(api, webhooks.homes)
    return Situation(tuple(standing(obj, rules) for obj in found), origin, rules, webhooks)


def _installed(api: Any, homes: Collection[str]) -> tuple[Rules, str]:
    """The config of the installation in the cluster. Its own namespace is exempt always. Where configurations name the
    namespace of who is asked, only what lies there counts: elsewhere many may make a ConfigMap."""
    from webhook.cluster.listing import CONFIG_MAPS, listed
    from webhook.config import parse_config

    try:
        every = [obj for obj in listed(api, CONFIG_MAPS, OURS) if _is_config(obj)]
        found = [obj for obj in every if obj["metadata"]["namespace"] in homes] if homes else every
    except InputError as error:
        click.echo(f"{error}; so the cluster's defaults are not known, --config FILE gives them", err=True)
        return Rules(), "not known, they may not be read"
    if len(found) > 1:
        names = ", ".join(sorted(map(_name, found)))
        raise InputError(f"the cluster holds more than one config ({names}); choose with --config FILE")
    if not found:
        return Rules(), BUILT_IN
    source = f"ConfigMap {_name(found[0])}"
    text = found[0]["data"][CONFIG_KEY]
    return parse_config(text, source, (ALWAYS_EXEMPT, found[0]["metadata"]["namespace"])), source


def _is_config(obj: Mapping[str, Any]) -> bool:
    return obj["metadata"]["name"].endswith(CONFIG_SUFFIX) and CONFIG_KEY in (obj.get("data") or {})


def _name(obj: Mapping[str, Any]) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _webhooks(api: Any) -> Webhooks:
    from webhook.cluster.listing import MUTATING, VALIDATING, listed

    try:
        mutating, validating = (listed(api, kind, OURS) for kind in (MUTATING, VALIDATING))
        homes = {home for obj in (*mutating, *validating) for home in _homes(obj)}
        return Webhooks(_names(mutating), _names(validating), frozenset(homes))
    except InputError as error:
        return Webhooks(complaint=str(error))


def _homes(obj: Mapping[str, Any]) -> Iterator[str]:
    """The namespaces of those whom a configuration has asked."""
    for webhook in obj.get("webhooks") or ():
        service = (webhook.get("clientConfig") or {}).get("service")
        if service:
            yield service["namespace"]


def _names(found: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(obj["metadata"]["name"] for obj in found)


# Showing.


def content(situation: Situation) -> dict[str, Any]:
    """``-o json``: a stable interface."""
    webhooks = situation.webhooks
    return {
        "defaults": {"from": situation.defaults, "mode": situation.rules.mode.value},
        "webhooks": None
        if webhooks is None or webhooks.complaint
        else {"mutating": list(webhooks.mutating), "validating": list(webhooks.validating)},
        "items": [_item(each) for each in situation.standings],
    }


def _item(found: Standing) -> dict[str, Any]:
    return {
        "namespace": found.namespace,
        "exempt": _exempt(found),
        "settings": {setting.name: _told(setting) for setting in found.settings},
        "warnings": list(found.warnings),
    }


def _told(setting: Setting) -> dict[str, Any]:
    return {
        "value": setting.value,
        "from": setting.source.value,
        "since": setting.since or None,
        "since_what": setting.since_what.value if setting.since_what else None,
    }


def _exempt(found: Standing) -> bool:
    return any(setting.source is Source.EXEMPT for setting in found.settings)


def _show(situation: Situation, whole: bool) -> None:
    if whole:
        for found in situation.standings:
            print_table(("SETTING", "VALUE", "FROM", "SINCE"), [_setting_row(setting) for setting in found.settings])
    else:
        columns = ("NAMESPACE", "ENFORCE", "WARN", "AUDIT", "FROM", "SINCE", "OTHERS")
        print_table(columns, [_row(found) for found in situation.standings], elastic="OTHERS")
    print_people("")
    for found in situation.standings:
        for warning in found.warnings:
            print_people(printable(f"{found.namespace}: {warning}"))
    print_people(*_footers(situation))


def _setting_row(setting: Setting) -> list[str]:
    return [setting.name, _value(setting), setting.source.value, _since(setting)]


def _value(setting: Setting) -> str:
    return "no limit" if setting.value is None else str(setting.value)


def _since(setting: Setting | None, longest: int = 40) -> str:
    """A time, or the first characters of it; in brackets where it is only the namespace's own."""
    if setting is None or not setting.since:
        return "-"
    time = printable(setting.since[:longest])
    return f"({time})" if setting.since_what is Since.CREATION else time


def _row(found: Standing) -> list[str]:
    by_name = {setting.name: setting for setting in found.settings}
    sources = [by_name[level].source.value for level in LEVELS]
    labelled = [setting for setting in found.settings if setting.since]
    newest = max(labelled, key=lambda setting: setting.since, default=None)
    others = [s for s in found.settings if s.name not in LEVELS and s.source not in (Source.DEFAULT, Source.EXEMPT)]
    return [
        printable(found.namespace),
        *(_value(by_name[level]) for level in LEVELS),
        ", ".join(sources if len(set(sources)) > 1 else sources[:1]),
        _since(newest, DATE),
        ", ".join(f"{setting.name} {_value(setting)}" for setting in others),
    ]


def _footers(situation: Situation) -> Iterator[str]:
    if any(s.since_what is Since.CREATION for each in situation.standings for s in each.settings):
        yield "A time in brackets is the namespace's own age: nobody is said to own the label."
    yield f"defaults  {printable(situation.defaults)}"
    if situation.rules.mode.value != "enforce":
        yield f"mode      {situation.rules.mode.value}: nothing more than that is done, whatever a namespace asks"
    webhooks = situation.webhooks
    if webhooks is None:
        return
    if webhooks.complaint:
        yield f"webhooks  not known: {printable(webhooks.complaint)}"
        return
    for kind, names, lost in (
        ("mutating", webhooks.mutating, "no pod is aligned"),
        ("validating", webhooks.validating, "nothing is rejected, warned of or audited at the end"),
    ):
        yield f"webhooks  {kind}: {printable(', '.join(names)) or f'not installed, so {lost}'}"
