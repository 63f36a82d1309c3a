"""Each sign on a planted series, and near misses that must not show it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from making import ends_every, ints, lives, make_run, make_site, make_ticks, make_windows

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.series import dormant, saturated, trend
from deadneuron.records import BINS, HISTOGRAM_EDGES, ZERO_BIN
from deadneuron.states import make_timeline

UNITS, STEPS = 29, 300
ROWS = 33  # of a made window's step


def judged(windows, site, ticks=None):
    return diagnose(make_run([site], windows, make_ticks([0.1] * STEPS) if ticks is None else ticks))


def codes(diagnosis):
    return {finding.code for finding in diagnosis.findings}


def only(diagnosis, code):
    (finding,) = [finding for finding in diagnosis.findings if finding.code == code]
    return finding


def windows_of(site, fired=None, change=lambda index, window: {}):
    """Six windows of units that all fire in every step, each changed by hand."""
    fired = fired if fired is not None else [[20] * site.units] * STEPS
    made = make_windows(site, fired, ends_every(50, STEPS))
    return [replace(window, **change(index, window)) for index, window in enumerate(made)]


def histogram(at_zero, values=10_000, above=1.5):
    counts = np.zeros(BINS, dtype=np.int64)
    counts[ZERO_BIN - 3] = round(at_zero * values)
    counts[int(np.searchsorted(HISTOGRAM_EDGES, above))] += values - round(at_zero * values)
    return counts


# ── a spike at zero that never shifts ────────────────────────────────────────────────────────────────────────────────

SITE = make_site(0, UNITS)
HELD = {unit: [(0, STEPS - 1)] for unit in range(7)}  # 7 of 29 never fire


def test_a_spike_that_stays_and_is_held_by_silent_units_is_found_with_its_effect():
    windows = windows_of(SITE, lives(UNITS, STEPS, HELD), lambda i, w: {"histogram": histogram(0.8 + 0.01 * (i % 2))})
    finding = only(judged(windows, SITE), "spike-at-zero")
    assert finding.evidence["held"] == 7
    assert finding.evidence["share_at_zero"] == pytest.approx([0.80, 0.81])
    assert finding.evidence["shift"] < 0.01
    assert finding.evidence["window"] == [150, 299]
    assert "80%–81% of its outputs are 0" in finding.text
    assert finding.level == "note", "all of them are born dead: that finding says it"


def test_units_that_died_make_the_spike_a_warning():
    died = {unit: [(20, STEPS - 1)] for unit in range(7)}
    windows = windows_of(SITE, lives(UNITS, STEPS, died), lambda i, w: {"histogram": histogram(0.8)})
    finding = only(judged(windows, SITE), "spike-at-zero")
    assert (finding.level, finding.advice) == ("warning", "")


@pytest.mark.parametrize(
    ("fired", "change"),
    [
        (None, lambda i, w: {"histogram": histogram(0.97)}),  # a sparse layer, every unit alive
        (HELD, lambda i, w: {"histogram": histogram(0.45)}),  # hardly a spike
        (HELD, lambda i, w: {"histogram": histogram(0.6 + 0.07 * i)}),  # a spike that grows
        (HELD, lambda i, w: {"histogram": histogram(0.8, above=2.0**i / 16)}),  # the rest of it moves
    ],
    ids=["sparse", "small", "growing", "moving"],
)
def test_near_misses_of_a_spike(fired, change):
    windows = windows_of(SITE, lives(UNITS, STEPS, fired) if fired else None, change)
    assert "spike-at-zero" not in codes(judged(windows, SITE))


def test_an_activation_that_does_not_rectify_has_no_spike():
    site = make_site(0, UNITS, op="GELU", gate=(-3.9, math.inf))
    windows = windows_of(site, lives(UNITS, STEPS, HELD), lambda i, w: {"histogram": histogram(0.9)})
    assert "spike-at-zero" not in codes(judged(windows, site))


def test_the_noise_of_few_values_is_no_shift():
    """Histograms of 200 values differ by chance alone; those of 200,000 that differ as much have shifted."""
    chance = np.random.default_rng(0)
    shares = np.r_[0.6, np.full(20, 0.02)]

    def drawn(scale):
        def change(i, w):
            counts = np.zeros(BINS, dtype=np.int64)
            counts[ZERO_BIN : ZERO_BIN + 21] = chance.multinomial(200, shares) * scale
            return {"histogram": counts}

        return change

    fired = lives(UNITS, STEPS, HELD)
    assert "spike-at-zero" in codes(judged(windows_of(SITE, fired, drawn(1)), SITE))
    assert "spike-at-zero" not in codes(judged(windows_of(SITE, fired, drawn(1000)), SITE))


# ── a mean activation that trends to zero ────────────────────────────────────────────────────────────────────────────


def fading(*sizes):
    def change(i, w):
        return {"magnitude": np.full(UNITS, sizes[i])}

    return windows_of(SITE, change=change)


def test_a_mean_activation_that_falls_steadily_by_half_is_found_with_slope_and_interval():
    finding = only(judged(fading(1.0, 0.85, 0.7, 0.55, 0.4, 0.25), SITE), "fading")
    assert finding.evidence["fall"] == pytest.approx(1 - 0.325 / 0.925)
    assert finding.evidence["slope"] == pytest.approx(-0.15 / 50)
    low, high = finding.evidence["interval"]
    assert low <= -0.15 / 50 <= high < 0
    assert "fell by 65%" in finding.text


@pytest.mark.parametrize(
    "sizes",
    [
        (1.0, 0.95, 0.9, 0.85, 0.8, 0.75),  # a steady fall, and a small one
        (1.0, 1.0, 1.0, 1.0, 1.0, 0.1),  # one low window
        (1.0, 0.2, 1.1, 0.25, 0.9, 0.3),  # no trend
        (0.2, 0.4, 0.6, 0.8, 1.0, 1.2),  # a rise
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),  # nothing at all
        (3.0, 0.5, 0.5, 0.51, 0.49, 0.5),  # the first window only: the initialization
    ],
    ids=["small", "one window", "noise", "rise", "nothing", "start"],
)
def test_near_misses_of_fading(sizes):
    assert "fading" not in codes(judged(fading(*sizes), SITE))


def test_a_short_run_has_no_trend():
    windows = fading(1.0, 0.8, 0.6, 0.4, 0.2, 0.1)
    assert trend(make_timeline(SITE, windows[:5])) is None
    assert trend(make_timeline(SITE, windows)).windows == 6


# ── saturation ───────────────────────────────────────────────────────────────────────────────────────────────────────


def flat(site, inside, above):
    """Windows in which that share of rows is inside the gate, and that share at or above its upper end."""

    def change(i, w):
        active = np.full(site.units, round(inside * w.rows))
        return {"active": ints(active), "above": ints(np.full(site.units, round(above * w.sampled_rows)))}

    return windows_of(site, change=change)


TANH = make_site(0, UNITS, op="Tanh", gate=(-4.1, 4.1))
RELU6 = make_site(0, UNITS, op="ReLU6", gate=(0.0, 6.0))


def test_saturation_counts_both_ends_of_tanh_and_the_upper_one_of_relu6():
    finding = only(judged(flat(TANH, 0.4, 0.25), TANH), "saturated")
    assert finding.evidence["saturated"] == pytest.approx(0.6, abs=0.01)
    assert finding.evidence["above"] == pytest.approx(0.25, abs=0.01)
    assert finding.evidence["below"] == pytest.approx(0.35, abs=0.01)
    finding = only(judged(flat(RELU6, 0.1, 0.7), RELU6), "saturated")
    assert (finding.evidence["below"], finding.evidence["above"]) == (0.0, pytest.approx(0.7, abs=0.01))


@pytest.mark.parametrize(
    ("site", "inside", "above"),
    [
        (TANH, 0.6, 0.2),
        (RELU6, 0.1, 0.2),  # 70 % at zero: what a rectifier is for
        (SITE, 0.05, 0.0),  # ReLU has no flat end but zero
        (make_site(0, UNITS, op="LogSigmoid", gate=(-math.inf, 6.9)), 0.2, 0.8),  # one end only
    ],
    ids=["little", "relu6 at zero", "relu", "one end"],
)
def test_near_misses_of_saturation(site, inside, above):
    assert "saturated" not in codes(judged(flat(site, inside, above), site))


def test_saturation_is_told_of_gates_with_two_ends_only():
    windows = flat(TANH, 0.4, 0.25)
    assert saturated(windows, (0.0, math.inf)) is None
    assert sum(saturated(windows, (-4.1, 4.1))) == pytest.approx(0.6, abs=0.01)


# ── rare, specialised, dormant, sparse ───────────────────────────────────────────────────────────────────────────────


def sparse(rates, peaks=None, magnitudes=None):
    """Units that are active on these shares of rows; 20,000 rows a window, so that 0.4 % is a count."""
    rows = 20_000

    def change(i, w):
        active = ints(round(rate * rows) for rate in rates)
        last = np.where(active > 0, w.last_step, -1)
        changes = {"rows": rows, "active": active, "last_active": last, "first_active": np.where(active > 0, 0, -1)}
        changes["histogram"] = histogram(1 - float(np.mean(rates)))
        changes["magnitude"] = np.array(magnitudes if magnitudes is not None else rates) * 1.0
        changes["peak"] = np.array(peaks if peaks is not None else np.full(len(rates), 0.5))
        return changes

    site = make_site(0, len(rates))
    return site, windows_of(site, change=change)


def test_a_healthy_sparse_layer_is_not_flagged_at_all():
    site, windows = sparse([0.03] * UNITS)
    diagnosis = judged(windows, site)
    assert diagnosis.status == "healthy"
    assert diagnosis.findings == ()
    verdict = diagnosis.verdicts[0]
    assert (verdict.dead, verdict.silent, verdict.rare, verdict.dormant) == (0, 0, 0, 0)


def test_rare_units_are_a_note_and_the_strong_ones_among_them_are_specialised():
    # Usual units give 1.0 on average when they fire; unit 25 peaks at 0.2, unit 26 at 3.0, unit 27 was never sampled.
    rates = [0.3] * 25 + [0.004, 0.004, 0.004, 0.2]
    site, windows = sparse(rates, peaks=[2.0] * 25 + [0.2, 3.0, -0.5, 2.0])
    diagnosis = judged(windows, site)
    assert (diagnosis.verdicts[0].rare, diagnosis.verdicts[0].specialised) == (3, 1)
    finding = only(diagnosis, "rare")
    assert finding.level == "note"
    assert "(1 of them specialised" in finding.text
    assert diagnosis.status == "healthy"


def test_dormant_units_are_counted_beside_dead_ones_and_never_mixed():
    rates = [0.3] * 20 + [0.2] * 9
    site, windows = sparse(rates, magnitudes=[1.0] * 20 + [0.0] * 4 + [0.001] * 5)
    verdict = judged(windows, site).verdicts[0]
    assert (verdict.dormant, verdict.dead, verdict.silent) == (9, 0, 0)
    assert dormant(windows, 0.0) == 4, "tau 0 wants a mean of exactly zero"


def test_of_a_layer_that_is_all_zeros_every_unit_is_dormant():
    _, windows = sparse([0.3] * 5, magnitudes=[0.0] * 5)
    assert dormant(windows, 0.025) == 5


# ── fallen silent, not yet dead ──────────────────────────────────────────────────────────────────────────────────────


def test_a_layer_that_fell_silent_a_moment_ago_is_not_healthy():
    fired = lives(UNITS, STEPS, {unit: [(230, STEPS - 1)] for unit in range(UNITS)})
    diagnosis = judged(make_windows(SITE, fired, ends_every(50, STEPS)), SITE)
    assert diagnosis.status == "unknown"
    finding = only(diagnosis, "silent")
    assert (finding.evidence["silent"], finding.evidence["dead"]) == (UNITS, 0)
    assert f"{UNITS} of {UNITS} units (100%) have fallen silent" in finding.text


def test_one_silent_unit_of_many_leaves_a_layer_healthy():
    fired = lives(UNITS, STEPS, {0: [(230, STEPS - 1)], 1: [(230, STEPS - 1)]})
    diagnosis = judged(make_windows(SITE, fired, ends_every(50, STEPS)), SITE)
    assert (diagnosis.status, diagnosis.verdicts[0].silent) == ("healthy", 2)


def test_a_threshold_whose_floor_is_not_zero_has_no_spike_at_zero():
    outputs = tuple(edge if edge > 0 else -1.0 for edge in HISTOGRAM_EDGES.tolist())
    site = make_site(0, UNITS, op="Threshold", outputs=outputs)
    windows = windows_of(site, lives(UNITS, STEPS, HELD), lambda i, w: {"histogram": histogram(0.9)})
    assert "spike-at-zero" not in codes(judged(windows, site))


def test_shares_at_flat_ends_never_exceed_what_lies_outside():
    """Steps with full statistics may be unlike the others: here all that they saw lay above."""
    finding = only(judged(flat(TANH, 0.45, 1.0), TANH), "saturated")
    assert finding.evidence["saturated"] == pytest.approx(0.55, abs=0.01)
    assert finding.evidence["above"] == pytest.approx(0.55, abs=0.01)
    assert finding.evidence["below"] == pytest.approx(0.0, abs=0.01)
