"""The loss curve shows what the log holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune_trainer.report.plots import loss_curve, read_curve


def line(step: int, **values: Any) -> str:
    return json.dumps({"step": step, "attempt": 1, "loss": 2.0, "learning_rate": 1e-4, **values})


def test_points_and_resumes_are_read_from_the_log() -> None:
    curve = read_curve(
        [
            json.dumps({"step": 0, "attempt": 1, "eval_loss": 3.0}),
            line(1, loss=2.5),
            line(2, loss="NaN"),
            "\n",
            line(3, attempt=2, eval_loss=1.5),
            line(4, attempt=2),
        ]
    )
    assert curve.loss == [(1, 2.5), (3, 2.0), (4, 2.0)]
    assert curve.evaluation == [(0, 3.0), (3, 1.5)]
    assert [step for step, _ in curve.learning_rate] == [1, 2, 3, 4]
    assert curve.resumes == [3]


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    log = tmp_path / "trainer_log.jsonl"
    log.write_text("\n".join(line(step, attempt=1 + step // 6) for step in range(1, 11)))
    picture = loss_curve(log, tmp_path / "new" / "loss.png", title="demo")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_run_that_logged_nothing_still_has_a_picture(tmp_path: Path) -> None:
    log = tmp_path / "trainer_log.jsonl"
    log.touch()
    assert loss_curve(log, tmp_path / "loss.png").stat().st_size > 0
