"""Certificates: last active step, update, rate, fall, reference batch, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from making import POSITIONS, ends_every, ints, lives, make_run, make_site, make_thresholds, make_ticks, make_windows

from deadneuron.analysis.certificates import certify
from deadneuron.analysis.diagnosis import diagnose
from deadneuron.records import Tick

STEPS, UNITS, DEATH = 400, 7, 173
THRESHOLDS = make_thresholds()
SITE = make_site(0, UNITS)


def planted(silent=None, *, fall=1, ticks=None, reference=(), thresholds=THRESHOLDS, fired=None, **info):
    """Unit 1 of 7 dies by update `DEATH`, `fall` steps after it was common; reference: (step, rows, rows of unit 1)."""
    silent = {1: [(DEATH + 1, STEPS - 1)]} if silent is None else silent
    windows = make_windows(SITE, fired or lives(UNITS, STEPS, silent), ends_every(50, STEPS))
    for place, window in enumerate(windows):
        if window.first_step <= DEATH <= window.last_step and fall is not None:
            common = window.last_common.copy()
            common[1] = DEATH + 1 - fall if DEATH + 1 - fall >= window.first_step else -1
            windows[place] = replace(window, last_common=common)
    for step, rows, hits in reference:
        active = ints([rows] * UNITS)
        active[1] = hits
        windows.append(replace(windows[0], phase="reference", last_step=step, active=active, rows=rows, samples=rows))
    return make_run(
        [SITE], windows, make_ticks([0.1] * STEPS) if ticks is None else ticks, thresholds=thresholds, **info
    )


def only(run, thresholds=THRESHOLDS):
    episodes = diagnose(run).episodes
    (made,) = certify(run, episodes, thresholds)
    return made


def test_a_certificate_says_when_at_which_rate_and_how_fast():
    made = only(planted(ticks=make_ticks([0.1 + step / 1000 for step in range(STEPS)])))
    assert (made.site, made.unit, made.cause) == (0, 1, "kick")
    assert (made.last_active, made.death, made.fall) == (DEATH, DEATH, 1)
    assert made.rate == 0.1 + DEATH / 1000
    assert made.rise == pytest.approx((0.1 + DEATH / 1000) / (0.1 + (DEATH - THRESHOLDS.patience) / 1000))
    assert made.on_reference is None


@pytest.mark.parametrize(
    ("fall", "cause"), [(1, "kick"), (5, "kick"), (6, "unknown"), (9, "unknown"), (10, "gradual"), (24, "gradual")]
)
def test_the_fall_tells_a_kick_from_what_was_gradual(fall, cause):
    made = only(planted(fall=fall))
    assert (made.fall, made.cause) == (fall, cause)


def test_the_fall_reaches_back_over_windows():
    made = only(planted(fall=60))  # the last common step that is noted is that of the window before: step 149
    assert made.fall == DEATH + 1 - 149
    assert made.cause == "gradual"


@pytest.mark.parametrize(
    ("rates", "cause"),
    [
        (lambda s: 0.1, "kick"),  # as high as it ever was
        (lambda s: 1.0 if s < 100 else 0.5, "kick"),  # half of the highest
        (lambda s: 1.0 if s < 50 else 0.49, "unknown"),
        (lambda s: 1.0 if s < 50 else 0.2 if s < 168 else 0.31, "kick"),  # it had risen by half
        (lambda s: 1.0 if s < 50 else 0.2 if s < 168 else 0.29, "unknown"),
        (lambda s: 1.0 if s < 50 or DEATH - 3 <= s < DEATH else 0.1, "kick"),  # a few steps after a rise
        (lambda s: 1.0 if s < 50 or DEATH - 9 <= s < DEATH - 5 else 0.1, "unknown"),  # too long after
        (lambda s: 0.0 if s < DEATH else 0.1, "kick"),
    ],
)
def test_a_kick_takes_a_high_rate_or_one_that_had_risen(rates, cause):
    assert only(planted(ticks=make_ticks([rates(step) for step in range(STEPS)]))).cause == cause


def test_a_dither_is_no_rise():
    def tick(step, factor):
        return Tick(step, 0.0, (0.1 * factor,), multipliers=(factor,))

    falling = [tick(s, 1.5 if s % 2 else 0.5) for s in range(STEPS)]
    made = only(planted(ticks=falling))
    assert made.rate == pytest.approx(0.1 * (1.5 if DEATH % 2 else 0.5))
    assert made.rise == pytest.approx(1.0)


def test_a_skipped_step_did_not_kill():
    ticks = make_ticks([0.1 if step < DEATH + 2 else 0.2 for step in range(STEPS)])
    ticks[DEATH], ticks[DEATH + 1] = (replace(ticks[s], skipped=True) for s in (DEATH, DEATH + 1))
    made = only(planted(ticks=ticks))
    assert (made.last_active, made.death, made.rate) == (DEATH, DEATH + 2, 0.2)


def test_without_a_rate_nothing_is_said_of_a_kick():
    made = only(planted(ticks=make_ticks([math.nan] * STEPS)))
    assert (made.cause, made.death, made.rate, made.rise) == ("unknown", None, None, None)
    assert only(planted(ticks=[])).cause == "unknown"


@pytest.mark.parametrize(
    ("reference", "share", "cause"),
    [
        ([(99, 251, 200), (199, 251, 3), (249, 251, 0)], 3 / 251, "data shift"),
        ([(99, 251, 200), (199, 251, 2), (249, 251, 200)], 2 / 251, "kick"),  # 2 rows of 251 are below the cut-off
        ([(99, 251, 200), (199, 251, 0)], 0.0, "kick"),
        ([(99, 251, 200), (DEATH, 251, 200), (249, 251, 0)], 0.0, "kick"),  # the weights of that step still fired
        # A pass that follows closely may still have the healthy weights of a unit that fires seldom.
        ([(DEATH + 9, 251, 200), (249, 251, 0)], 0.0, "kick"),
        ([(DEATH + 10, 251, 200), (249, 251, 0)], 200 / 251, "data shift"),
        ([(99, 251, 200), (DEATH + 9, 251, 200)], None, "kick"),
        ([(99, 251, 200)], None, "kick"),  # not looked at since
    ],
)
def test_the_first_pass_of_the_reference_after_the_death_tells_of_a_data_shift(reference, share, cause):
    made = only(planted(reference=reference))
    assert (made.on_reference, made.cause) == (share, cause)


@pytest.mark.parametrize(
    ("unseen", "fall", "cause"),
    [
        (range(DEATH + 1, DEATH + 40), 1, "unknown"),  # a pause: it fell within 1 to 40 steps
        (range(DEATH + 1, DEATH + 3), 1, "kick"),  # within 3 at most
        (range(DEATH - 20, DEATH - 10), 1, "unknown"),  # which steps of a window were not seen is not known
        (range(110, 130), 1, "kick"),  # in the window before the one of the fall
        (range(DEATH - 8, DEATH - 4), 12, "unknown"),  # it may have been common in these
        (range(DEATH - 8, DEATH - 6), 12, "gradual"),
        ([s for s in range(STEPS) if s % 20 != DEATH % 20], 1, "unknown"),  # an evaluation now and then
    ],
)
def test_what_was_not_seen_is_not_taken_for_a_fall_or_for_silence(unseen, fall, cause):
    fired = lives(UNITS, STEPS, {1: [(DEATH + 1, STEPS - 1)]})
    seen = [None if step in unseen else row for step, row in enumerate(fired)]
    made = only(planted(fall=fall, fired=seen, thresholds=make_thresholds(patience=10, samples=30)))
    assert (made.last_active, made.fall, made.cause) == (DEATH, fall, cause)


def test_a_site_that_was_seen_in_no_step_of_a_window():
    windows = planted()._stored.windows
    lost = [window for window in windows if window.first_step != 150]  # dead from the one before on
    made = only(make_run([SITE], lost, make_ticks([0.1] * STEPS)))
    assert (made.last_active, made.fall, made.cause) == (149, 1, "unknown")


def test_a_data_shift_is_told_whatever_the_fall():
    assert only(planted(fall=20, reference=[(199, 101, 50)])).cause == "data shift"


def test_a_unit_that_never_fired_on_enough_rows_gets_no_certificate():
    bound = THRESHOLDS.established * 11 * POSITIONS  # rows a step

    def fired(rows):
        return [
            [rows if unit == 1 and step <= DEATH else 0 if unit == 1 else 9 for unit in range(UNITS)]
            for step in range(STEPS)
        ]

    assert certify(planted(fired=fired(1)), diagnose(planted(fired=fired(1))).episodes, THRESHOLDS)
    higher = make_thresholds(established=1 / (11 * POSITIONS))
    run = planted(fired=fired(1), thresholds=higher)
    assert bound < 1
    assert diagnose(run).episodes
    assert certify(run, diagnose(run).episodes, higher) == ()


def test_born_dead_units_have_certificates_without_a_death():
    made = only(planted({3: [(0, STEPS - 1)]}, reference=[(0, 101, 7)]))
    assert (made.unit, made.cause, made.last_active, made.death, made.rate, made.fall) == (3, "born dead", *[None] * 4)
    assert made.on_reference == 1.0


def test_a_relapse_is_certified_by_what_the_unit_did_since_it_revived():
    silent = {1: [(20, 189), (231, STEPS - 1)]}
    run = planted(silent, fall=None)
    first, second = certify(run, diagnose(run).episodes, THRESHOLDS)
    assert (first.last_active, second.last_active) == (19, 230)
    assert (first.fall, second.fall) == (1, 1)
    # If it was not common since, its fall is not told from the time before.
    windows = [replace(w, last_common=ints([-1] * UNITS)) if w.first_step >= 150 else w for w in run._stored.windows]
    later = make_run([SITE], windows, make_ticks([0.1] * STEPS))
    _, second = certify(later, diagnose(later).episodes, THRESHOLDS)
    assert (second.fall, second.cause) == (None, "unknown")


def test_an_older_run_that_noted_no_common_steps_is_unknown():
    run = planted()
    windows = [replace(window, last_common=None) for window in run._stored.windows]
    made = only(make_run([SITE], windows, make_ticks([0.1] * STEPS)))
    assert (made.cause, made.fall, made.rate) == ("unknown", None, 0.1)


def test_every_death_of_an_established_unit_is_certified_once():
    silent = {u: [(60 + 31 * u, STEPS - 1)] for u in range(5)} | {5: [(0, STEPS - 1)]}
    diagnosis = diagnose(planted(silent, fall=None))
    episodes = {(e.unit, None if e.born else e.first_step) for e in diagnosis.episodes}
    assert {(c.unit, c.last_active) for c in diagnosis.certificates} == episodes
    assert len(diagnosis.certificates) == 6
