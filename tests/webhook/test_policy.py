"""Namespace labels, in the manner of Pod Security Admission."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.policy import Isolation, Placing, Scope, Smt, TopologyPolicy
from webhook.policy import (
    EXEMPT,
    MOST_UNKNOWN,
    Assigned,
    Mode,
    NamespacePolicy,
    Uniform,
    from_labels,
    strangers,
)

NONE, BEST, RESTRICTED, SINGLE = TopologyPolicy
NOTHING = NamespacePolicy()

READ = [
    ("no labels, the defaults", {}, NOTHING),
    ("enforce, and warn follows it up", {"enforce": "restricted"}, NamespacePolicy(RESTRICTED, RESTRICTED)),
    (
        "warn that is set does not follow",
        {"enforce": "restricted", "warn": "none"},
        NamespacePolicy(RESTRICTED, NONE),
    ),
    ("warn alone", {"warn": "single-numa-node"}, NamespacePolicy(warn=SINGLE)),
    ("audit alone", {"audit": "best-effort"}, NamespacePolicy(audit=BEST)),
    ("a share", {"max-sidecar-share": "30"}, NamespacePolicy(max_sidecar_share=30)),
    ("the smallest share", {"max-sidecar-share": "1"}, NamespacePolicy(max_sidecar_share=1)),
    ("the largest share", {"max-sidecar-share": "100"}, NamespacePolicy(max_sidecar_share=100)),
    (
        "scope, isolation and smt",
        {"scope": "container", "isolation": "partition", "smt": "share"},
        NamespacePolicy(scope=Scope.CONTAINER, isolation=Isolation.PARTITION, smt=Smt.SHARE),
    ),
    ("labels of others are passed over", {"../team": "a"}, NOTHING),
]


def labelled(labels: dict[str, str]) -> dict[str, str]:
    return {f"armistice.dev/{key}" if not key.startswith("..") else key[3:]: value for key, value in labels.items()}


@pytest.mark.parametrize(("what", "labels", "policy"), READ, ids=[row[0] for row in READ])
def test_labels_become_a_policy(what: str, labels: dict[str, str], policy: NamespacePolicy) -> None:
    assert from_labels(labelled(labels), NOTHING) == (policy, ())


TYPOS = [
    (
        "enforce counts as the strictest level, and warn with it",
        "enforce",
        "single-numa",
        NamespacePolicy(SINGLE, SINGLE),
        "one of none, best-effort, restricted, single-numa-node; until it is put right single-numa-node counts",
    ),
    (
        "warn too",
        "warn",
        "yes",
        NamespacePolicy(warn=SINGLE),
        "one of none, best-effort, restricted, single-numa-node; until it is put right single-numa-node counts",
    ),
    (
        "audit too",
        "audit",
        "",
        NamespacePolicy(audit=SINGLE),
        "one of none, best-effort, restricted, single-numa-node; until it is put right single-numa-node counts",
    ),
    *[
        (
            f"a share of {text!r} counts as 1",
            "max-sidecar-share",
            text,
            NamespacePolicy(max_sidecar_share=1),
            "a number from 1 to 100; until it is put right 1 counts",
        )
        for text in ("0", "101", "30%", "-5", "1e1", "05", "٣", "")
    ],
    (
        "scope counts as pod",
        "scope",
        "Pod",
        NOTHING,
        "one of pod, container; until it is put right pod counts",
    ),
    (
        "isolation counts as auto",
        "isolation",
        "isolate",
        NOTHING,
        "one of auto, cpuset, partition, isolated; until it is put right auto counts",
    ),
    (
        "smt counts as full-cores",
        "smt",
        "off",
        NOTHING,
        "one of full-cores, share; until it is put right full-cores counts",
    ),
]


@pytest.mark.parametrize(("what", "label", "text", "policy", "said"), TYPOS, ids=[row[0] for row in TYPOS])
def test_a_label_that_cannot_be_read_is_strict_and_said(
    what: str, label: str, text: str, policy: NamespacePolicy, said: str
) -> None:
    found, warnings = from_labels({f"armistice.dev/{label}": text}, NOTHING)
    assert found == policy
    assert warnings == (f'namespace label armistice.dev/{label}: "{text}" is not {said}',)


def test_defaults_stand_where_no_label_does() -> None:
    defaults = NamespacePolicy(warn=BEST, max_sidecar_share=40, smt=Smt.SHARE)
    found, _ = from_labels({"armistice.dev/audit": "restricted"}, defaults)
    assert found == replace(defaults, audit=RESTRICTED)


def test_warn_follows_a_default_enforce_up() -> None:
    assert from_labels({}, NamespacePolicy(enforce=SINGLE))[0].warn is SINGLE


ACTING = [
    ("nothing asked, nothing done", NOTHING, NONE),
    ("enforce acts as it says", NamespacePolicy(enforce=RESTRICTED, warn=SINGLE), RESTRICTED),
    ("a namespace that is warned gets its best, and nothing is refused", NamespacePolicy(warn=SINGLE), BEST),
    ("audit only watches", NamespacePolicy(audit=SINGLE), NONE),
]


@pytest.mark.parametrize(("what", "policy", "level"), ACTING, ids=[row[0] for row in ACTING])
def test_the_level_that_the_node_acts_on(what: str, policy: NamespacePolicy, level: TopologyPolicy) -> None:
    assert policy.placing == Placing(level)


def test_a_verdict_is_asked_for_the_strictest_of_the_three() -> None:
    assert NamespacePolicy(BEST, RESTRICTED, SINGLE).judging.policy is SINGLE
    assert NamespacePolicy(RESTRICTED, BEST, NONE).judging.policy is RESTRICTED


MODES = [
    (Mode.ENFORCE, NamespacePolicy(RESTRICTED, BEST, NONE)),
    (Mode.WARN, NamespacePolicy(NONE, RESTRICTED, NONE)),
    (Mode.AUDIT, NamespacePolicy(NONE, NONE, RESTRICTED)),
]


@pytest.mark.parametrize(("mode", "policy"), MODES, ids=[mode.value for mode, _ in MODES])
def test_a_process_goes_no_further_than_its_mode(mode: Mode, policy: NamespacePolicy) -> None:
    assert NamespacePolicy(RESTRICTED, BEST, NONE).under(mode) == policy


STRANGE = [
    ("one letter off", "armistice.dev/enforced", "did you mean armistice.dev/enforce?"),
    (
        "far from any",
        "armistice.dev/colour",
        "known are enforce, warn, audit, max-sidecar-share, scope, isolation, smt",
    ),
]


@pytest.mark.parametrize(("what", "key", "said"), STRANGE, ids=[row[0] for row in STRANGE])
def test_a_label_that_does_not_exist_is_said(what: str, key: str, said: str) -> None:
    assert strangers({key: "x", "team": "a", "armistice.dev/enforce": "none"}) == (
        f"namespace label {key} does not exist and has no effect; {said}",
    )


def test_of_labels_that_do_not_exist_the_first_are_said() -> None:
    assert len(strangers({f"armistice.dev/x{number}": "" for number in range(1000)})) == MOST_UNKNOWN


def test_one_policy_for_all_leaves_the_exempt_out() -> None:
    policies = Uniform(NamespacePolicy(SINGLE), frozenset({"kube-system", "armistice"}), Mode.WARN)
    assert policies.of("demo") == Assigned(NamespacePolicy(warn=SINGLE))
    assert policies.of("demo") is policies.of("prod")
    assert policies.of("kube-system") is EXEMPT
    assert policies.from_labels("armistice", {"armistice.dev/enforce": "none"}) is EXEMPT
