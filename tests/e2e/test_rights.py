"""A role's rules, taken apart."""

from __future__ import annotations

from e2e.lab.rights import Right, rule_of, split

RULES = [
    {"apiGroups": [""], "resources": ["namespaces", "nodes"], "verbs": ["get", "list"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["update"], "resourceNames": ["a", "b"]},
]


def test_rules_are_split_into_every_right_that_they_give() -> None:
    assert [str(right) for right in split(RULES)] == [
        "get namespaces",
        "list namespaces",
        "get nodes",
        "list nodes",
        "update leases.coordination.k8s.io a",
        "update leases.coordination.k8s.io b",
    ]


def test_a_right_is_a_rule_again() -> None:
    rights = split(RULES)
    assert [right for one in rights for right in split([rule_of(one)])] == rights
    assert rule_of(rights[-1]) == {**RULES[-1], "resourceNames": ["b"]}
    assert rule_of(Right("events", "create")) == {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}
