"""The learning-rate probe: exact deaths of hand-set nets, and what is told of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from handset import FALLING, RATE, STEPS, hand_probe, hand_set, stepper

import deadneuron
from deadneuron.errors import DeadneuronWarning, NotARunError, UsageError
from deadneuron.experiments.branch import probe_learning_rates
from deadneuron.experiments.curve import ratio_of_shares
from deadneuron.store.trials import read_trials


def test_deaths_and_revivals_of_a_hand_set_net_are_exact():
    result = hand_probe()
    deaths = {m: sum(z - m / 16 <= 0 for z in FALLING) for m in (1, 2, 4)}
    assert deaths == {1: 1, 2: 1, 4: 2}
    assert [p.multiplier for p in result.points] == [1, 2, 4]
    assert [p.rates for p in result.points] == [(RATE,), (2 * RATE,), (4 * RATE,)]
    assert [p.new_deaths for p in result.points] == [deaths[m] for m in (1, 2, 4)]
    assert [p.revived for p in result.points] == [0, 0, 1]
    assert [p.alive for p in result.points] == [4, 4, 4]
    assert [p.share for p in result.points] == [0.2, 0.2, 0.4]
    assert (result.units, result.fired, result.examples, result.bound) == (6, 5, 7, 3 / 7)
    assert all(p.silent_before == 1 and p.steps == STEPS and not p.diverged for p in result.points)
    layer = result.points[2].layers[0]
    assert (layer.name, layer.units, layer.fired, layer.new_deaths, layer.revived) == ("1", 6, 5, 2, 1)
    first = sum(FALLING) - (1 - 3 / 16)
    assert [p.first_loss for p in result.points] == [first] * 3
    assert result.points[0].last_loss == first - 3 * 6 * RATE


@pytest.mark.parametrize(
    ("threshold", "safe", "over"), [(0.21, 2, 4), (0.2, None, 1), (0.41, 4, None)], ids=["between", "none", "all"]
)
def test_the_safe_rate(tmp_path, threshold, safe, over):
    profile = tmp_path / "own.toml"
    profile.write_text(f"[thresholds]\nbranch = {threshold}\n")
    result = hand_probe(profile=profile)
    assert result.safe == (None if safe is None else safe * RATE)
    assert result.over == (None if over is None else over * RATE)
    lines = str(result).splitlines()
    marks = [line[0] for line in lines if line.startswith(("✓", "!", "✗"))]
    assert marks == ["✓" if p.share < threshold else "!" for p in result.points]
    words = "no rate that was tried is safe" if safe is None else f"safe up to lr {safe * RATE:.4g} (×{safe})"
    assert words in str(result)


def test_a_lower_rate_that_is_over_ends_what_is_safe():
    model, optimizer = hand_set(), None
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    plain = stepper(model, optimizer)

    def step(batch):  # the lowest rate kills all
        loss = plain(batch)
        if optimizer.param_groups[0]["lr"] < RATE:
            model[0].bias.data.fill_(-1)
        return loss

    result = probe_learning_rates(model, optimizer, step, [torch.ones(1, 1)], (0.5, 1), 1, [torch.zeros(2, 1)])
    assert [p.new_deaths for p in result.points] == [5, 0]
    assert (result.safe, result.over) == (None, RATE / 2)


@pytest.mark.parametrize("steps", [1, 3])
def test_divergence_is_recorded_and_the_others_are_measured(steps):
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), 2.0**-20)
    step = stepper(model, optimizer, lambda out: out.square().mean())
    weight = model[0].weight.detach().clone()
    result = probe_learning_rates(model, optimizer, step, [torch.ones(3, 1)], (1, 2.0**147), steps, [torch.zeros(7, 1)])
    fine, bad = result.points
    assert not fine.diverged
    assert bad.diverged
    assert bad.steps == min(steps, 2)  # with one step the loss is finite, and the weights are not
    assert (bad.new_deaths, bad.alive, bad.share, bad.revived, bad.layers) == (None, None, None, None, ())
    assert (bad.last_loss is None) == (steps > 1)
    assert (result.safe, result.over) == (2.0**-20, 2.0**127)
    assert "diverged in step" in str(result)
    assert torch.equal(model[0].weight, weight)
    assert json.loads(result.to_json())["points"][1]["diverged"]
    assert result.frame.new_deaths.isna().tolist() == [False, True]


def test_the_result_goes_to_the_run_that_is_named(tmp_path, run):
    model = hand_set()
    with deadneuron.watch(model, None, run):
        pass
    result = hand_probe(run=run)
    (trial,) = read_trials(run, [])
    assert (trial.safe, trial.over) == (None, result.over), "four steps foretell little"
    assert trial.summary[-1] == "4 steps foretell little: 20 were measured to"
    assert trial.links == result.links()
    (run / "trials").rename(run / "gone")
    (run / "trials").write_text("")
    with pytest.warns(DeadneuronWarning, match="could not be kept"):
        assert hand_probe(run=run) == result
    with pytest.raises(NotARunError):
        hand_probe(run=tmp_path / "nothing")


def test_twenty_steps_foretell_and_a_loss_that_rose_is_told():
    result = replace(hand_probe(multipliers=(1, 2)), steps=20)
    trial = result.trial("2024-02-29T12:00:00+00:00")
    assert trial.safe == result.safe
    low = replace(result.points[0], share=0.0, first_loss=0.5, last_loss=0.75)
    rose = replace(result, points=(low,), threshold=0.5)
    assert rose.trial("2024-02-29T12:00:00+00:00").safe == rose.safe == RATE
    short = replace(rose, steps=19)
    assert (short.trial("2024-02-29T12:00:00+00:00").safe, short.safe) == (None, RATE), "no advice may rest on it"
    assert "; but the loss rose there (0.5 → 0.75)" in str(rose)
    assert "foretell" not in str(rose)
    fell = replace(rose, points=(replace(low, last_loss=0.25),))
    assert "loss rose" not in str(fell)


@pytest.mark.parametrize("batches", [torch.zeros(3, 1), {"x": torch.zeros(3, 1)}, "x", len, 7])
def test_batches_that_are_none_are_told(batches):
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    with pytest.raises(UsageError, match="batches is no sequence of batches"):
        probe_learning_rates(model, optimizer, stepper(model, optimizer), batches)


def test_links_are_ratios_with_an_interval_and_no_p():
    deaths, revivals = hand_probe(multipliers=(1, 4)).links()
    assert (deaths.of, deaths.site, deaths.group, deaths.p) == ("deaths", None, 0, None)
    assert (deaths.rate_ratio, deaths.low, deaths.high) == ratio_of_shares(2, 1, 5)
    assert (revivals.rate_ratio, revivals.low, revivals.high) == ratio_of_shares(1, 0, 1)
    assert hand_probe(multipliers=(1,)).links() == ()


def test_ratios_against_the_formula():
    ratio, low, high = ratio_of_shares(13, 5, 29)
    spread = 1.96 * math.sqrt(1 / 13 - 1 / 29 + 1 / 5 - 1 / 29)
    assert ratio == 13 / 5
    assert (low, high) == pytest.approx((ratio / math.exp(spread), ratio * math.exp(spread)), rel=1e-4)
    assert ratio_of_shares(3, 0, 7)[0] == 7
    assert ratio_of_shares(7, 7, 7) == (1, 1, 1)
    assert ratio_of_shares(0, 0, 7) == ratio_of_shares(0, 0, 0) == (None, None, None)


def test_tables_of_the_result():
    result = hand_probe()
    frame, layers = result.frame, result.layers
    assert frame["lr SGD[0]"].tolist() == [RATE, 2 * RATE, 4 * RATE]
    assert frame.new_deaths.tolist() == [1, 1, 2]
    assert layers[["multiplier", "name", "share"]].values.tolist() == [[1, "1", 0.2], [2, "1", 0.2], [4, "1", 0.4]]
    text = str(result)
    assert "5 of 6 units fired on n = 7 examples that no branch trained on" in text
    assert "3/n = 0.43" in text
    row = next(line for line in text.splitlines() if " 4 " in line and "40.0%" in line)
    assert "████████ " in row
    assert row.rstrip().endswith("1 (40%)")


def test_several_groups_and_optimizers_and_a_rate_of_zero():
    model = hand_set()
    still = torch.optim.SGD([{"params": [model[0].weight], "lr": 0.0}], 0.0)
    moving = torch.optim.SGD([{"params": [model[0].bias]}], RATE)

    def step(batch):
        moving.zero_grad()
        loss = model(batch).mean()
        loss.backward()
        moving.step()
        still.step()
        return loss.item()

    result = probe_learning_rates(model, [still, moving], step, [torch.ones(1, 1)], (1, 2), 1, [torch.zeros(3, 1)])
    assert result.groups == ("SGD[0]", "SGD[1]")
    assert [p.rates for p in result.points] == [(0, RATE), (0, 2 * RATE)]
    assert result.lead == 1
    assert (result.safe, result.over) == (2 * RATE, None)
    assert "no higher rate was tried" in str(result)
    assert "lr: of SGD[1]; the rates of all 2 groups are multiplied" in str(result)


def test_a_step_may_change_its_batch_in_place():
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    plain = stepper(model, optimizer)
    batch, seen = torch.ones(1, 1), []

    def step(x):
        seen.append(x.item())
        return plain(x.mul_(2))

    probe_learning_rates(model, optimizer, step, [batch], (1, 2, 4), 2, [torch.zeros(3, 1)])
    assert seen == [1.0] * 6
    assert batch.item() == 1


def test_a_step_that_the_scaler_skips_counts_as_taken():
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    seen = []

    def step(batch):
        optimizer.zero_grad()
        loss = model(batch).mean()
        scaler.scale(loss * 4).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append(scaler.get_scale())
        return loss

    result = probe_learning_rates(
        model, optimizer, step, [torch.ones(1, 1)], (1, 2), 5, [torch.zeros(3, 1)], scaler=scaler
    )
    assert seen[:5] == seen[5:] == [2.0**126, 2.0**125] + [2.0**125] * 3  # restored in between
    assert scaler.get_scale() == 2.0**127
    assert [p.new_deaths for p in result.points] == [2, 3]  # three steps of 4 r each: 3/16 and 3/8


def test_a_net_without_a_unit_that_fires():
    result = hand_probe(probe=[torch.full((3, 1), -100.0)], multipliers=(1,))
    assert result.fired == 5  # their weights are 0
    model = hand_set()
    model[0].bias.data.fill_(-5)
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    none = probe_learning_rates(model, optimizer, stepper(model, optimizer), [torch.ones(2, 1)], (1,), 1)
    assert (none.points[0].share, none.safe, none.over) == (None, None, RATE)
    assert "no unit fired" in str(none)


def test_the_probe_is_public():
    assert deadneuron.probe_learning_rates is probe_learning_rates
