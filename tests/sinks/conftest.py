"""Event files, read back with TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing import event_accumulator


class Events:
    """What a log folder says: scalars as {tag: {step: value}}, histograms as {tag: {step: HistogramValue}}."""

    def __init__(self, folder: Path) -> None:
        keep_all = dict.fromkeys(("scalars", "histograms", "tensors"), 0)
        self.accumulator = event_accumulator.EventAccumulator(str(folder), size_guidance=keep_all)
        self.accumulator.Reload()
        tags = self.accumulator.Tags()
        points = {tag: self.accumulator.Scalars(tag) for tag in tags["scalars"]}
        for tag, events in points.items():
            steps = [event.step for event in events]
            assert steps == sorted(set(steps)), f"{tag}: a step twice, or out of order"
        self.scalars = {tag: {e.step: e.value for e in events} for tag, events in points.items()}
        self.times = {tag: {e.step: e.wall_time for e in events} for tag, events in points.items()}
        self.histograms = {
            tag: {e.step: e.histogram_value for e in self.accumulator.Histograms(tag)} for tag in tags["histograms"]
        }
        self.layouts = sum(tag == "custom_scalars__config__" for tag in tags["tensors"])


@pytest.fixture
def read():
    return Events
