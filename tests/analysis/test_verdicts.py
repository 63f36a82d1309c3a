"""One site, judged: counts that add up, and a status that is never better than what was seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from making import ends_every, ints, lives, make_run, make_site, make_thresholds, make_ticks, make_windows
from spells import World, told_episodes, worlds

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.gravity import fails
from deadneuron.analysis.verdicts import share_history
from deadneuron.profiles import load_profile
from deadneuron.records import Coverage, Gap
from deadneuron.states import make_timeline

STEPS = 300
WINDOW = 50


def judged(silent, *, units=20, steps=STEPS, length=WINDOW, change=lambda windows: windows, run=None, **thresholds):
    """The diagnosis of one site whose units are silent in the given spells."""
    site = make_site(0, units)
    windows = change(make_windows(site, lives(units, steps, silent), ends_every(length, steps)))
    return diagnose(make_run([site], windows, make_ticks([0.1] * steps), thresholds=make_thresholds(**thresholds)))


def one(silent, **more):
    return judged(silent, **more).verdicts[0]


def dying(count, step=100, steps=STEPS):
    return {unit: [(step + 1, steps - 1)] for unit in range(count)}


@settings(max_examples=200, deadline=None)
@given(world=worlds(most_units=5))
def test_counts_add_up_and_are_those_of_the_oracle(world: World):
    run = make_run([world.site], world.windows(), thresholds=world.thresholds)
    diagnosis = diagnose(run)
    verdict = diagnosis.verdicts[0]
    told = [episode for unit in range(world.site.units) for episode in told_episodes(world, unit)]
    lasting = [episode for episode in told if episode.last_step is None]
    assert verdict.dead == verdict.born_dead + verdict.died == len(lasting)
    assert verdict.born_dead == sum(episode.state == "born dead" for episode in lasting)
    assert verdict.revived == len(told) - len(lasting)
    assert 0 <= verdict.closed_above <= verdict.dead
    assert verdict.dead + verdict.silent + verdict.rare <= verdict.units == world.site.units
    deaths = sorted(episode.first_step for episode in lasting if episode.state != "born dead")
    assert verdict.since == (deaths[(len(deaths) - 1) // 2] if deaths else None)
    assert verdict.window == (world.seen[0][0], world.seen[-1][1])
    if lasting:
        assert verdict.samples == min(episode.samples for episode in lasting) >= world.thresholds.samples
        assert verdict.bound == min(1.0, 3 / verdict.samples)
    history = diagnosis.history[0]
    assert history.dead[-1] * verdict.units == pytest.approx(verdict.dead)
    assert history.silent[-1] * verdict.units == pytest.approx(verdict.silent)
    assert history.rare[-1] * verdict.units == pytest.approx(verdict.rare)
    assert history.steps == tuple(end for _, end, _ in world.seen)
    codes = {finding.code for finding in diagnosis.findings}
    assert ("stuck" in codes) == verdict.stuck
    assert (verdict.status == "healthy") <= (codes <= {"born-dead", "rare", "no-steps"}), (
        "a healthy site with a warning"
    )


def test_a_layer_whose_units_all_fire_is_healthy():
    diagnosis = judged({})
    assert diagnosis.status == "healthy"
    assert diagnosis.findings == ()
    verdict = diagnosis.verdicts[0]
    assert (verdict.dead, verdict.born_dead, verdict.died, verdict.silent, verdict.rare) == (0, 0, 0, 0, 0)
    assert (verdict.since, verdict.rate) == (None, None)
    assert verdict.samples == 11 * 100, "the examples of the last patience"


@pytest.mark.parametrize(("units", "died", "status"), [(20, 1, "healthy"), (20, 2, "warning"), (30, 3, "warning")])
def test_the_warning_comes_at_exactly_its_share(units, died, status):
    diagnosis = judged(dying(died), units=units)
    assert diagnosis.verdicts[0].died == died
    assert diagnosis.verdicts[0].status == status
    assert [finding.code for finding in diagnosis.findings] == (["dying"] if status == "warning" else [])


@pytest.mark.parametrize("share", [0.02, 0.07, 0.1, 0.14, 0.28, 0.29, 0.55, 0.57])
def test_a_share_of_exactly_the_threshold_warns_and_one_unit_less_does_not(share):
    """0.07 × 100 is more than 7 in floating point."""
    count = round(share * 100)
    assert one(dying(count), units=100, warning=share, severe=1.0).status == "warning"
    assert [f.code for f in judged(dying(count), units=100, warning=share, severe=1.0).findings] == ["dying"]
    assert one(dying(count - 1), units=100, warning=share, severe=1.0).status == "healthy"


def test_units_born_dead_are_told_and_do_not_warn():
    diagnosis = judged({unit: [(0, STEPS - 1)] for unit in range(6)})
    verdict = diagnosis.verdicts[0]
    assert (verdict.dead, verdict.born_dead, verdict.died, verdict.status) == (6, 6, 0, "healthy")
    assert [(f.code, f.level) for f in diagnosis.findings] == [("born-dead", "note")]
    assert not fails(diagnosis, "warning")
    assert fails(diagnosis, "note")


def test_units_that_revived_are_no_deaths_at_the_end():
    verdict = one({unit: [(20, 180)] for unit in range(15)})
    assert (verdict.dead, verdict.died, verdict.revived, verdict.status) == (0, 0, 15, "healthy")


# ── stuck ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stuck_is_half_of_a_layer_dead_through_the_last_three_windows():
    # Silent from step 51 on: dead at the ends of the windows 199, 249 and 299 (and at 149 with 99 silent steps not).
    diagnosis = judged(dying(10, step=50))
    verdict = diagnosis.verdicts[0]
    assert verdict.stuck
    assert verdict.status == diagnosis.status == "severe"
    assert [(f.code, f.level) for f in diagnosis.findings] == [("stuck", "severe")]


def test_one_unit_less_than_half_is_not_stuck():
    assert not one(dying(9, step=50)).stuck
    assert not one(dying(10, step=50), units=21).stuck


def test_dead_through_only_two_windows_is_not_stuck_yet():
    verdict = one(dying(10, step=100))
    assert verdict.died == 10
    assert not verdict.stuck
    assert verdict.status == "warning"


def test_dead_in_the_last_windows_but_not_at_the_end_is_not_stuck():
    silent = {unit: [(51, 290), (292, 299)] for unit in range(10)}
    assert not one(silent).stuck


def test_a_last_window_cut_short_does_not_shorten_the_three():
    # 303 steps: the windows that reach into the last 150 steps end at 199, 249, 299 and 302.
    assert one(dying(10, step=50, steps=303), steps=303).stuck
    assert not one(dying(10, step=100, steps=303), steps=303).stuck, "199 is one of them"


def test_units_born_dead_count_towards_stuck():
    silent = {unit: [(0, STEPS - 1)] for unit in range(10)}
    diagnosis = judged(silent)
    assert diagnosis.verdicts[0].stuck
    assert [f.code for f in diagnosis.findings] == ["stuck"]
    assert "initialization" in diagnosis.findings[0].advice
    assert "(10 born dead, 0 died)" in diagnosis.findings[0].text


# ── closed above, NaN ────────────────────────────────────────────────────────────────────────────────────────────────


def test_units_stuck_at_the_upper_end_of_their_gate_are_part_of_the_dead():
    def change(windows):
        def above(rows):  # all of unit 0's rows, half of unit 1's, most of unit 2's, all of unit 3's, which lives
            return ints([rows, rows // 2, rows * 2 // 3, rows] + [0] * 16)

        return [replace(w, above=above(w.sampled_rows)) for w in windows]

    verdict = one(dying(3), change=change)
    assert (verdict.dead, verdict.closed_above) == (3, 2)


def test_rows_above_while_a_unit_still_fired_do_not_make_it_closed_above():
    def change(windows):
        early = [
            replace(w, above=np.full(20, 7 * w.sampled_rows), sampled_rows=7 * w.sampled_rows) for w in windows[:3]
        ]
        return early + windows[3:]

    verdict = one(dying(3), change=change)
    assert (verdict.dead, verdict.closed_above) == (3, 0)


def test_nan_at_the_end_is_severe_and_nan_long_ago_is_not():
    def late(windows):
        return [*windows[:-1], replace(windows[-1], first_nonfinite=ints([-1, 260] + [-1] * 18))]

    def early(windows):
        return [replace(windows[0], first_nonfinite=ints([-1, 7] + [-1] * 18)), *windows[1:]]

    diagnosis = judged({}, change=late)
    assert diagnosis.verdicts[0].nonfinite == 1
    assert diagnosis.status == "severe"
    assert [f.code for f in diagnosis.findings] == ["nonfinite"]
    assert judged({}, change=early).verdicts[0].nonfinite == 0
    assert judged({}, change=early).status == "healthy"


# ── what was not seen long enough ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("steps", "status"), [(99, "unknown"), (100, "healthy")])
def test_a_run_shorter_than_the_patience_is_unknown(steps, status):
    diagnosis = judged({}, steps=steps)
    assert diagnosis.status == diagnosis.verdicts[0].status == status
    assert [f.code for f in diagnosis.findings] == (["too-short"] if status == "unknown" else [])


def test_too_few_examples_are_unknown_even_over_many_steps():
    assert one({}, samples=11 * STEPS).status == "healthy"
    assert one({}, samples=11 * STEPS + 1).status == "unknown"


def test_a_short_run_tells_what_is_silent_so_far():
    diagnosis = judged({0: [(0, 59)]}, steps=60)
    assert diagnosis.verdicts[0].silent == 1
    assert diagnosis.verdicts[0].dead == 0
    assert "1 of 20 units (5%) silent so far, n = 660" in diagnosis.findings[0].text


def two_sites(steps=STEPS, until=149):
    """Two layers, the second of which is not seen after a step."""
    sites = [make_site(0, 5), make_site(1, 7)]
    windows = make_windows(sites[0], lives(5, steps, {}), ends_every(WINDOW, steps))
    windows += make_windows(sites[1], lives(7, until + 1, {}), ends_every(WINDOW, until + 1))
    return make_run(sites, windows, make_ticks([0.1] * steps))


def test_a_site_that_was_lost_is_unknown_and_told():
    diagnosis = diagnose(two_sites())
    assert [v.status for v in diagnosis.verdicts] == ["healthy", "unknown"]
    assert diagnosis.status == "unknown"
    assert [(f.code, f.where) for f in diagnosis.findings] == [("lost", "layer1")]
    assert diagnosis.findings[0].evidence == {"last_seen": 149, "last_step": 299}
    assert diagnose(two_sites(until=249)).status == "healthy", "only 50 steps ago"


def test_all_sites_lost_are_unknown_too_though_the_steps_went_on():
    site = make_site(0, 5)
    windows = make_windows(site, lives(5, 150, {}), ends_every(WINDOW, 150))
    diagnosis = diagnose(make_run([site], windows, make_ticks([0.1] * 1000)))
    assert diagnosis.last_step == 999
    assert diagnosis.status == "unknown"
    assert [f.code for f in diagnosis.findings] == ["lost"]


def test_evaluation_passes_long_ago_are_not_lost():
    site = make_site(0, 5)
    windows = make_windows(site, lives(5, 150, {}), ends_every(WINDOW, 150), phase="eval")
    diagnosis = diagnose(make_run([site], windows, make_ticks([0.1] * 1000)))
    assert diagnosis.status == "healthy"
    assert diagnosis.last_step == 149


def test_ticks_that_reach_less_than_a_patience_beyond_the_windows_lose_nothing():
    site = make_site(0, 5)
    windows = make_windows(site, lives(5, 150, {}), ends_every(WINDOW, 150))
    assert diagnose(make_run([site], windows, make_ticks([0.1] * 249))).status == "healthy"
    assert diagnose(make_run([site], windows, make_ticks([0.1] * 250))).status == "unknown"


def test_a_module_that_was_never_called_makes_the_run_unknown():
    site = make_site(0, 5)
    windows = make_windows(site, lives(5, STEPS, {}), ends_every(WINDOW, STEPS))
    diagnosis = diagnose(make_run([site], windows, make_ticks([0.1] * STEPS), modules=("layer0", "head.act")))
    assert diagnosis.status == "unknown"
    assert diagnosis.coverage == Coverage(1, 2, ("head.act",))
    assert [(f.code, f.level) for f in diagnosis.findings] == [("unseen", "note")]
    assert diagnosis.verdicts[1].units is None


@pytest.mark.parametrize("ticks", [0, 500])
def test_a_run_that_saw_nothing_is_unknown_and_severe_to_a_script(ticks):
    run = make_run(ticks=make_ticks([0.1] * ticks), modules=("a", "b"), gaps=[Gap("a", "never called", 0)])
    diagnosis = diagnose(run)
    assert diagnosis.status == "unknown"
    assert [(f.code, f.level) for f in diagnosis.findings] == [("blind", "severe")]
    assert diagnosis.coverage == Coverage(0, 2, ("a", "b"))
    assert diagnosis.first_step is None
    assert diagnosis.last_step == (499 if ticks else None)
    assert diagnosis.worst is None
    assert diagnosis.gaps == run.gaps
    assert "unknown" in str(diagnosis)


def test_a_run_of_no_modules_at_all_is_unknown():
    assert diagnose(make_run()).status == "unknown"


def test_a_site_known_by_name_only_is_unknown():
    sites = [make_site(0, 5), make_site(1, 7)]
    windows = make_windows(sites[0], lives(5, STEPS, {}), ends_every(WINDOW, STEPS))
    diagnosis = diagnose(make_run(sites, windows, make_ticks([0.1] * STEPS)))
    assert [v.status for v in diagnosis.verdicts] == ["healthy", "unknown"]
    assert diagnosis.coverage.unseen == ("layer1",)


def test_the_gravest_status_is_the_run_s():
    """severe before warning before unknown before healthy."""
    units = 10
    sites = [make_site(i, units) for i in range(4)]
    every = {
        "severe": make_windows(sites[0], lives(units, STEPS, dying(5, 50)), ends_every(WINDOW, STEPS)),
        "warning": make_windows(sites[1], lives(units, STEPS, dying(2)), ends_every(WINDOW, STEPS)),
        "unknown": make_windows(sites[2], lives(units, 100, {}), ends_every(WINDOW, 100)),
        "healthy": make_windows(sites[3], lives(units, STEPS, {}), ends_every(WINDOW, STEPS)),
    }
    names = list(every)
    for i in range(4):
        windows = [w for name in names[i:] for w in every[name]]
        used = [site for site in sites if site.number >= i]
        diagnosis = diagnose(make_run(used, windows, make_ticks([0.1] * STEPS)))
        assert [v.status for v in diagnosis.verdicts] == names[i:]
        assert diagnosis.status == names[i]
        levels = [f.level for f in diagnosis.findings]
        assert levels == sorted(levels, key=["severe", "warning", "note"].index)


def test_the_worst_site_is_that_with_the_largest_dead_share():
    sites = [make_site(0, 20), make_site(1, 5)]
    windows = make_windows(sites[0], lives(20, STEPS, dying(3)), ends_every(WINDOW, STEPS))
    windows += make_windows(sites[1], lives(5, STEPS, dying(2)), ends_every(WINDOW, STEPS))
    assert diagnose(make_run(sites, windows)).worst.name == "layer1"


def test_another_profile_judges_the_same_records_anew():
    site = make_site(0, 20)
    run = make_run([site], make_windows(site, lives(20, 500, dying(1, 100, 500)), ends_every(WINDOW, 500)))
    assert diagnose(run).status == "healthy"
    strict = diagnose(run, "strict")
    assert strict.status == "warning"
    assert strict.thresholds == load_profile("strict").thresholds
    assert diagnose(run, load_profile("strict")) == strict


def test_evaluation_windows_are_judged_only_where_nothing_else_was_watched():
    site = make_site(0, 5)
    dead = make_windows(site, lives(5, STEPS, dying(5, 50)), ends_every(WINDOW, STEPS), phase="eval")
    alive = make_windows(site, lives(5, STEPS, {}), ends_every(WINDOW, STEPS))
    assert diagnose(make_run([site], [*dead, *alive])).status == "healthy"
    assert diagnose(make_run([site], dead)).status == "severe"


def test_the_history_tells_shares_over_time():
    site = make_site(0, 20)
    windows = make_windows(site, lives(20, STEPS, dying(5, 50)), ends_every(WINDOW, STEPS))
    history = share_history(make_timeline(site, windows), make_thresholds())
    assert history.steps == (49, 99, 149, 199, 249, 299)
    # Silent from step 51 on: 99 silent steps at 149.
    assert history.dead == (0, 0, 0, 0.25, 0.25, 0.25)
    assert history.silent == (0, 0, 0.25, 0, 0, 0)
    assert all(a > b for a, b in zip(history.active[:2], history.active[2:4], strict=True))
