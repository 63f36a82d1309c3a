"""Tables: the columns that docstrings name, one row a unit, window or step, and sums that agree with the windows."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from making import POSITIONS, ends_every, ints, lives, make_run, make_site, make_ticks, make_window, make_windows
from spells import World, worlds

from deadneuron.errors import NotARunError
from deadneuron.frames import Run, read_run
from deadneuron.records import BINS, HISTOGRAM_EDGES, Tick
from deadneuron.states import STATE_NAMES

STEPS = 130
SITES = [make_site(0, 5), make_site(1, 7, name="head")]
EMPTY = make_run(ticks=(), modules=("a",))


@pytest.fixture(scope="module")
def run():
    windows = make_windows(SITES[0], lives(5, STEPS, {2: [(11, 129)]}), ends_every(23, STEPS))
    windows += make_windows(SITES[1], lives(7, STEPS, {0: [(0, 129)], 3: [(50, 60)]}), ends_every(23, STEPS))
    ticks = make_ticks([(0.1, 0.2 + step) for step in range(STEPS)], loss=1.5)
    ticks[7] = Tick(7, 1.7e9, (0.1,), skipped=True)
    return make_run(SITES, windows, ticks, groups=("SGD[0]", "SGD[1]"))


def documented(table: str) -> set[str]:
    """Column names in a table's docstring: the words of its lists, without what parentheses and half-sentences add."""
    text = getattr(Run, table).func.__doc__
    text = re.sub(r"\([^()]*\)", "", text)
    text = re.sub(r"`lr:<group>`, the rate[^,]*, and\s+`dither:<group>`, what a dither had multiplied it by", "", text)
    text = re.sub(r"over the whole run|as in `layers`", "", text)
    # Lists begin after "One row …" and its colon or full stop; words are column names if a list is all there is to it.
    text = text[re.search(r"[:.]", text).end() :]
    found = set()
    for clause in re.split(r"[;.:]", text):
        for item in re.split(r",|\band\b", clause):
            name = item.replace("all over sampled_rows", "sampled_rows").strip()
            name = re.sub(r" of the pre-activations$", "", name)
            if re.fullmatch(r"[a-z]+(_[a-z]+)*", name):
                found.add(name)
    return found


@pytest.mark.parametrize("table", ["ticks", "layers", "units", "histograms"])
def test_the_documented_columns_are_those_of_the_table(run, table):
    columns = {name for name in getattr(run, table).columns if ":" not in name}
    assert documented(table) == columns


@pytest.mark.parametrize("table", ["ticks", "layers", "units", "histograms"])
def test_an_empty_run_has_empty_tables_with_the_same_columns(run, table):
    empty = getattr(EMPTY, table)
    assert len(empty) == 0
    assert [c for c in empty.columns if ":" not in c] == [c for c in getattr(run, table).columns if ":" not in c]


def test_ticks_are_one_row_a_step_with_the_rate_of_every_group(run):
    ticks = run.ticks
    assert ticks["step"].tolist() == list(range(STEPS))
    assert ticks["lr:SGD[1]"].drop(7).tolist() == [0.2 + step for step in range(STEPS) if step != 7]
    assert np.isnan(ticks["lr:SGD[1]"][7])
    assert ticks["skipped"].tolist() == [step == 7 for step in range(STEPS)]
    assert ticks["skipped"].dtype == bool
    assert ticks["loss"].drop(7).eq(1.5).all()
    assert ticks["grad_norm"].isna().all()
    assert ticks["time"][0] == pd.Timestamp(1.7e9, unit="s", tz="UTC")


def test_units_are_one_row_each_with_their_state_at_the_end(run):
    units = run.units
    assert list(zip(units["site"], units["unit"], strict=True)) == [(0, u) for u in range(5)] + [
        (1, u) for u in range(7)
    ]
    assert units["layer"].tolist() == ["layer0"] * 5 + ["head"] * 7
    assert list(units["state"].cat.categories) == list(STATE_NAMES)
    dead = units[units["state"] == "dead"]
    assert list(zip(dead["layer"], dead["unit"], strict=True)) == [("layer0", 2), ("head", 0)]
    fell, born = dead.iloc[0], dead.iloc[1]
    assert (fell["first_active"], fell["last_active"], fell["silent_steps"]) == (0, 10, 119)
    assert fell["silent_samples"] == 11 * (STEPS - 23), "of the windows after that of its last firing"
    assert fell["bound"] == 3 / (11 * (STEPS - 23))
    assert born["first_active"] is pd.NA
    assert born["last_active"] is pd.NA
    assert born["silent_steps"] == STEPS
    alive = units[units["state"] == "active"]
    assert (alive["last_active"] == 129).all()
    assert alive["bound"].isna().all()


def test_sums_over_units_layers_and_histograms_agree_with_the_windows(run):
    for site in SITES:
        layers = run.layers[run.layers["site"] == site.number]
        units = run.units[run.units["site"] == site.number]
        windows = run.timelines[site.number].windows
        rows = sum(w.rows for w in windows)
        active = sum(int(w.active.sum()) for w in windows)
        assert layers["rows"].sum() == rows == STEPS * 11 * POSITIONS
        assert layers["samples"].sum() == STEPS * 11
        assert (layers["active"] * layers["rows"] * layers["units"]).sum() == pytest.approx(active)
        assert (units["active"] * rows).sum() == pytest.approx(active)
        last = layers.iloc[-1]
        for state in ("dead", "silent", "rare"):
            assert last[state] == (units["state"] == state).sum()
        histograms = run.histograms[run.histograms["site"] == site.number]
        assert histograms["count"].sum() == STEPS * 11 * site.units
        assert len(histograms) == len(windows) * BINS


def test_layers_are_one_row_a_window_in_order(run):
    layers = run.layers[run.layers["site"] == 1]
    assert layers["last_step"].tolist() == ends_every(23, STEPS)
    assert layers["first_step"].tolist() == [0, 23, 46, 69, 92, 115]
    assert (layers["units"] == 7).all()


@settings(max_examples=60, deadline=None)
@given(world=worlds())
def test_tables_of_any_run_count_the_same_units(world: World):
    run = make_run([world.site], world.windows(), thresholds=world.thresholds)
    layers, units = run.layers, run.units
    assert len(units) == world.site.units
    assert len(layers) == len(world.seen)
    for state in ("dead", "silent", "rare"):
        assert layers[state].iloc[-1] == (units["state"] == state).sum()
    assert (units["last_active"].isna() == units["first_active"].isna()).all()
    known = units.dropna(subset=["first_active"])
    assert (known["first_active"] <= known["last_active"]).all()
    assert units["active"].between(0, 1).all()


def of_rows(site, first, rows):
    """A window of one step whose statistics are those of the pre-activations rows[r, u]; NaN rows are non-finite."""
    finite = np.isfinite(rows)
    counts = finite.sum(axis=0)
    total = np.where(finite, rows, 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return make_window(
            site,
            first,
            first,
            [(rows > 0).sum(axis=0).tolist()],
            samples=len(rows),
            rows=len(rows),
            sampled_rows=len(rows),
            nonfinite=ints(len(rows) - counts),
            above=ints((rows > 2).sum(axis=0)),
            mean=np.where(counts > 0, total, np.nan) / counts,
            square=np.where(counts > 0, np.where(finite, rows**2, 0).sum(axis=0), np.nan) / counts,
            magnitude=np.where(counts > 0, np.where(finite, np.maximum(rows, 0), 0).sum(axis=0), np.nan) / counts,
            peak=np.where(finite, rows, -np.inf).max(axis=0),
        )


def test_statistics_over_windows_are_those_of_all_rows_together():
    """Windows of unequal sizes, with rows that were NaN in some of them only."""
    chance, site = np.random.default_rng(0), make_site(0, 5)
    rows = chance.normal(-0.5, 2, size=(53, 5))
    rows[:11, 1] = np.nan  # of the first window, all
    rows[20:31, 2] = np.nan  # of the second window, many
    run = make_run([site], [of_rows(site, 0, rows[:11]), of_rows(site, 1, rows[11:41]), of_rows(site, 2, rows[41:])])
    units = run.units
    assert units["mean"].to_numpy() == pytest.approx(np.nanmean(rows, axis=0))
    assert units["std"].to_numpy() == pytest.approx(np.nanstd(rows, axis=0))
    assert units["magnitude"].to_numpy() == pytest.approx(np.nanmean(np.maximum(rows, 0), axis=0))
    assert units["peak"].to_numpy() == pytest.approx(np.nanmax(rows, axis=0))
    assert units["above"].to_numpy() == pytest.approx((rows > 2).mean(axis=0))
    assert units["nonfinite"].to_numpy() == pytest.approx(np.isnan(rows).mean(axis=0))
    last = run.layers.iloc[-1]
    assert last["mean"] == pytest.approx(rows[41:].mean())
    assert last["std"] == pytest.approx(rows[41:].std())
    assert last["sampled_rows"] == 12


def test_a_window_without_samples_takes_nothing_from_the_peak_of_the_others():
    site = make_site(0, 3)
    some = make_window(site, 0, 0, [[1, 1, 1]], peak=np.array([1.0, np.nan, 3.0]))
    none = make_window(site, 1, 1, [[1, 1, 1]], peak=np.full(3, np.nan), mean=np.full(3, np.nan), sampled_rows=0)
    units = make_run([site], [some, none]).units
    assert units["peak"].tolist()[::2] == [1.0, 3.0]
    assert np.isnan(units["peak"][1])
    assert units["mean"].tolist() == [-1.0] * 3
    assert make_run([site], [replace(none, peak=None)]).units["peak"].isna().all()


def test_a_net_that_diverged_makes_tables_without_a_warning():
    site = make_site(0, 5)
    mean = np.array([np.inf, -np.inf, 1e30, np.nan, 1.0])
    square = np.array([np.inf, np.inf, np.inf, np.nan, 2.0])
    one = make_window(site, 0, 0, [[1] * 5], mean=mean, square=square, nonfinite=ints([1, 1, 0, 11, 0]))
    two = replace(one, first_step=1, last_step=1, mean=-mean)
    run = make_run([site], [one, two])
    assert run.units["mean"][4] == 0.0
    assert run.layers["std"].tolist() == [1.0, 1.0], "of the one unit that has finite statistics"
    assert run.layers["nonfinite"].iloc[0] == pytest.approx(13 / 55)
    worst = make_window(site, 0, 0, [[1] * 5], mean=np.full(5, np.nan), square=np.full(5, np.nan))
    assert np.isnan(make_run([site], [worst]).layers["std"].iloc[0])


def test_histograms_have_the_edges_of_the_records_and_the_outputs_of_some():
    site = make_site(0, 3)
    counts = np.arange(BINS)
    window = make_window(site, 0, 4, [[1, 1, 1]] * 5, histogram=counts, output_histogram=counts[::-1].copy())
    table = make_run([site], [window]).histograms
    inputs, outputs = table[table["of"] == "input"], table[table["of"] == "output"]
    assert inputs["count"].tolist() == counts.tolist()
    assert outputs["count"].tolist() == counts[::-1].tolist()
    assert inputs["low"].tolist() == [-np.inf, *HISTOGRAM_EDGES]
    assert inputs["high"].tolist() == [*HISTOGRAM_EDGES, np.inf]
    below = inputs[inputs["high"] <= 0]
    assert below["high"].iloc[-1] == 0, "one edge is exactly 0"


def test_a_run_of_evaluation_passes_alone_is_told_by_them():
    site = make_site(0, 3)
    windows = [make_window(site, 0, 4, [[1, 1, 1]] * 5, phase="eval")]
    assert make_run([site], windows).phase == "eval"
    assert len(make_run([site], windows).units) == 3
    both = [*windows, make_window(site, 0, 9, [[1, 1, 1]] * 10)]
    assert make_run([site], both).phase == "train"
    assert make_run([site], both).layers["last_step"].tolist() == [9]
    assert EMPTY.phase == "train"


def test_reading_what_is_no_run_is_an_error(tmp_path):
    with pytest.raises(NotARunError):
        read_run(tmp_path)
