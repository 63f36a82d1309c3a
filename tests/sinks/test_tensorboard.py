"""TensorBoard's own reader finds in the event files what the run folder says, live and replayed."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_info, make_site, make_ticks, make_window, make_windows
from tensorboard.plugins.custom_scalar import layout_pb2
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import deadneuron
from deadneuron.errors import DeadneuronWarning, UsageError
from deadneuron.records import HISTOGRAM_EDGES
from deadneuron.sinks.replay import replay
from deadneuron.sinks.tensorboard import LAYOUT, TensorBoard
from deadneuron.store.reader import StoredRun, read_folder

SITE = make_site(0, 7, name="body.act", outputs=tuple(np.maximum(HISTOGRAM_EDGES, 0.0).tolist()))
STEPS = 173
SHARES = ("dead", "silent", "rare", "deaths", "zero", "magnitude")


def lives(silent_from):
    """fired[s][u]: 5 rows of every unit, none from the step in `silent_from` on."""
    return [[0 if step >= silent_from.get(unit, 10**9) else 5 for unit in range(7)] for step in range(STEPS)]


def write_all(folder, windows, ticks=(), *, sites=(SITE,), **changes):
    replay(StoredRun(make_info(sites, **changes), tuple(windows), tuple(ticks), ()), TensorBoard(folder))


def test_states_of_units_are_written_at_each_windows_last_step(tmp_path, read):
    ends = [0, 49, 99, 149, STEPS - 1]
    write_all(tmp_path / "tb", make_windows(SITE, lives({2: 0, 5: 30, 6: 120}), ends))
    scalars = read(tmp_path / "tb").scalars
    assert set(scalars) == {f"deadneuron.{kind}/body.act" for kind in SHARES}
    found = {kind: [scalars[f"deadneuron.{kind}/body.act"][end] for end in ends] for kind in SHARES}
    # Unit 2 never fires: silent for 100 steps at 99. Unit 5 last fired in 29, unit 6 in 119: silent for 53 steps only.
    assert found["dead"] == pytest.approx([0, 0, 1 / 7, 2 / 7, 2 / 7])
    assert found["silent"] == pytest.approx([1 / 7, 1 / 7, 1 / 7, 0, 1 / 7])
    assert found["deaths"] == [0, 0, 1, 1, 0]
    assert found["rare"] == [0] * 5
    assert found["magnitude"] == [0.25] * 5
    values = [7 * 11 * steps for steps in (1, 49, 50, 50, STEPS - 150)]
    assert found["zero"] == pytest.approx([n * 4 // 10 / n for n in values])


def test_a_unit_on_less_than_a_hundredth_of_rows_is_rare_and_unknown_outputs_are_left_out_of_the_mean(tmp_path, read):
    magnitude = np.array([1.0, np.nan, 3.0, np.inf, 5.0, 7.0, 9.0])
    window = make_window(SITE, 0, 12, [[1] + [100] * 6] + [[0] + [100] * 6] * 12, samples=50, magnitude=magnitude)
    write_all(tmp_path / "tb", [window])
    scalars = read(tmp_path / "tb").scalars
    assert scalars["deadneuron.rare/body.act"] == {12: pytest.approx(1 / 7)}
    assert scalars["deadneuron.magnitude/body.act"] == {12: 5.0}


def test_where_nothing_was_sampled_nothing_is_drawn(tmp_path, read):
    empty = np.zeros_like(make_window(SITE, 0, 0, [[1] * 7]).histogram)
    nothing = make_window(SITE, 0, 4, [[1] * 7] * 5, magnitude=np.full(7, np.nan), histogram=empty)
    write_all(tmp_path / "tb", [nothing])
    events = read(tmp_path / "tb")
    assert set(events.scalars) == {f"deadneuron.{kind}/body.act" for kind in ("dead", "silent", "rare", "deaths")}
    assert events.histograms == {}


def test_a_histogram_has_the_windows_counts_and_sums_over_bin_middles(tmp_path, read):
    window = make_window(SITE, 0, 4, [[1] * 7] * 5)
    window.histogram[:] = 0
    window.histogram[[3, 42, int(np.searchsorted(HISTOGRAM_EDGES, 1.5)), 80]] = [11, 2, 5, 3]
    write_all(tmp_path / "tb", [window])
    events = read(tmp_path / "tb")
    (found,) = events.histograms["deadneuron.outputs/body.act"].values()
    counts = {limit: count for limit, count in zip(found.bucket_limit, found.bucket, strict=True) if count}
    top = HISTOGRAM_EDGES[80]
    assert counts == {0.0: 11, 2.0**-12: 2, 1.5: 5, top: 3}
    assert (found.min, found.max, found.num) == (-(2.0**-14), top, 21)
    middles = np.array([-(2.0**-15), 2.0**-13, 1.25, (HISTOGRAM_EDGES[79] + top) / 2])
    assert found.sum == pytest.approx([11, 2, 5, 3] @ middles)
    assert found.sum_squares == pytest.approx([11, 2, 5, 3] @ middles**2)
    assert events.scalars["deadneuron.zero/body.act"] == {4: pytest.approx(11 / 21)}


def test_rates_are_drawn_where_they_change_and_at_each_windows_end(tmp_path, read):
    rates = [(0.1, 0.3)] * 60 + [(0.01, 0.3)] * 60 + [(0.01, float("nan"))] * 53
    write_all(tmp_path / "tb", [], make_ticks(rates), groups=("SGD[0]", "Adam[0] of D"))
    scalars = read(tmp_path / "tb").scalars
    first, second = scalars["deadneuron.lr/SGD[0]"], scalars["deadneuron.lr/Adam[0] of D"]
    high, low = pytest.approx(0.1), pytest.approx(0.01)
    assert first == {0: high, 49: high, 59: high, 60: low, 99: low, 149: low, 172: low}
    assert second == dict.fromkeys([0, 49, 99, 119], pytest.approx(0.3))


def test_evaluation_has_curves_of_its_own(tmp_path, read):
    windows = [make_window(SITE, 0, 0, [[1] * 7]), make_window(SITE, 0, 0, [[0] * 7], phase="eval")]
    write_all(tmp_path / "tb", windows)
    scalars = read(tmp_path / "tb").scalars
    assert scalars["deadneuron.silent/body.act"] == {0: 0}
    assert scalars["deadneuron.silent/body.act (eval)"] == {0: 1}


def test_a_replay_carries_the_times_of_the_steps(tmp_path, read):
    fired = lives({})
    write_all(tmp_path / "tb", make_windows(SITE, fired, [0, 99, STEPS - 1]), make_ticks([0.1] * STEPS))
    times = read(tmp_path / "tb").times
    assert times["deadneuron.dead/body.act"] == {end: 1.7e9 + end for end in (0, 99, STEPS - 1)}
    assert times["deadneuron.lr/SGD[0]"][149] == 1.7e9 + 149


def layouts(events):
    made = []
    for event in events.accumulator.Tensors("custom_scalars__config__"):
        layout = layout_pb2.Layout()
        layout.ParseFromString(event.tensor_proto.string_val[0])
        made.append(layout)
    return made


def test_one_page_has_a_chart_of_dead_units_beside_one_of_learning_rates(tmp_path, read):
    write_all(tmp_path / "tb", make_windows(SITE, lives({}), [0, STEPS - 1]), make_ticks([0.1] * STEPS))
    events = read(tmp_path / "tb")
    (layout,) = layouts(events)
    (page,) = layout.category
    assert page.title == "Dead neurons" == next(iter(LAYOUT))
    assert [chart.title for chart in page.chart][:2] == ["Dead units (share)", "Learning rate"]
    matched = {
        tag for chart in page.chart for rule in chart.multiline.tag for tag in events.scalars if re.match(rule, tag)
    }
    assert matched == set(events.scalars), "every scalar stands on the page"


# ── while training ───────────────────────────────────────────────────────────────────────────────────────────────────


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.relu = nn.Linear(5, 11), nn.ReLU()
        self.second, self.gelu = nn.Linear(11, 13), nn.GELU()
        self.third, self.tanh = nn.Linear(13, 7), nn.Tanh()
        with torch.no_grad():
            self.first.bias.fill_(3.0)
            self.first.bias[[2, 3]] = -100.0  # dead from the beginning

    def forward(self, x):
        return self.tanh(self.third(self.gelu(self.second(self.relu(self.first(x))))))


def groups_of(net):
    first = {"params": net.first.parameters(), "lr": 0.3}
    return [first, {"params": [*net.second.parameters(), *net.third.parameters()]}]


def train(run, sinks, steps=STEPS, each=lambda step: None):
    net = Net()
    optimizer = torch.optim.SGD(groups_of(net), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 60)
    with deadneuron.watch(net, optimizer, run, sinks=sinks) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            net(torch.rand(17, 5)).square().mean().backward()
            optimizer.step()
            schedule.step()
            each(step)
    return monitor


def test_live_and_replayed_curves_are_the_same_and_those_of_the_run(run, tmp_path, read):
    assert train(run, [TensorBoard(tmp_path / "live")]).gaps == ()
    replay(read_folder(run), TensorBoard(tmp_path / "replayed"))
    live, replayed = read(tmp_path / "live"), read(tmp_path / "replayed")
    assert set(live.scalars) == set(replayed.scalars)
    for tag, points in live.scalars.items():
        # The run folder keeps three digits of a magnitude; all else is exact.
        assert points == (
            pytest.approx(replayed.scalars[tag], rel=1e-3) if "magnitude" in tag else replayed.scalars[tag]
        )
    assert live.histograms == replayed.histograms
    assert live.layouts == replayed.layouts == 1

    table = deadneuron.read_run(run).layers.set_index(["layer", "last_step"])
    assert {layer for layer, _ in table.index} == {"relu", "gelu", "tanh"}
    for (layer, step), row in table.iterrows():
        for state in ("dead", "silent", "rare"):
            assert live.scalars[f"deadneuron.{state}/{layer}"][step] == pytest.approx(row[state] / row["units"])
    assert live.scalars["deadneuron.dead/relu"][STEPS - 1] == pytest.approx(2 / 11)
    assert sum(live.scalars["deadneuron.deaths/relu"].values()) == 2
    first, second = (live.scalars[f"deadneuron.lr/SGD[{i}]"] for i in (0, 1))
    assert [first[s] for s in (0, 59, 60, 119, 120, STEPS - 1)] == pytest.approx([0.3, 0.3, 0.03, 0.03, 0.003, 0.003])
    assert [second[s] for s in (0, 59, 60, 119, 120)] == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001])


def test_histograms_of_relu_gelu_and_tanh_are_of_their_outputs(run, tmp_path, read):
    torch.manual_seed(3)
    train(run, [TensorBoard(tmp_path / "tb")], steps=1)
    torch.manual_seed(3)
    net = Net()
    x = torch.rand(17, 5)
    outputs = {"relu": net.relu(net.first(x))}
    outputs["gelu"] = net.gelu(net.second(outputs["relu"]))
    outputs["tanh"] = net.tanh(net.third(outputs["gelu"]))
    histograms = read(tmp_path / "tb").histograms
    for name, values in outputs.items():
        (found,) = histograms[f"deadneuron.outputs/{name}"].values()
        values = values.detach().double().numpy().ravel()
        assert found.num == values.size == sum(found.bucket)
        for i, limit in enumerate(found.bucket_limit):
            assert np.sum(values <= limit - 1e-4) <= sum(found.bucket[: i + 1]) <= np.sum(values <= limit + 1e-4)
    assert histograms["deadneuron.outputs/relu"][0].bucket_limit[0] == 0.0
    assert histograms["deadneuron.outputs/gelu"][0].bucket_limit[0] < 0.0


def test_a_chart_can_be_read_while_the_training_runs(run, tmp_path, read):
    seen = {}

    def look(step):
        if step == 99:
            deadline = time.monotonic() + 30
            while not seen.get("deadneuron.dead/relu") and time.monotonic() < deadline:
                time.sleep(0.1)
                seen.update(read(tmp_path / "tb").scalars)

    train(run, [TensorBoard(tmp_path / "tb")], each=look)
    assert 0 in seen["deadneuron.dead/relu"]


def test_a_summary_writer_of_ones_own_gets_the_curves_and_stays_open(run, tmp_path, read):
    with SummaryWriter(str(tmp_path / "tb")) as writer:
        writer.add_scalar("loss", 3.0, 0)
        train(run, [TensorBoard(writer)], steps=7)
        before = read(tmp_path / "tb")
        assert before.scalars["deadneuron.dead/relu"] == {0: 0, 6: 0}, "flushed, though the writer is open"
        writer.add_scalar("loss", 2.0, 1)
    assert read(tmp_path / "tb").scalars["loss"] == {0: 3.0, 1: 2.0}
    assert len(list((tmp_path / "tb").iterdir())) == 1, "it was never closed and opened again"


def test_a_page_of_ones_own_can_be_kept(run, tmp_path, read):
    with SummaryWriter(str(tmp_path / "tb")) as writer:
        mine = {"mine": {"loss": ["Multiline", ["loss"]]}}
        writer.add_custom_scalars({**mine, **LAYOUT})
        train(run, [TensorBoard(writer, layout=False)], steps=3)
    (layout,) = layouts(read(tmp_path / "tb"))
    assert [page.title for page in layout.category] == ["mine", "Dead neurons"]


@pytest.mark.parametrize("where", ["file", "file/below", "\0"])
def test_a_log_folder_that_cannot_be_made_is_one_warning_and_the_training_goes_on(run, tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    steps = []
    with pytest.warns(DeadneuronWarning, match="TensorBoard") as caught:
        monitor = train(run, [TensorBoard(tmp_path / where)], each=steps.append)
    assert len(caught) == 1
    assert [gap.where for gap in monitor.gaps] == ["TensorBoard"]
    assert len(steps) == STEPS
    stored = read_folder(run)
    assert len(stored.ticks) == STEPS
    assert [gap.where for gap in stored.gaps] == ["TensorBoard"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of torch's own writing thread
def test_a_log_folder_that_is_lost_while_training_is_one_warning_and_the_training_goes_on(run, tmp_path):
    def lose(step):
        if step == 49:
            shutil.rmtree(tmp_path / "tb")
            (tmp_path / "tb").write_text("in the way")

    with pytest.warns(DeadneuronWarning, match="TensorBoard") as caught:
        monitor = train(run, [TensorBoard(tmp_path / "tb")], each=lose)
    assert len(caught) == 1
    assert [gap.where for gap in monitor.gaps] == ["TensorBoard"]
    assert len(read_folder(run).ticks) == STEPS


def test_one_sink_serves_one_run_after_another(tmp_path, read):
    with SummaryWriter(str(tmp_path / "tb")) as writer:
        sink = TensorBoard(writer, layout=False)
        train(tmp_path / "first", [sink], steps=1)
        train(tmp_path / "second", [sink], steps=101)
    deaths = [e.value for e in event_values(tmp_path / "tb", "deadneuron.deaths/relu")]
    assert deaths == [0, 0, 0, 2, 0], "the second run's units begin anew"


def event_values(folder, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload().Scalars(tag)


def test_closing_a_sink_that_was_never_opened_is_nothing(tmp_path):
    TensorBoard(tmp_path / "tb").close()
    assert os.listdir(tmp_path) == []


def test_what_tensorboard_cannot_write_to_is_refused(run):
    with pytest.raises(UsageError, match="SummaryWriter"):
        TensorBoard(None)
    with pytest.raises(UsageError, match="no sink"):
        deadneuron.watch(Net(), None, run, sinks=["tb"])
    assert not run.exists()


def test_a_training_with_a_sink_is_bit_identical_to_one_without(tmp_path):
    weights = []
    for name, sinks in (("without", []), ("with", [TensorBoard(tmp_path / "tb")])):
        torch.manual_seed(11)
        net = Net()
        optimizer = torch.optim.SGD(groups_of(net), lr=0.01)
        with deadneuron.watch(net, optimizer, tmp_path / name, sinks=sinks):
            for _ in range(61):
                optimizer.zero_grad()
                net(torch.rand(17, 5)).square().mean().backward()
                optimizer.step()
        weights.append([p.detach() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_the_sink_in_the_manual_works(run, capsys):
    manual = (Path(__file__).parents[2] / "docs/tensorboard.md").read_text()
    code = re.search(r"```python\n(class PrintDeaths.*?)```", manual, re.DOTALL)[1]
    space = {}
    exec(code, space)
    assert train(run, [space["PrintDeaths"]()], steps=51).gaps == ()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "watching Net"
    assert "relu 49 2 silent units" in lines


def test_the_manual_names_every_tag(run, tmp_path, read):
    train(run, [TensorBoard(tmp_path / "tb")], steps=1)
    events, manual = read(tmp_path / "tb"), (Path(__file__).parents[2] / "docs/tensorboard.md").read_text()
    written = {tag.partition("/")[0] for tag in [*events.scalars, *events.histograms]}
    named = set(re.findall(r"^\| `(deadneuron\.\w+)/", manual, re.MULTILINE))
    assert written | {"deadneuron.tab"} == named  # the tab's are tensors: see test_tab.py
