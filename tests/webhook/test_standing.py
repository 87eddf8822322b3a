"""What is in force in a namespace: where each value comes from, and since when."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InputError
from shared.policy import TopologyPolicy
from webhook.policy import Mode, NamespacePolicy, Rules
from webhook.standing import Setting, Since, Source, standing

MADE, FIRST, LATER = "2026-11-01T08:00:00Z", "2026-11-20T09:00:00Z", "2026-11-24T10:00:00Z"


def namespace(owned: dict[str, str] | None = None, name: str = "shop", **labels: str) -> dict[str, Any]:
    """A namespace with labels of ours (``max_sidecar_share`` for ``max-sidecar-share``), and field managers that own
    some: label to time."""
    ours = {f"armistice.dev/{key.replace('_', '-')}": text for key, text in labels.items()}
    managed = [
        {"manager": "m", "time": time, "fieldsV1": {"f:metadata": {"f:labels": {f"f:armistice.dev/{key}": {}}}}}
        for key, time in (owned or {}).items()
    ]
    return {"metadata": {"name": name, "labels": ours, "creationTimestamp": MADE, "managedFields": managed}}


def setting(obj: dict[str, Any], name: str, rules: Rules | None = None) -> Setting:
    found = standing(obj, rules or Rules())
    return next(setting for setting in found.settings if setting.name == name)


AUDITED = Rules(NamespacePolicy(audit=TopologyPolicy.RESTRICTED, max_sidecar_share=20))
ONLY_WARNING = Rules(mode=Mode.WARN)

SETTINGS: list[tuple[str, dict[str, Any], Rules, Setting]] = [
    ("a label, since its owner's last change", namespace({"enforce": LATER}, enforce="restricted"), Rules(),
     Setting("enforce", "restricted", Source.LABEL, LATER, Since.CHANGE)),
    ("a label that nobody is said to own, since the namespace was made", namespace(enforce="restricted"), Rules(),
     Setting("enforce", "restricted", Source.LABEL, MADE, Since.CREATION)),
    ("a label that others own beside", namespace({"warn": LATER}, enforce="restricted", warn="none"), Rules(),
     Setting("enforce", "restricted", Source.LABEL, MADE, Since.CREATION)),
    ("a mistyped label counts as the strictest", namespace({"enforce": LATER}, enforce="strict"), Rules(),
     Setting("enforce", "single-numa-node", Source.MISTYPED, LATER, Since.CHANGE)),
    ("a default of the cluster", namespace(), AUDITED, Setting("audit", "restricted", Source.DEFAULT)),
    ("a default that is a number", namespace(), AUDITED, Setting("max-sidecar-share", 20, Source.DEFAULT)),
    ("a label over a default", namespace({"max-sidecar-share": FIRST}, max_sidecar_share="5"), AUDITED,
     Setting("max-sidecar-share", 5, Source.LABEL, FIRST, Since.CHANGE)),
    ("warn follows enforce", namespace(enforce="restricted"), Rules(), Setting("warn", "restricted", Source.ENFORCE)),
    ("unless a label says it", namespace(enforce="restricted", warn="none"), Rules(),
     Setting("warn", "none", Source.LABEL, MADE, Since.CREATION)),
    ("where a process may only warn nothing is enforced", namespace(enforce="restricted"), ONLY_WARNING,
     Setting("enforce", "none", Source.MODE)),
    ("an exempt namespace asks for nothing", namespace(name="kube-system", enforce="restricted"), Rules(),
     Setting("enforce", "none", Source.EXEMPT)),
    ("without any label", namespace(), Rules(), Setting("smt", "full-cores", Source.DEFAULT)),
]  # fmt: skip


@pytest.mark.parametrize(("what", "obj", "rules", "found"), SETTINGS, ids=[row[0] for row in SETTINGS])
def test_a_setting_with_its_source_and_its_age(what: str, obj: dict[str, Any], rules: Rules, found: Setting) -> None:
    assert setting(obj, found.name, rules) == found


def test_of_several_owners_the_one_who_was_quiet_longest_tells_more() -> None:
    obj = namespace({"enforce": LATER}, enforce="restricted")
    obj["metadata"]["managedFields"] += namespace({"enforce": FIRST})["metadata"]["managedFields"]
    assert setting(obj, "enforce").since == FIRST


def test_managed_fields_of_any_shape_are_passed_over() -> None:
    obj = namespace({"enforce": FIRST}, enforce="restricted")
    obj["metadata"]["managedFields"] += [{}, {"fieldsV1": None, "time": "x"}, {"fieldsV1": {"f:metadata": 3}}]
    assert setting(obj, "enforce").since == FIRST
    obj["metadata"] |= {"managedFields": 5, "labels": {**obj["metadata"]["labels"], 7: 7}}
    assert setting(obj, "enforce").value == "restricted"


def test_what_has_no_effect_is_said() -> None:
    found = standing(namespace(enforc="restricted", warn="x"), Rules())
    assert found.mistyped
    assert found.warnings == (
        'namespace label armistice.dev/warn: "x" is not one of none, best-effort, restricted, single-numa-node; until '
        "it is put right single-numa-node counts",
        "namespace label armistice.dev/enforc does not exist and has no effect; did you mean armistice.dev/enforce?",
    )
    exempt = standing(namespace(name="kube-system", enforce="restricted"), Rules())
    assert (exempt.warnings, exempt.mistyped) == (("it is exempt; its armistice.dev/ labels have no effect",), False)


@pytest.mark.parametrize("obj", [{}, {"metadata": None}, {"metadata": {"name": ""}}])
def test_what_is_no_namespace(obj: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"a Namespace has no metadata\.name"):
        standing(obj, Rules())
