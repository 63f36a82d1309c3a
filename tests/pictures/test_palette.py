"""Colours that people with colour blindness can tell apart: the states, and the steps of the heat scale.

Colour blindness is simulated as by Machado, Oliveira and Fernandes (2009, full severity), on linear light; colours are
compared in CIELAB, where a difference of about 2.3 can just be seen.
"""

from __future__ import annotations

import re
from itertools import combinations, pairwise

import numpy as np
import pytest

from deadneuron.report.bundle import web_file

EYES = {
    "most": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
    "grey": np.tile([0.2126, 0.7152, 0.0722], (3, 1)),
}
APART, GREY_APART = 20, 6  # of CIELAB; without any colour only lightness is left


def palette(name: str) -> np.ndarray:
    (text,) = re.findall(rf"const {name} = \[(.*)\];", web_file("palette.js"))
    return np.array([[int(x) for x in one.split(",")] for one in re.findall(r"\[([\d, ]+)\]", text)], dtype=float)


def lab(colours: np.ndarray, eye: np.ndarray) -> np.ndarray:
    share = colours / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(light @ eye.T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = seen @ to_xyz.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("name", ["LIGHT", "DARK"])
def test_states_can_be_told_apart(name, eye):
    seen = lab(palette(name)[:4], EYES[eye])
    least = GREY_APART if eye == "grey" else APART
    for one, other in combinations(range(4), 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= least, (one, other)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("name", ["LIGHT", "DARK"])
def test_the_heat_scale_gets_darker_or_brighter_with_every_step(name, eye):
    low, high = palette(name)[[0, 3]]
    shares = np.array([0, 0.01, 0.1, 0.25, 0.5, 1])
    mixed = np.where(shares <= 0, 0, 0.12 + 0.88 * np.sqrt(shares))[:, None]  # as shareColour mixes
    seen = lab(low + mixed * (high - low), EYES[eye])
    for below, above in pairwise(seen):
        assert np.linalg.norm(above - below) >= 3
    steps = np.diff(seen[:, 0])
    assert (steps < 0).all() or (steps > 0).all(), "lightness alone tells more from less"


def test_two_colours_that_are_often_confused_are_found():
    red_and_green = np.array([[200.0, 60, 40], [120, 110, 20]])
    apart = {eye: float(np.linalg.norm(np.diff(lab(red_and_green, matrix), axis=0))) for eye, matrix in EYES.items()}
    assert apart["most"] > 50 > 25 > apart["deuteranopia"]
