"""The chart's templates as text: what can be said without helm. ``e2e/scenarios/plane/test_chart.py`` renders them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.chart import CHART, TEMPLATES, sources, templates
from webhook.policy import LABELS, PREFIX

FILES = {str(path.relative_to(TEMPLATES)): path for path in templates()}

CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


@pytest.mark.parametrize("name", FILES)
def test_a_file_holds_one_object(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    assert len(re.findall(r"^kind: \w+$", text, re.MULTILINE)) == 1
    assert not re.search(r"^---", text, re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_named_after_its_kind(name: str) -> None:
    (kind,) = re.findall(r"^kind: (\w+)$", FILES[name].read_text(encoding="utf-8"), re.MULTILINE)
    assert Path(name).stem.partition("-")[0] == kind.lower()


@pytest.mark.parametrize("name", FILES)
def test_an_object_has_the_recommended_labels_and_its_namespace(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    (kind,) = re.findall(r"^kind: (\w+)$", text, re.MULTILINE)
    assert re.search(r'include "armistice\.(labels|podLabels)" \(list \. "\w+"\)', text)
    assert ("  namespace: {{ .Release.Namespace }}" in text.partition("\nspec:")[0]) or kind in CLUSTER_WIDE


@pytest.mark.parametrize("component", ["webhook", "enforcer", "tests", "cleanup"])
def test_each_right_has_its_reason(component: str) -> None:
    for path in (TEMPLATES / component).glob("*role.yaml"):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        rules = [number for number, line in enumerate(lines) if line.startswith("- apiGroups")]
        assert rules, path
        assert [lines[number] for number in rules if not lines[number - 1].startswith("# ")] == [], path


def test_no_right_is_a_wildcard() -> None:
    roles = [text for path, text in sources().items() if path.name.endswith("role.yaml")]
    assert len(roles) == 5
    assert not any("*" in text for text in roles)


def test_each_capability_and_each_folder_of_the_host_has_its_reason() -> None:
    lines = FILES["enforcer/daemonset.yaml"].read_text(encoding="utf-8").splitlines()
    wanted = [number for number, line in enumerate(lines) if re.match(r"\s+(- SYS_|hostPath:)", line)]
    assert len(wanted) == 7

    def reason(number: int) -> str:
        return lines[number - (2 if "hostPath" in lines[number] else 1)].strip()

    assert [lines[number] for number in wanted if not reason(number).startswith("# ")] == []


def test_a_template_holds_no_key_and_no_bundle() -> None:
    text = "\n".join(sources().values())
    assert "genCA" not in text
    assert "genSignedCert" not in text
    assert not re.search(r"^\s*caBundle:", text, re.MULTILINE)
    assert "kind: Secret" not in text


def test_the_labels_that_choose_namespaces_are_those_that_are_read() -> None:
    used = set(re.findall(rf'"{re.escape(PREFIX)}([a-z-]+)"', sources()[TEMPLATES / "_webhooks.tpl"]))
    assert used <= {label.name for label in LABELS}
    assert used == {"enforce", "warn", "audit"}


EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_an_example_is_one_object_with_a_word_about_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    (found,) = yaml.safe_load_all(text)
    name = found["metadata"]["name"] if found["kind"] == "Namespace" else found["metadata"]["namespace"]
    assert name == "armistice-example"
