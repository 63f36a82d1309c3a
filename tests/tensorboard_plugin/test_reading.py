"""What the tab's routes answer, over a provider that was made by hand."""

from __future__ import annotations

import base64
import json
import zlib
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from deadneuron.sinks.tags import BORN, DEATHS, DIED, NAMES, REVIVED, SHARES, STATES
from deadneuron.tensorboard_plugin import plugin, reading
from deadneuron.tensorboard_plugin.source import NothingRecordedError, Source

NONE = float("nan")


class Provider:
    """TensorBoard's data provider, as far as the tab asks it; counts what is read."""

    def __init__(self, tensors, scalars=None):
        self.tensors, self.scalars = tensors, scalars or {}
        self.read, self.asked = [], []

    def list_tensors(self, context, *, experiment_id, plugin_name, run_tag_filter=None):
        self.asked.append(experiment_id)
        return {
            run: {
                tag: SimpleNamespace(max_step=max(points), max_wall_time=float(len(points)))
                for tag, points in tags.items()
            }
            for run, tags in self.tensors.items()
            if run_tag_filter is None or run in run_tag_filter.runs
        }

    def read_tensors(self, context, *, experiment_id, plugin_name, downsample, run_tag_filter):
        (run,), tags = run_tag_filter.runs, run_tag_filter.tags
        self.read += tags
        points = self.tensors.get(run, {})
        return {run: {t: [SimpleNamespace(step=s, numpy=a) for s, a in points[t].items()] for t in tags if t in points}}

    def list_scalars(self, context, *, experiment_id, plugin_name, run_tag_filter):
        return {run: dict.fromkeys(tags) for run, tags in self.scalars.items()}

    def read_scalars(self, context, *, experiment_id, plugin_name, downsample, run_tag_filter):
        (run,) = run_tag_filter.runs
        return {
            run: {
                t: [SimpleNamespace(step=s, value=v) for s, v in self.scalars[run][t].items()]
                for t in run_tag_filter.tags
            }
        }


def names(*sites, version=1):
    return {0: np.array(json.dumps({"version": version, "sites": sites}).encode(), dtype=object)}


def table(*rows):
    return np.array(rows, dtype=np.int32)


def run_of_two():
    """Site 0 in every window of 10 steps; site 1 not in the third one, and evaluated (place 2) in steps 19 and 39."""
    return {
        NAMES: names(["a", "ReLU", 5, 1, "train"], ["b", "GELU", 3, 1, "train"], ["a (eval)", "ReLU", 5, 1, "eval"]),
        SHARES: {
            9: table([0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]),
            19: table([0, 10, 1, 0, 0, 400], [1, 10, 0, 0, 3, 0], [2, 19, 0, 0, 0, 0]),
            29: table([0, 20, 2, 0, 1, 300]),
            39: table([0, 30, 1, 0, 0, 500], [1, 30, 0, 0, 0, 0], [2, 39, 5, 0, 0, 20]),
        },
        f"{STATES}/0": {9: np.uint8([0, 2, 0, 0, 0]), 19: np.uint8([0, 3, 0, 0, 0]), 39: np.uint8([0, 3, 0, 0, 0])},
        f"{DEATHS}/0": {19: np.array([[0, 1, 0, NONE, BORN]]), 29: np.array([[0, 4, 12, 0.5, DIED]])},
        f"{DEATHS}/1": {39: np.array([[0, 4, 33, NONE, REVIVED], [7, 0, 1, NONE, DIED]])},
    }


def source(provider, kept=None):
    return Source(provider, None, "", {} if kept is None else kept)


def unpacked(text):
    return list(zlib.decompress(base64.b64decode(text)))


def columns(payload, place):
    found = payload["columns"][payload["sites"][place]["columns"]]
    return list(zip(found["first"], found["last"], strict=True))


def test_an_overview_tells_shares_and_when_units_died():
    provider = Provider({"run": run_of_two()}, {"run": {"deadneuron.lr/SGD[0]": {0: 0.5, 30: 0.1}, "loss": {0: 1.0}}})
    made = reading.overview(source(provider), {"run": "run"})
    json.dumps(made, allow_nan=False)
    assert made["steps"] == [0, 39]
    assert made["rates"] == [{"group": "SGD[0]", "points": [[0, 0.5], [30, 0.1]]}]
    first, second, third = made["sites"]
    assert [site["name"] for site in made["sites"]] == ["a", "b", "a (eval)"]
    assert unpacked(first["dead"]) == [0, 51, 102, 51]
    assert unpacked(first["silent"]) == [51, 0, 0, 0]
    assert unpacked(second["rare"]) == [0, 255, 0]
    assert (first["samples"], first["bound"], first["states"]) == (500, 0.006, None)
    assert (second["samples"], third["samples"]) == (None, 20)
    ticks = unpacked(first["ticks"])
    assert [(bin_, count) for bin_, count in enumerate(ticks) if count] == [(12 * len(ticks) // 40, 1)]
    assert set(unpacked(second["ticks"])) == {0}


def test_where_others_were_seen_and_a_site_was_not_nothing_is_drawn_of_it():
    made = reading.overview(source(Provider({"run": run_of_two()})), {"run": "run"})
    assert columns(made, 0) == [(0, 9), (10, 19), (20, 29), (30, 39)]
    assert columns(made, 1) == [(0, 9), (10, 19), (30, 39)]
    assert columns(made, 2) == [(19, 19), (20, 39)], "an evaluation holds for the steps since the one before"


def test_columns_reach_back_over_windows_that_tensorboard_dropped():
    tags = run_of_two()
    del tags[SHARES][19], tags[SHARES][29]
    made = reading.overview(source(Provider({"run": tags})), {"run": "run"})
    assert columns(made, 0) == [(0, 9), (10, 39)]


def test_a_site_is_told_unit_by_unit_with_its_lives():
    made = reading.site(source(Provider({"run": run_of_two()})), {"run": "run", "place": "0"})
    assert np.reshape(unpacked(made["states"]), (made["rows"], -1)).tolist() == [
        [0] * 3,
        [2, 3, 3],
        [0] * 3,
        [0] * 3,
        [0] * 3,
    ]
    assert (made["first"], made["last"]) == ([0, 10, 20], [9, 19, 39])
    assert made["deaths"] == [[1, 0, None, None, True, None], [4, 12, 32, 0.5, False, None]]


def test_what_has_not_grown_is_read_once():
    provider, kept = Provider({"run": run_of_two(), "other": run_of_two()}), {}
    for _ in range(3):
        reading.overview(source(provider, kept), {"run": "run"})
    assert provider.read.count(SHARES) == 1
    reading.site(source(provider, kept), {"run": "run", "place": "0"})
    assert provider.read.count(SHARES) == 1
    reading.overview(source(provider, kept), {"run": "other"})
    assert provider.read.count(SHARES) == 2
    provider.tensors["run"][SHARES][49] = table([0, 40, 5, 0, 0, 10])
    assert reading.overview(source(provider, kept), {"run": "run"})["steps"] == [0, 49]
    assert provider.read.count(SHARES) == 3


def test_few_runs_are_kept():
    provider, kept = Provider({f"run{i}": run_of_two() for i in range(11)}), {}
    for run in sorted(provider.tensors):
        reading.overview(source(provider, kept), {"run": run})
    assert len(kept) == 4


def test_only_runs_with_shares_are_listed():
    provider = Provider({"b": run_of_two(), "a": run_of_two(), "none": {NAMES: names()}})
    assert reading.runs(source(provider), {}) == ["a", "b"]


@pytest.mark.parametrize("run", ["none", "gone"])
def test_a_run_without_records_is_told_of(run):
    with pytest.raises(NothingRecordedError, match=run):
        reading.overview(source(Provider({"none": {NAMES: names()}})), {"run": run})


@pytest.mark.parametrize("text", [names(version=2)[0], np.array(b"[]", dtype=object)])
def test_a_format_that_is_not_this_one_is_told_of(text):
    tags = run_of_two() | {NAMES: {0: text}}
    with pytest.raises(NothingRecordedError, match="this deadneuron reads 1"):
        reading.overview(source(Provider({"run": tags})), {"run": "run"})


def test_more_windows_than_a_screen_shows_are_pooled():
    rows = {10 * w + 9: table([0, 10 * w, w % 2, 0, 0, 100]) for w in range(1000)}
    tags = {NAMES: names(["a", "ReLU", 1, 1, "train"]), SHARES: rows}
    made = reading.overview(source(Provider({"run": tags})), {"run": "run"})
    spans = columns(made, 0)
    assert len(spans) == 256
    assert (spans[0][0], spans[-1][1]) == (0, 9999)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(spans))
    assert set(unpacked(made["sites"][0]["dead"])) <= {85, 128, 170}, "of 3 or 4 windows about the half"


# ── what TensorBoard loads ───────────────────────────────────────────────────────────────────────────────────────────


def answer(apps, route, **environ):
    told = {}
    body = b"".join(apps[route](environ, lambda status, headers: told.update(status=status, headers=dict(headers))))
    return told["status"], told["headers"], body


def apps_of(provider):
    return plugin.DeadNeuronsPlugin(SimpleNamespace(data_provider=provider)).get_plugin_apps()


def test_routes_give_json_and_ask_for_the_experiment_that_is_looked_at():
    provider = Provider({"a&b": run_of_two()})
    apps = apps_of(provider)
    status, headers, body = answer(apps, "/overview", QUERY_STRING="run=a%26b", HTTP_TENSORBOARD_EXPERIMENT_ID="mine")
    assert status == "200 OK"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert json.loads(body)["name"] == "a&b"
    assert set(provider.asked) == {"mine"}


def test_what_fails_is_said_and_not_raised(capsys):
    status, _, body = answer(apps_of(Provider({})), "/overview", QUERY_STRING="run=<b>")
    assert status.startswith("500")
    assert json.loads(body)["error"].startswith("NothingRecordedError: run '<b>'")
    assert "NothingRecordedError" in capsys.readouterr().err


def test_every_file_that_a_module_of_the_tab_imports_is_served():
    apps = apps_of(Provider({}))
    seen, left = set(), ["/index.js"]
    while left:
        route = left.pop()
        seen.add(route)
        _, headers, body = answer(apps, route)
        assert headers["Content-Type"].startswith("text/javascript")
        found = {
            line.rpartition('"./')[2].rstrip('";') for line in body.decode().splitlines() if line.startswith("import")
        }
        left += [f"/{name}" for name in found if f"/{name}" not in seen]
    assert {"/app.js", "/theme.js", "/unpack.js", "/raster.js"} <= seen
    assert {"/style.css", "/tab.css"} <= set(apps)


def test_samples_are_kept_unless_the_user_said_how_many():
    loader = plugin.DeadNeuronsLoader()
    flags = SimpleNamespace(samples_per_plugin={})
    loader.fix_flags(flags)
    assert flags.samples_per_plugin == {"deadneuron": 2000}
    flags = SimpleNamespace(samples_per_plugin={"deadneuron": 7})
    loader.fix_flags(flags)
    assert flags.samples_per_plugin == {"deadneuron": 7}


def test_files_that_cannot_be_found_are_a_message_in_the_tab(monkeypatch, capsys):
    def broken():
        raise ImportError("</script> no package")

    monkeypatch.setattr(plugin, "_files", broken)
    apps = apps_of(Provider({}))
    _, headers, body = answer(apps, "/index.js")
    assert headers["Content-Type"].startswith("text/javascript")
    assert "export function render()" in body.decode()
    assert "no package" in body.decode()
    assert "ImportError" in capsys.readouterr().err
