"""Flags win over environment variables; wrong values are refused by name."""

from __future__ import annotations

import pytest

from finetune_operator.settings import read_settings

IMAGE = {"FINETUNE_TRAINER_IMAGE": "registry/trainer@sha256:1"}


def test_only_the_trainer_image_is_required() -> None:
    settings = read_settings([], IMAGE)
    assert settings.trainer_image == "registry/trainer@sha256:1"
    assert settings.namespaces == ()
    assert (settings.metrics_port, settings.health_port) == (9401, 8080)
    assert settings.lease_seconds == 15
    assert settings.identity


def test_the_chart_sets_variables() -> None:
    settings = read_settings(
        [],
        IMAGE
        | {
            "FINETUNE_NAMESPACES": "team-b, team-a,",
            "POD_NAME": "operator-0",
            "POD_NAMESPACE": "system",
            "FINETUNE_LEASE_NAME": "lease",
            "FINETUNE_METRICS_PORT": "1234",
            "FINETUNE_LOG_FORMAT": "text",
        },
    )
    assert settings.namespaces == ("team-a", "team-b")
    assert (settings.identity, settings.lease_namespace) == ("operator-0", "system")
    assert (settings.lease_name, settings.metrics_port) == ("lease", 1234)
    assert settings.log_format == "text"


def test_a_flag_wins() -> None:
    assert read_settings(["--trainer-image", "other"], IMAGE).trainer_image == "other"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--trainer-image", ""], "FINETUNE_TRAINER_IMAGE"),
        (["--workers", "many"], "--workers"),
        (["--workers", "0"], "--workers"),
        (["--log-format", "xml"], "--log-format"),
        (["--lease-seconds", "0.1"], "--lease-seconds"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(arguments, IMAGE)
    assert caught.value.code == 2
    assert word in capsys.readouterr().err
