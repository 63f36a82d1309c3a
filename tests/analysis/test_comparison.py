"""Rates compared over seeds, exact by hand: which deaths count, where runs are read, and when no p is given."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from making import PROFILE, ends_every, lives, make_run, make_site, make_thresholds, make_ticks, make_windows

from deadneuron.analysis.comparison import compare
from deadneuron.analysis.outcomes import Outcome, outcome_of, read_at
from deadneuron.analysis.sweeptrial import as_json, summary, trial_of
from deadneuron.report.doses import bar, render_comparison, table_rows
from deadneuron.store.trials import read_trials, write_trial

FOLLOW = 10
LAST = 59
UNITS = 50


def outcome(lr, replicate, deaths=(), *, last=LAST, rates=None, losses=None, **changes):
    """deaths: (unit, first step, last silent step or None, born)."""
    made = [(u, f, np.iinfo(np.int64).max if end is None else end, born) for u, f, end, born in deaths]
    unit, first, ended, born = (np.array(column) for column in zip(*made, strict=True)) if made else ([],) * 4
    rates = np.full(last + 1, lr) if rates is None else np.asarray(rates, dtype=float)
    values = {
        "lr": lr,
        "replicate": replicate,
        "units": UNITS,
        "last_step": last,
        "follow": FOLLOW,
        "unit": np.array(unit, dtype=np.int64),
        "first": np.array(first, dtype=np.int64),
        "last": np.array(ended, dtype=np.int64),
        "born": np.array(born, dtype=bool),
        "rates": rates,
        "losses": np.full(last + 1, np.nan) if losses is None else np.asarray(losses, dtype=float),
        "diverged": False,
        "digest": f"{lr}-{replicate}",
    }
    return Outcome(**(values | changes))


def died(count, step=5):
    return [(unit, step, None, False) for unit in range(count)]


def doses_of(comparison, matching):
    return {dose.lr: dose for dose in comparison.doses if dose.matching == matching}


# ── reading one run ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_read_as_of_a_step():
    one = outcome(
        0.1,
        0,
        [
            (0, 0, None, True),  # born dead, for ever
            (1, 0, 19, True),  # born dead, back in step 20
            (2, 7, None, False),  # died
            (3, 7, 29, False),  # died, back in step 30
            (3, 40, None, False),  # and again
            (4, 30, None, False),
        ],
        losses=np.arange(LAST + 1),
    )
    expected = {
        6: (0, 0, 2),
        7: (2, 0, 4),
        19: (2, 0, 4),
        20: (2, 1, 3),
        29: (2, 1, 3),
        30: (3, 2, 3),
        40: (3, 2, 4),  # a unit that dies twice died once
    }
    for step, (dead_by, back, now) in expected.items():
        reading = read_at(one, step)
        assert (reading.died, reading.revived, reading.dead) == (dead_by / UNITS, back / UNITS, now / UNITS)
    assert read_at(one, 30).loss == np.mean(range(11, 31))
    assert read_at(one, 4).loss == 2
    assert read_at(one, 4, 30).loss == np.mean(range(11, 31))
    assert read_at(outcome(0.1, 0), 30).loss is None


def real_run(silent, *, steps=60, lr=0.1, losses=None, is_output=False, **changes):
    """Two sites of 3 and 5 units; the second may be the model's output."""
    thresholds = make_thresholds(patience=10, samples=20)
    sites = make_site(0, 3), make_site(1, 5, is_output=is_output)
    windows = [
        w
        for site in sites
        for w in make_windows(
            site, lives(site.units, steps, silent.get(site.number, {})), ends_every(5, steps), **changes
        )
    ]
    ticks = make_ticks([lr] * steps)
    if losses is not None:
        ticks = [replace(tick, loss=loss) for tick, loss in zip(ticks, losses, strict=True)]
    return make_run(sites, windows, ticks, thresholds=thresholds)


def test_a_runs_outcome_by_hand():
    run = real_run({0: {1: [(8, 59)]}, 1: {4: [(0, 29)], 2: [(3, 24)]}}, losses=np.arange(60.0))
    one = outcome_of(run, 0.3, 2)
    assert (one.lr, one.replicate, one.units, one.last_step, one.follow, one.diverged) == (0.3, 2, 8, 59, 10, False)
    spells = sorted(zip(one.unit.tolist(), one.first.tolist(), one.last.tolist(), one.born.tolist(), strict=True))
    assert spells == [(1, 7, np.iinfo(np.int64).max, False), (5, 2, 24, False), (7, 0, 29, True)]
    assert one.rate_sums[-1] == pytest.approx(6.0)
    assert one.losses.tolist() == list(range(60))


def test_a_layer_that_is_the_output_is_no_hidden_one():
    assert outcome_of(real_run({}, is_output=True), 0.1, 0).units == 3


def test_few_examples_a_step_make_a_death_known_later():
    assert outcome_of(real_run({}, samples=5), 0.1, 0).follow == 20  # 20 examples at 1 a step


def test_a_nan_at_the_end_is_a_divergence_and_skipped_steps_use_no_rate():
    run = real_run({}, losses=[1.0] * 30 + [math.nan] * 30)
    assert outcome_of(run, 0.1, 0).diverged
    assert not outcome_of(real_run({}, losses=[math.nan] * 30 + [1.0] * 30), 0.1, 0).diverged
    assert outcome_of(real_run({}), 0.1, 0, diverged=True).diverged
    ticks = [replace(t, skipped=t.step < 10) for t in make_ticks([0.1] * 60)]
    site = make_site(0, 3)
    skipped = make_run([site], make_windows(site, lives(3, 60, {}), ends_every(5, 60)), ticks)
    assert outcome_of(skipped, 0.1, 0).rate_sums[-1] == pytest.approx(5.0)


def test_equal_runs_have_equal_digests_and_others_not():
    one, same = outcome_of(real_run({}, losses=[1.0] * 60), 0.1, 0), outcome_of(real_run({}, losses=[1.0] * 60), 0.2, 3)
    other = outcome_of(real_run({}, losses=[1.0] * 59 + [1.1]), 0.1, 0)
    silent = outcome_of(real_run({0: {0: [(7, 9)]}}, losses=[1.0] * 60), 0.1, 0)
    assert one.digest == same.digest
    assert len({one.digest, other.digest, silent.digest}) == 3


def test_a_run_that_saw_nothing_has_no_outcome():
    assert outcome_of(make_run([make_site(0, 3)]), 0.1, 0) is None


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_runs_are_read_where_every_death_is_known():
    """Dated by the last step that leaves room for the patience: 49 of 59, and of runs that are longer too."""
    deaths = [(0, 49, None, False), (1, 50, None, False)]
    made = compare([outcome(0.1, 0, deaths), outcome(0.2, 0, deaths, last=200)], model="model", limit=0.15)
    assert {lr: (d.steps, d.died) for lr, d in doses_of(made, "steps").items()} == {
        0.1: ((49,), (1 / UNITS,)),
        0.2: ((49,), (1 / UNITS,)),
    }
    assert made.last_step == 59
    assert "runs have 60 to 201 steps" in made.notes[0]


def test_at_matched_sums_each_is_read_where_its_own_rates_add_up():
    warm = [0.0] * 20 + [0.4] * 40
    made = compare(
        [outcome(0.1, 0), outcome(0.2, 0, [(0, 24, None, False), (1, 25, None, False)]), outcome(0.4, 0, rates=warm)],
        model="model",
        limit=0.15,
    )
    assert made.rate_sum == pytest.approx(5.0)  # 50 steps of 0.1
    at = doses_of(made, "rate sum")
    assert {lr: dose.steps for lr, dose in at.items()} == {0.1: (49,), 0.2: (24,), 0.4: (32,)}
    assert at[0.2].died == (1 / UNITS,)
    assert doses_of(made, "steps")[0.2].died == (2 / UNITS,)
    assert at[0.4].highest == 0.4


def test_contrasts_by_hand():
    low = [outcome(0.1, seed, died(count)) for seed, count in enumerate((1, 2, 1, 2))]
    high = [outcome(0.2, seed, died(count)) for seed, count in enumerate((10, 20, 15, 15))]
    higher = [outcome(0.4, seed, died(count)) for seed, count in enumerate((1, 30, 35, 40))]
    made = compare([*higher, *low, *high], model="model", limit=0.15)
    deaths = {c.lr: c for c in made.contrasts if c.matching == "steps" and c.of == "deaths"}
    assert set(deaths) == {0.2, 0.4}
    assert {c.base for c in made.contrasts} == {0.1}
    assert deaths[0.2].ratio == pytest.approx(10.0)
    assert deaths[0.2].low < 10 < deaths[0.2].high
    assert deaths[0.2].p == pytest.approx(2 / 70)
    assert deaths[0.2].p_all == pytest.approx(4 / 70)
    assert deaths[0.4].p > 2 / 70
    assert deaths[0.4].smallest == pytest.approx(2 / 70)
    assert made.tests == 2
    revivals = [c for c in made.contrasts if c.of == "revivals"]
    assert {(c.ratio, c.p) for c in revivals} == {(None, 1.0)}
    assert (made.safe, made.over) == (0.1, 0.2)
    assert any("5 at each rate can give 0.016" in note for note in made.notes)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({0.1: 1, 0.2: 7, 0.4: 8}, (0.2, 0.4)),  # 7 of 50 = 14 %
        ({0.1: 1, 0.2: 1, 0.4: 1}, (0.4, None)),
        ({0.1: 9, 0.2: 1, 0.4: 9}, (None, 0.1)),
        ({0.1: 1, 0.2: 9, 0.4: 1}, (0.1, 0.2)),
    ],
)
def test_the_largest_rate_under_the_limit(counts, expected):
    made = compare([outcome(lr, 0, died(count)) for lr, count in counts.items()], model="model", limit=0.15)
    assert (made.safe, made.over) == expected


def test_runs_that_diverged_are_counted_apart():
    runs = [outcome(0.1, seed, died(seed)) for seed in range(3)]
    runs += [outcome(0.2, seed, died(1), diverged=seed == 0, last=3 if seed == 0 else LAST) for seed in range(3)]
    runs += [outcome(0.4, seed, diverged=True, last=2) for seed in range(3)]
    made = compare(runs, model="model", limit=0.15)
    doses = doses_of(made, "steps")
    assert (doses[0.2].diverged, len(doses[0.2].died)) == (1, 2)
    assert (doses[0.4].diverged, doses[0.4].died) == (3, ())
    assert {c.lr for c in made.contrasts} == {0.2}
    assert (made.safe, made.over) == (0.1, 0.2)
    assert any("counted apart" in note for note in made.notes)
    assert "+1 NaN" in render_comparison(made)


def test_identical_replicates_give_no_p_and_it_is_said_why():
    runs = [outcome(0.1, seed, died(1), digest="same") for seed in range(4)]
    runs += [outcome(lr, seed, died(9 + seed)) for lr in (0.2, 0.4) for seed in range(4)]
    made = compare(runs, model="model", limit=0.15)
    assert all(c.p is None and c.low is None and c.why == "identical replicates" for c in made.contrasts)
    assert any("identical" in note and "torch.Generator" in note for note in made.notes)
    assert made.tests == 0
    assert "p-value: identical replicates" in trial_of(made, "now").links[0].note


def test_one_seed_gives_no_p():
    made = compare([outcome(0.1, 0, died(1)), outcome(0.2, 0, died(9))], model="model", limit=0.15)
    assert {(c.p, c.low, c.why) for c in made.contrasts} == {(None, None, "one seed")}
    assert made.contrasts[0].ratio == pytest.approx(9.0)


def test_a_script_that_sets_its_own_rates_is_not_compared():
    made = compare([outcome(lr, 0, died(3), rates=[0.1] * 60) for lr in (0.1, 0.2)], model="model", limit=0.15)
    assert made.doses == made.contrasts == ()
    assert "sets its own" in made.notes[0]


def test_runs_shorter_than_the_patience_and_only_diverged_ones_are_not_compared():
    short = compare([outcome(0.1, 0), outcome(0.2, 0, last=9)], model="model", limit=0.15)
    assert short.doses == ()
    assert "10 steps" in short.notes[0]
    gone = compare([outcome(0.1, 0, diverged=True)], model="model", limit=0.15)
    assert gone.doses == ()
    assert "diverged" in gone.notes[0]
    assert compare([], model="model", limit=0.15).doses == ()
    for made in (short, gone):
        assert made.notes[0].split(":")[0] in " ".join(render_comparison(made).split())


def test_no_death_at_the_lowest_rate_still_gives_a_ratio():
    runs = [outcome(0.1, seed) for seed in range(4)] + [outcome(0.2, seed, died(5)) for seed in range(4)]
    made = compare(runs, model="model", limit=0.15)
    assert made.contrasts[0].ratio == pytest.approx((0.1 + 0.01) / 0.01)
    assert made.contrasts[0].p == pytest.approx(2 / 70)
    assert any("half a unit" in note for note in made.notes)


# ── what is made of it ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def made():
    runs = [
        outcome(lr, seed, died(count + seed), losses=[lr] * 60)
        for lr, count in ((0.1, 1), (0.2, 9))
        for seed in range(4)
    ]
    runs.append(outcome(0.2, 4, diverged=True, losses=[math.nan] * 60))
    return compare(runs, model="model", limit=0.15)


def test_a_trial_keeps_it_all_through_a_run_folder(made, tmp_path):
    trial = trial_of(made, "2026-11-25T12:00:00+00:00")
    write_trial(tmp_path, trial)
    gaps = []
    assert read_trials(tmp_path, gaps) == (trial,)
    assert gaps == []
    assert [link.of for link in trial.links] == ["deaths", "revivals"] * 2
    assert {link.evidence for link in trial.links} == {"sweep"}
    assert trial.links[0].p == made.contrasts[0].p
    assert trial.links[0].rate_ratio == made.contrasts[0].ratio
    assert (trial.safe, trial.over) == (0.1, 0.2)
    json.dumps(as_json(made), allow_nan=False)
    assert as_json(made)["doses"][0]["died"] == list(made.doses[0].died)


def test_the_text_shows_every_number_of_the_comparison(made):
    text = render_comparison(made, width=100)
    assert max(map(len, text.splitlines())) <= 140
    header, rows = table_rows(made, "steps")
    assert header[0] == "rate"
    assert [row[0] for row in rows] == ["0.1", "0.2"]
    assert rows[0][2] == "5.0 % (2.0–8.0)"
    assert rows[1][2] == "21 % (18–24)"
    assert rows[1][8].startswith("0.029 (0.029)")
    assert "AT THE SAME Σlr = 5" in text
    assert all(cell in text for row in rows for cell in row)
    assert "up to 0.1 fewer than 15 % of the units died; at 0.2 that was passed" in text
    assert summary(made)[0].startswith("rate 0.1, 4 seeds: 5.0 % of the units died by update 49")


def test_bars():
    assert [bar(share) for share in (0, 1e-6, 1 / 64, 0.5, 1.0)] == ["·", "▏", "▏", "████", "████████"]


def test_the_profile_has_the_limit():
    assert asdict(PROFILE.thresholds)["branch"] == 0.15


def test_where_all_runs_at_the_lowest_rate_diverged_the_next_one_is_the_base():
    doses = [(0.1, 3, True), (0.2, 1, False), (0.4, 9, False)]
    runs = [outcome(lr, seed, died(count + seed), diverged=gone) for lr, count, gone in doses for seed in range(3)]
    comparison = compare(runs, model="model", limit=0.15)
    assert [(c.lr, c.base) for c in comparison.contrasts] == [(0.4, 0.2)] * 4
    text = render_comparison(comparison)
    assert "against the lowest rate, 0.2," in text
    (_, _, above) = table_rows(comparison, "steps")[1]
    assert above[7:9] == ("5", "0.1 (0.1)")


def test_a_rate_whose_trainings_failed_is_told_and_is_not_safe():
    runs = [outcome(lr, seed, died(1)) for lr in (0.1, 0.2) for seed in range(3)]
    comparison = compare(runs, model="model", limit=0.15, failed={0.2: 1, 0.4: 2})
    assert [(dose.lr, len(dose.died), dose.failed) for dose in comparison.doses[:3]] == [
        (0.1, 3, 0),
        (0.2, 3, 1),
        (0.4, 0, 2),
    ]
    assert (comparison.safe, comparison.over) == (0.1, 0.2)
    text = render_comparison(comparison)
    assert "0 +2 failed" in text
    assert "trainings that ended without a result are in no mean: 1 at rate 0.2, 2 at rate 0.4" in text
    assert "rate 0.4: no training came to its end (0 diverged, 2 failed)" in summary(comparison)
    nothing = compare([], model="model", limit=0.15, failed={0.4: 2})
    assert (nothing.safe, nothing.doses) == (None, ())


def test_a_ratio_with_half_a_unit_is_marked_and_has_no_interval():
    runs = [outcome(lr, seed, died(count)) for lr, count in ((0.1, 0), (0.4, 5)) for seed in range(4)]
    comparison = compare(runs, model="model", limit=0.15)
    deaths = next(c for c in comparison.contrasts if c.of == "deaths")
    assert (deaths.halved, deaths.low, deaths.high) == (True, None, None)
    (_, above) = table_rows(comparison, "steps")[1]
    assert above[7].startswith("~")
    assert "half a unit is added on both sides" in render_comparison(comparison)
    kept = trial_of(comparison, "2024-02-29T12:00:00+00:00").summary
    assert kept
    assert not any(line.startswith("~") for line in kept), "a run's report shows no ratio that this could explain"


def test_where_no_p_is_given_the_legend_does_not_tell_of_one():
    comparison = compare([outcome(lr, 0, died(2)) for lr in (0.1, 0.4)], model="model", limit=0.15)
    assert "Mann-Whitney" not in render_comparison(comparison)


@pytest.mark.parametrize("width", [80, 100, 130])
def test_a_narrow_terminal_gets_fewer_columns(width):
    runs = [outcome(lr, seed, died(count + seed)) for lr, count in ((0.1, 1), (0.4, 9)) for seed in range(4)]
    comparison = compare(runs, model="model", limit=0.15)
    whole, fitting = (
        render_comparison(comparison, width=width, narrow=narrow).splitlines() for narrow in (False, True)
    )
    assert max(map(len, fitting)) <= width
    assert (max(map(len, whole)) <= width) == (fitting == whole) == (width == 130)
    for header in (line for line in fitting if "dead then" in line):
        assert "died" in header
        assert "deaths ×" in header
        assert "revivals ×" not in header or width == 130
