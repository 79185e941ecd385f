"""One version everywhere: package, operator and chart."""

from __future__ import annotations

import tomllib

import yaml

from dev.demo.paths import ROOT
from finetune_operator import __version__


def test_package_operator_and_chart_have_one_version() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts/finetune-operator/Chart.yaml").read_text())
    assert {package, chart["version"], chart["appVersion"]} == {__version__}
