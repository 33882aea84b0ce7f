"""The dashboard and the alerts name what a server exposes, and are of the right form. Neither
Grafana nor Prometheus is needed.
"""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ramet.runtime.tokenizer import Tokenizer
from tests.deploy.files import DEPLOY, PROMETHEUS
from tests.runtime.conftest import byte_tokenizer as byte_tokenizer
from tests.runtime.server.serving import Served, serve

ALERTS = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="module")
def exposed(byte_tokenizer: Tokenizer) -> dict[str, set[str]]:
    """The names of all samples of a scrape, each with its labels."""
    found: dict[str, set[str]] = {"up": set()}

    async def body(served: Served) -> None:
        ask = {"model": "default", "prompt": "Once", "max_tokens": 4}
        await served.client.post("/v1/completions", json=ask)
        await served.client.post("/v1/completions", json={**ask, "prompt": "a" * 5000})
        text = (await served.client.get("/metrics")).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)

    serve(byte_tokenizer, body)
    return found


def expressions() -> Iterator[tuple[str, str, str]]:
    """Where one stands, the expression, and the text that names its series."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"], json.dumps(rule["annotations"])
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            (name,) = re.findall(r"label_values\((\w+), instance\)", variable["query"]["query"])
            yield variable["name"], name, ""


@pytest.mark.parametrize(
    ("expression", "shown"),
    [pytest.param(expression, shown, id=where) for where, expression, shown in expressions()],
)
def test_every_metric_is_exposed_with_its_labels(
    exposed: dict[str, set[str]], expression: str, shown: str
) -> None:
    used = {*re.findall(r"\b(ramet_\w+|up\b)", expression)}
    assert used
    assert used <= {*exposed}, f"not exposed: {used - {*exposed}}"
    of_prometheus = {"instance", "job"}
    for name, labels in re.findall(r"\b(\w+)\{(.*?)\}", expression):
        assert {*re.findall(r"(\w+)[=!]~?\"", labels)} <= exposed[name] | of_prometheus
    labels = of_prometheus.union(*(exposed[name] for name in used))
    kept = [{*re.findall(r"\w+", each)} for each in re.findall(r"\bby \((.*?)\)", expression)]
    assert all(each <= labels for each in kept)
    named = {*re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", shown)}
    left = set.intersection(*kept) if kept else labels - {"le"}
    assert named <= left, "a label that is summed away"


@pytest.mark.parametrize(
    "expression",
    [pytest.param(expression, id=where) for where, expression, _ in expressions()],
)
def test_expressions_are_of_the_right_form(expression: str) -> None:
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)
    ranged = re.findall(r"(\w+)\((\w+)(?:\{[^}]*\})?\[", expression)
    assert expression.count("[") == len(ranged)
    for function, name in ranged:
        counts = name.endswith(("_total", "_bucket", "_count", "_sum"))
        assert counts == (function in ("rate", "increase")), f"{function} of {name}"
    counters = re.findall(r"\bramet_\w+_(?:total|bucket|count|sum)\b", expression)
    assert len(counters) <= len(ranged), "a counter that nobody takes the rate of"
    if "_bucket" in expression:
        assert re.match(r"histogram_quantile\(0\.\d+, sum by \(le\) \(rate\(", expression)


def test_panels_have_a_place_and_a_name_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}


def test_alerts_say_what_is_wrong() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len({*names}) == len(names)
    for rule in ALERTS:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning")
    assert {PROMETHEUS["scrape_configs"][0]["job_name"]} == {
        job for rule in ALERTS for job in re.findall(r'job="(\w+)"', rule["expr"])
    }
