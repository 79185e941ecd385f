"""Where sources lie, and that none reaches outside of what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_trainer.data import sources
from finetune_trainer.errors import TrainerError


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("pvc://models/smol/v1", "/mnt/pvc/models/smol/v1"),
        ("pvc://models", "/mnt/pvc/models"),
        ("pvc://data//train.jsonl", "/mnt/pvc/data/train.jsonl"),
        ("configmap://questions/train.jsonl", "/mnt/configmap/questions/train.jsonl"),
        ("file:///models/smol", "/models/smol"),
    ],
)
def test_a_source_names_a_path(source: str, path: str) -> None:
    assert sources.resolve(source, "/mnt") == Path(path)


@pytest.mark.parametrize(
    "source",
    [
        "train.jsonl",
        "hf://org/name",
        "file://relative/path",
        "pvc://",
        "configmap://questions",
        "configmap://questions/",
        "pvc://data/../other/train.jsonl",
        "pvc://../other",
        "file:///models/../etc",
        "pvc://data/a\0b",
    ],
)
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises(TrainerError) as caught:
        sources.resolve(source, "/mnt")
    assert (caught.value.code, caught.value.reason) == (10, "BadSource")


def test_a_link_may_not_leave_its_volume(tmp_path: Path) -> None:
    (tmp_path / "pvc" / "mine").mkdir(parents=True)
    (tmp_path / "pvc" / "theirs").mkdir()
    (tmp_path / "pvc" / "mine" / "link").symlink_to("../theirs")
    with pytest.raises(TrainerError, match="leaves its volume"):
        sources.resolve("pvc://mine/link/secret", str(tmp_path))


def test_the_links_of_a_mounted_config_map_are_followed(tmp_path: Path) -> None:
    mount = tmp_path / "configmap" / "questions"
    (mount / "..2025_01_01").mkdir(parents=True)
    (mount / "..2025_01_01" / "train.jsonl").write_text("{}")
    (mount / "..data").symlink_to("..2025_01_01")
    (mount / "train.jsonl").symlink_to("..data/train.jsonl")
    found = sources.data_file("configmap://questions/train.jsonl", str(tmp_path))
    assert found.read_text() == "{}"


def test_a_missing_file_is_named_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "pvc" / "data").mkdir(parents=True)
    (tmp_path / "pvc" / "data" / "tain.jsonl").touch()
    with pytest.raises(TrainerError) as caught:
        sources.data_file("pvc://data/train.jsonl", str(tmp_path))
    assert (caught.value.code, caught.value.reason) == (11, "DataMissing")
    assert caught.value.message.startswith("dataset.source pvc://data/train.jsonl: ")
    assert caught.value.message.endswith("holds tain.jsonl")


def test_missing_weights_are_a_missing_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainerError) as caught:
        sources.model_folder(f"file://{tmp_path}", "/mnt")
    assert (caught.value.code, caught.value.reason) == (14, "ModelMissing")
    assert [each.code for each in caught.value.problems] == ["missing_model"]
    assert "has neither model.safetensors nor " in caught.value.message


def test_a_missing_model_is_another_code(tmp_path: Path) -> None:
    with pytest.raises(TrainerError) as caught:
        sources.model_folder("pvc://models/smol", str(tmp_path))
    assert (caught.value.code, caught.value.reason) == (14, "ModelMissing")
