"""The loss curve as a picture, from trainer_log.jsonl alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TRAIN: Final = "#2563eb"
EVALUATION: Final = "#dc2626"
RATE: Final = "#94a3b8"
RESUME: Final = "#f59e0b"
SMOOTHING_REACH: Final = 4  # steps to each side in the average drawn over the raw loss


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's log. Points are (step, value); `resumes` are the first steps of later attempts."""

    loss: list[tuple[int, float]]
    evaluation: list[tuple[int, float]]
    learning_rate: list[tuple[int, float]]
    resumes: list[int]


def read_curve(lines: Iterable[str]) -> Curve:
    """Parse trainer_log.jsonl; values that are absent or not finite are left out."""
    curve = Curve([], [], [], [])
    attempt: object = None
    for line in lines:
        if not line.strip():
            continue
        record = json.loads(line)
        step = int(record["step"])
        for name, points in (
            ("loss", curve.loss),
            ("eval_loss", curve.evaluation),
            ("learning_rate", curve.learning_rate),
        ):
            value = record.get(name)
            if value is not None and math.isfinite(float(value)):
                points.append((step, float(value)))
        if attempt is not None and record.get("attempt") != attempt:
            curve.resumes.append(step)
        attempt = record.get("attempt")
    return curve


def loss_curve(log_path: Path, png_path: Path, *, title: str = "") -> Path:
    """Draw loss, evaluation loss, learning rate and resumes over steps; returns `png_path`.

    Raises OSError when the log cannot be read, ValueError when a line is no JSON.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with log_path.open(encoding="utf-8") as stream:
        curve = read_curve(stream)
    figure, axes = pyplot.subplots(figsize=(9, 5), dpi=130, layout="constrained")
    try:
        _draw_rate(axes, curve)
        _draw_loss(axes, curve)
        axes.set_title(title or "Loss", loc="left", fontweight="bold")
        png_path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(png_path)
    finally:
        pyplot.close(figure)
    return png_path


def _draw_loss(axes: Any, curve: Curve) -> None:
    steps, values = _columns(curve.loss)
    axes.plot(steps, values, color=TRAIN, alpha=0.35, linewidth=1.0)
    axes.plot(steps, _smooth(values), color=TRAIN, linewidth=2.0, label="training loss")
    if curve.evaluation:
        steps, values = _columns(curve.evaluation)
        axes.plot(
            steps, values, color=EVALUATION, marker="o", linewidth=1.2, label="evaluation loss"
        )
        for step, value in curve.evaluation:
            axes.annotate(
                f"{value:.2f}", (step, value), xytext=(0, 8), textcoords="offset points",
                ha="center", fontsize=8, color=EVALUATION,
            )  # fmt: skip
    for number, step in enumerate(curve.resumes):
        axes.axvline(
            step, color=RESUME, linestyle="--", linewidth=1.2, label=None if number else "resumed"
        )
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss per supervised token")
    axes.grid(axis="y", alpha=0.25)
    axes.spines["top"].set_visible(False)
    axes.margins(y=0.12)
    axes.legend(loc="best", frameon=False)


def _draw_rate(axes: Any, curve: Curve) -> None:
    if not curve.learning_rate:
        return
    rate = axes.twinx()
    steps, values = _columns(curve.learning_rate)
    rate.fill_between(steps, values, color=RATE, alpha=0.15, linewidth=0)
    rate.plot(steps, values, color=RATE, linewidth=1.0)
    rate.set_ylabel("learning rate", color="#64748b")
    rate.set_ylim(0, max(values) * 3 or 1)  # keep it in the lower third, below the loss
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rate.tick_params(colors="#64748b")
    rate.spines["top"].set_visible(False)
    axes.set_zorder(rate.get_zorder() + 1)
    axes.patch.set_visible(False)


def _columns(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _smooth(values: list[float]) -> list[float]:
    """Centred average over 2 x `SMOOTHING_REACH` + 1 steps, narrower at both ends: no lag."""
    smoothed = []
    for position in range(len(values)):
        reach = min(SMOOTHING_REACH, position, len(values) - 1 - position)
        window = values[position - reach : position + reach + 1]
        smoothed.append(sum(window) / len(window))
    return smoothed
