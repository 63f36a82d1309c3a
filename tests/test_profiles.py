"""Profiles: the numbers stand in configs/, and a mistake in one is told in one line that names the key."""

from __future__ import annotations

import dataclasses
import tomllib
from importlib import resources

import pytest

from deadneuron.errors import ProfileError
from deadneuron.profiles import Profile, load_profile, profile_names
from deadneuron.records import Forensics, Sampling, Thresholds


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def told(profile) -> str:
    with pytest.raises(ProfileError) as caught:
        load_profile(profile)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("[profile]")
    return message


def test_the_default_profile_says_what_its_file_says():
    text = resources.files("deadneuron.configs").joinpath("default.toml").read_text("utf-8")
    profile = load_profile()
    assert dataclasses.asdict(profile) == {"name": "default", **tomllib.loads(text)}
    assert profile == load_profile("default")


def test_the_default_numbers_are_those_that_were_agreed():
    profile = load_profile()
    assert profile.sampling == Sampling(every=10, window=50, epsilon=1e-3, common=0.03, recent=256, flush_seconds=5.0)
    assert profile.thresholds == Thresholds(
        patience=100,
        samples=300,
        rare=0.01,
        warning=0.1,
        severe=0.5,
        stuck_windows=3,
        revival_windows=2,
        born_excess=0.05,
        dormant=0.025,
        spike=0.5,
        spike_shift=0.05,
        fading=0.5,
        saturated=0.5,
        established=0.02,
        kick_steps=5,
        kick_rate=0.5,
        kick_rise=1.5,
        gradual_steps=10,
        shift=0.01,
        branch=0.15,
    )


def test_strict_wants_more_evidence_and_tolerates_less():
    default, strict = load_profile("default"), load_profile("strict")
    assert strict.name == "strict"
    assert strict.thresholds.patience > default.thresholds.patience
    assert strict.thresholds.samples > default.thresholds.samples
    assert strict.thresholds.warning < default.thresholds.warning
    assert strict.thresholds.severe < default.thresholds.severe
    assert strict.sampling == default.sampling


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_loads(name):
    assert load_profile(name).name == name


def test_no_number_of_a_profile_has_a_default_in_code():
    for kind in (Sampling, Thresholds, Forensics, Profile):
        for field in dataclasses.fields(kind):
            assert field.default is dataclasses.MISSING, f"{kind.__name__}.{field.name}"
            assert field.default_factory is dataclasses.MISSING, f"{kind.__name__}.{field.name}"


def test_every_number_of_the_default_profile_has_a_comment():
    text = resources.files("deadneuron.configs").joinpath("default.toml").read_text("utf-8")
    lines = [line for line in text.splitlines() if "=" in line.partition("#")[0]]
    assert len(lines) == sum(len(dataclasses.fields(kind)) for kind in (Sampling, Thresholds, Forensics))
    assert all("#" in line for line in lines)


def test_a_file_of_one_key_changes_that_key_only(tmp_path):
    profile = load_profile(write(tmp_path, "[thresholds]\npatience = 77\n"))
    default = load_profile()
    assert profile.name == "mine"
    assert profile.thresholds == dataclasses.replace(default.thresholds, patience=77)
    assert profile.sampling == default.sampling
    assert load_profile("default") == default, "the default itself is not changed"


@pytest.mark.parametrize("text", ["", "[thresholds]\n", "# only a comment\n"])
def test_an_empty_file_is_the_default_under_its_own_name(tmp_path, text):
    assert load_profile(write(tmp_path, text)) == dataclasses.replace(load_profile(), name="mine")


def test_a_profile_passes_through():
    profile = load_profile("strict")
    assert load_profile(profile) is profile


def test_whole_numbers_may_stand_for_seconds_and_shares(tmp_path):
    profile = load_profile(write(tmp_path, "[sampling]\nflush_seconds = 2\n[thresholds]\nsevere = 1\n"))
    assert (profile.sampling.flush_seconds, profile.thresholds.severe) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[thresholds]\npatiense = 3\n", "thresholds.patiense"),
        ("[sampling]\nevery_ = 3\n", "sampling.every_"),
        ("[treshold]\npatience = 3\n", "treshold"),
        ("patience = 3\n", "patience"),
        ("[thresholds.deep]\nx = 1\n", "thresholds.deep"),
    ],
)
def test_an_unknown_key_is_named_and_the_known_ones_with_it(tmp_path, text, key):
    message = told(write(tmp_path, text))
    assert f"unknown key: {key}" in message
    assert "thresholds.patience" in message
    assert "mine.toml" in message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[sampling]\nevery = "10"\n', "sampling.every"),
        ("[sampling]\nevery = 10.5\n", "sampling.every"),
        ("[sampling]\nevery = true\n", "sampling.every"),
        ("[sampling]\nwindow = [50]\n", "sampling.window"),
        ("[sampling]\nflush_seconds = 2024-02-29\n", "sampling.flush_seconds"),
        ("[sampling]\nepsilon = {}\n", "sampling.epsilon"),
        ("[thresholds]\nsevere = '0.5'\n", "thresholds.severe"),
        ("sampling = 3\n", "sampling"),
        ("thresholds = []\n", "thresholds"),
    ],
)
def test_a_wrong_type_is_told_with_its_key(tmp_path, text, key):
    assert f": {key} (" in told(write(tmp_path, text))


@pytest.mark.parametrize(
    ("table", "key", "values"),
    [
        ("sampling", "every", ["0", "-1"]),
        ("sampling", "window", ["0", "-5"]),
        ("sampling", "epsilon", ["0.0", "-0.1", "0.25", "nan", "inf"]),
        ("sampling", "flush_seconds", ["0", "-1.0", "nan", "inf"]),
        ("thresholds", "patience", ["0", "49"]),
        ("thresholds", "samples", ["0", "-1"]),
        ("thresholds", "rare", ["-0.1", "1.1", "nan"]),
        ("thresholds", "warning", ["0.0", "1.1", "nan"]),
        ("thresholds", "severe", ["0.0", "1.5", "inf"]),
        ("thresholds", "stuck_windows", ["0"]),
        ("thresholds", "revival_windows", ["0"]),
    ],
)
def test_an_impossible_value_is_told_with_its_key(tmp_path, table, key, values):
    for value in values:
        message = told(write(tmp_path, f"[{table}]\n{key} = {value}\n"))
        assert f"{table}.{key}" in message, value
        assert "mine" in message


@pytest.mark.parametrize(
    ("table", "key"), [(t, f.name) for t, k in (("sampling", Sampling), ("thresholds", Thresholds))
                       for f in dataclasses.fields(k)]
)  # fmt: skip
def test_every_number_has_a_range(tmp_path, table, key):
    """No number passes as nonsense: -10 is impossible for all of them."""
    assert f"{table}.{key}" in told(write(tmp_path, f"[{table}]\n{key} = -10\n"))


def test_the_patience_must_span_a_window_whichever_of_them_was_changed(tmp_path):
    assert "thresholds.patience must be at least sampling.window" in told(write(tmp_path, "[sampling]\nwindow = 101\n"))
    assert load_profile(write(tmp_path, "[sampling]\nwindow = 100\n")).sampling.window == 100


def test_an_unknown_name_lists_the_known_ones():
    message = told("sloppy")
    assert "sloppy" in message
    assert "default" in message
    assert "strict" in message


@pytest.mark.parametrize("content", [None, b"[thresholds\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_missing_or_broken_file_is_told_with_its_path(tmp_path, content):
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    message = told(path)
    assert "broken.toml" in message
    assert "cannot read the profile" in message


def test_a_folder_or_an_impossible_path_is_told(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    assert "folder.toml" in told(tmp_path / "folder.toml")
    assert "cannot read" in told("a\0b.toml")
