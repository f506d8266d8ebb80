"""The alerts and the dashboard for servers: promtool takes them, and all metrics in them exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from libnetvirt.daemon import activity
from libnetvirt.model import METRICS, Metric, MetricKind
from tests.support import scrape

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "examples" / "monitoring"
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
ALL = {**METRICS, **activity.METRICS}
_NAME = re.compile(r"\b((?:netvirt|process)_\w+)(?:\{([^}]*)\})?")
#: of Prometheus itself, or made by it
_OTHERS = {"instance", "job", "connection", "le"}


def _expressions() -> list[str]:
    rules = YAML(typ="safe").load((FILES / "alerts.yml").read_text())["groups"][0]["rules"]
    board = json.loads((FILES / "dashboard.json").read_text())
    variables = [v["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    targets = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [rule["expr"] for rule in rules] + targets + variables


def _metric(name: str) -> Metric | None:
    if name in ALL:
        return ALL[name]
    base = ALL.get(re.sub(r"_(bucket|sum|count)$", "", name))
    return base if base is not None and base.kind is MetricKind.HISTOGRAM else None


@pytest.mark.parametrize("expression", _expressions())
def test_every_metric_of_an_expression_exists_and_has_its_labels(expression: str) -> None:
    found = _NAME.findall(expression)
    assert found or expression.startswith("up{"), expression
    labels = set(_OTHERS)
    for name, selector in found:
        metric = _metric(name)
        assert metric is not None, f"there is no metric {name}"
        labels |= set(metric.labels)
        unknown = set(re.findall(r"(\w+)=", selector)) - _OTHERS - set(metric.labels)
        assert not unknown, f"{name} has no label {unknown}"
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(group.split(", ")) <= labels, expression


def test_every_metric_of_the_pages_exists() -> None:
    for name in re.findall(r"\b(?:netvirt|process)_\w+", PAGE):
        assert _metric(name) is not None, name


def test_every_alert_is_on_the_page_and_tested_both_ways() -> None:
    rules = YAML(typ="safe").load((FILES / "alerts.yml").read_text())["groups"][0]["rules"]
    alerts = [rule["alert"] for rule in rules]
    assert re.findall(r"^\| `(Netvirt\w+)` \|", PAGE, re.MULTILINE) == alerts
    tests = YAML(typ="safe").load((FILES / "alerts.test.yml").read_text())["tests"]
    fires = {(c["alertname"], bool(c["exp_alerts"])) for test in tests for c in test["alert_rule_test"]}
    assert fires == {(alert, fired) for alert in alerts for fired in (True, False)}


def test_promtool_takes_the_rules_and_their_tests_pass() -> None:
    scrape.need_promtool()
    assert "SUCCESS" in scrape.promtool("check", "config", "prometheus.yml", directory=FILES)
    assert "SUCCESS" in scrape.promtool("test", "rules", "alerts.test.yml", directory=FILES)


def test_promtool_takes_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    scrape.need_promtool()
    board = json.loads((FILES / "dashboard.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 20
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        {"record": f"panel:{n}", "expr": re.sub(r"\$__(rate_)?interval", "1m", e)}
        for n, e in enumerate(expressions)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert "SUCCESS" in scrape.promtool("check", "rules", str(file))


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((FILES / "dashboard.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
