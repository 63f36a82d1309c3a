"""Files that tell what is not so: the number of updates, rates, the optimizer's age, averages, NaN. Nobody is called
healthy for that."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deadneuron.checkpoints.scan import scan_checkpoints

UNITS, DEAD, SAVES = 23, 7, (200, 400, 600)


def net():
    return nn.Sequential(nn.Linear(11, UNITS), nn.ReLU(), nn.Linear(UNITS, 3))


def train(folder, make, *, told=lambda step: step, every=None, extra=None, between=lambda step, model, optimizer: None):
    """Plant DEAD units at step 50, save at SAVES; `told` is the step that the files state."""
    torch.manual_seed(3)
    model = net()
    optimizer = make(model.parameters())
    generator = torch.Generator().manual_seed(5)
    target = torch.randn(11, 3, generator=generator)
    for step in range(SAVES[-1]):
        if step == 50:
            with torch.no_grad():
                model[0].bias[:DEAD] = -1000.0
        optimizer = between(step, model, optimizer) or optimizer
        x = torch.randn(31, 11, generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), (x @ target).argmax(1)).backward()
        if every is None or step % every:
            optimizer.step()
        if step + 1 in SAVES:
            content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": told(step + 1)}
            torch.save(content | (extra(step + 1) if extra else {}), folder / f"at_{step + 1}.pt")
    return model


def decayed(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.005)


def first(diagnosis):
    return next(verdict for verdict in diagnosis.verdicts if verdict.name == "0")


def test_what_is_told_right_finds_the_planted_units(tmp_path):
    train(tmp_path, decayed)
    diagnosis = scan_checkpoints(tmp_path)
    assert first(diagnosis).evidence == "replay"
    assert first(diagnosis).dead == DEAD


@pytest.mark.parametrize("case", ["skipped", "micro-batches"])
def test_a_wrong_number_of_updates_is_noticed_and_not_called_life(case, tmp_path):
    if case == "skipped":  # as a GradScaler skips, and the loop's own count goes on
        train(tmp_path, decayed, every=29)
    else:
        train(tmp_path, decayed, told=lambda step: 4 * step)
    diagnosis = scan_checkpoints(tmp_path)
    assert any("moved as units without a gradient do" in gap.reason for gap in diagnosis.gaps)
    verdict = first(diagnosis)
    assert verdict.status != "healthy"
    assert verdict.evidence != "replay"
    assert verdict.silent >= DEAD  # by its momentum, which may only doubt


def test_rates_that_were_set_by_hand_and_equal_at_the_saves_are_noticed(tmp_path):
    def between(step, model, optimizer):
        optimizer.param_groups[0]["lr"] = 0.05 + 0.0005 * min(step % 200, 200 - step % 200)

    train(tmp_path, decayed, between=between)
    verdict = first(scan_checkpoints(tmp_path))
    assert verdict.status != "healthy"
    assert verdict.silent >= DEAD


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


@pytest.mark.parametrize("make", [adam, momentum])
def test_of_adam_and_of_momentum_the_state_decides_whatever_the_weights_are(make, tmp_path):
    averages: dict[int, dict] = {}
    average = {name: value.clone() for name, value in net().state_dict().items()}

    def between(step, model, optimizer):
        for name, value in model.state_dict().items():
            average[name].mul_(0.99).add_(value, alpha=0.01)
        averages[step + 1] = {name: value.clone() for name, value in average.items()}

    train(tmp_path, make, between=between, extra=lambda step: {"model": averages[step]})
    diagnosis = scan_checkpoints(tmp_path)
    assert first(diagnosis).dead == DEAD
    assert any("moved otherwise" in fact for finding in diagnosis.findings for fact in finding.evidence["facts"])


def test_an_optimizer_that_was_begun_anew_keeps_the_trainings_order(tmp_path):
    def between(step, model, optimizer):
        return adam(model.parameters()) if step == 250 else None

    train(tmp_path, adam, between=between)
    diagnosis = scan_checkpoints(tmp_path)
    assert [info.step for info in diagnosis.checkpoints] == list(SAVES)
    assert any("reset" in gap.reason or "begun anew" in gap.reason for gap in diagnosis.gaps)
    assert first(diagnosis).dead == DEAD
    assert first(diagnosis).born_dead == 0


def test_a_state_that_is_younger_than_the_training_knows_of_no_birth(tmp_path):
    def between(step, model, optimizer):
        return adam(model.parameters()) if step == 250 else None

    train(tmp_path, adam, between=between)
    diagnosis = scan_checkpoints([tmp_path / "at_400.pt", tmp_path / "at_600.pt"])
    assert (first(diagnosis).dead, first(diagnosis).born_dead) == (DEAD, 0)
    assert not any(finding.code == "born-dead" for finding in diagnosis.findings)


def test_a_layer_that_was_frozen_is_not_alive(tmp_path):
    def make(parameters):
        return torch.optim.SGD(parameters, lr=0.05, weight_decay=5e-4)

    def between(step, model, optimizer):
        model[0].requires_grad_(False)

    train(tmp_path, make, between=between)
    assert first(scan_checkpoints(tmp_path)).status == "unknown"


@pytest.mark.parametrize("measured", [False, True])
def test_nan_is_severe(measured, tmp_path):
    def between(step, model, optimizer):
        if step == 550:
            with torch.no_grad():
                model[0].weight.fill_(torch.nan)

    train(tmp_path, adam, between=between)
    how = {"model": net, "data": lambda: [torch.randn(331, 11)]} if measured else {}
    diagnosis = scan_checkpoints(tmp_path, **how)
    assert diagnosis.status == "severe"
    assert "nonfinite" in {finding.code for finding in diagnosis.findings}
    assert all(verdict.revived in (0, None) for verdict in diagnosis.verdicts)


def test_what_was_known_long_ago_says_nothing_of_the_end(tmp_path):
    train(tmp_path, adam)
    late = torch.load(tmp_path / "at_600.pt", weights_only=True)
    torch.save({"model": late["model"], "step": 600}, tmp_path / "at_600.pt")
    diagnosis = scan_checkpoints([tmp_path / "at_200.pt", tmp_path / "at_600.pt"])
    assert diagnosis.status == "unknown"
    assert "lost" in {finding.code for finding in diagnosis.findings}


def test_one_young_checkpoint_of_adam_doubts_whom_it_cannot_prove_alive(tmp_path):
    train(tmp_path, adam)
    diagnosis = scan_checkpoints(tmp_path / "at_200.pt")
    assert first(diagnosis).dead + first(diagnosis).silent >= DEAD
    assert first(diagnosis).status != "healthy"


def test_epochs_become_steps_where_their_length_is_told(tmp_path):
    train(tmp_path, decayed, extra=lambda step: {"epoch": step // 200})
    for path in tmp_path.iterdir():
        content = torch.load(path, weights_only=True)
        del content["step"]
        torch.save(content, path)
    blind = scan_checkpoints(tmp_path)
    assert blind.status == "unknown"
    assert any("--steps-per-epoch" in finding.advice for finding in blind.findings)
    told = scan_checkpoints(tmp_path, steps_per_epoch=200)
    assert (first(told).dead, first(told).evidence) == (DEAD, "replay")
    assert [info.step for info in told.checkpoints] == list(SAVES)


def test_without_steps_a_measured_death_has_no_date_and_no_birth(tmp_path):
    train(tmp_path, decayed)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        torch.save(torch.load(path, weights_only=True)["model"], tmp_path / f"model_{number}.pt")
        path.unlink()
    diagnosis = scan_checkpoints(tmp_path, model=net, data=lambda: [torch.randn(331, 11)])
    verdict = next(one for one in diagnosis.verdicts if one.op == "ReLU")
    assert (verdict.dead, verdict.born_dead, verdict.died) == (DEAD, 0, DEAD)
    assert (verdict.since, verdict.window, diagnosis.episodes) == (None, None, ())
    assert diagnosis.status == "warning"


@pytest.mark.parametrize("make", [decayed, momentum, lambda parameters: torch.optim.SGD(parameters, lr=0.05)])
def test_who_was_dead_at_the_first_checkpoint_is_not_said_to_have_died_where_nothing_tells(make, tmp_path):
    """Planted at step 50, before the first file: with momentum and no decay the buffer shows that they were alive."""
    train(tmp_path, make)
    diagnosis = scan_checkpoints(tmp_path)
    (finding,) = (one for one in diagnosis.findings if one.where == "0")
    knows = make is momentum
    assert ("all of them from the first look on, born so or died by step 200" in finding.text) == (not knows)
    assert ("add an earlier checkpoint" in finding.advice) == (not knows)
    assert ("is dying" in finding.text) == knows
    assert ("deaths fell in the first" in finding.advice) == knows


def test_who_dies_between_two_checkpoints_died(tmp_path):
    def kill(step, model, optimizer):
        if step == 300:
            with torch.no_grad():
                model[0].bias[DEAD : 2 * DEAD] = -1000.0

    train(tmp_path, lambda parameters: torch.optim.SGD(parameters, lr=0.05), between=kill)
    (finding,) = (one for one in scan_checkpoints(tmp_path).findings if one.where == "0")
    assert f"{DEAD} of them from the first look on" in finding.text
    assert "of the others last gradient in steps 200–399, at rate 0.05" in finding.text
