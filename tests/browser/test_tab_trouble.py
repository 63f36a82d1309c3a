"""The tab when something is wrong: broken files, foreign runs, newer formats, failing routes. TensorBoard stays up."""

from __future__ import annotations

import shutil
import urllib.request

import numpy as np
import pytest
from making import make_info, make_site, make_window
from selenium.webdriver.common.keys import Keys
from serving import serving
from test_page_hostile import NAMES, SHOWN
from test_tab import SILENT, write
from torch.utils.tensorboard import SummaryWriter

from deadneuron.sinks import tab as sink
from deadneuron.sinks import tags
from deadneuron.sinks.replay import replay
from deadneuron.sinks.tensorboard import TensorBoard
from deadneuron.store.reader import StoredRun


def opened(look, server):
    look.driver.get(server.tab)
    look.until(lambda: look.all("iframe"))
    look.driver.switch_to.frame(look.find("iframe"))
    look.until(lambda: look.all(".tab"))


def alive(server):
    with urllib.request.urlopen(f"{server.address}data/plugins_listing", timeout=60) as answer:
        assert answer.status == 200
        return answer.read().decode()


FAILED = ("Failed to load resource",)  # what the browser itself says of a route that answers with an error


def test_broken_foreign_half_written_and_newer_runs_do_no_harm_to_others(look, tmp_path, monkeypatch):
    look.allowed = FAILED
    logs = tmp_path / "logs"
    write(logs / "good", SILENT)
    shutil.copytree(logs / "good", logs / "torn")
    (torn,) = (logs / "torn").iterdir()
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size * 6 // 10])
    (logs / "broken").mkdir()
    (logs / "broken" / "events.out.tfevents.1.x").write_bytes(b"\x07nothing" * 999)
    with SummaryWriter(str(logs / "foreign")) as writer:
        writer.add_scalar("loss", 1.0, 1)
    with SummaryWriter(str(logs / "nonsense")) as writer:
        add = sink._adder(writer)
        add(tags.NAMES, np.array(b'{"version": 1, "sites": [["a"]]}', dtype=object), 1, None)
        add(tags.SHARES, np.zeros((1, 6), dtype=np.int32), 1, None)
    with monkeypatch.context() as later:
        later.setattr(sink, "TAB_VERSION", 7)
        write(logs / "newer", SILENT)
    with serving(logs, tmp_path / "said") as server:
        server.wait("runs", lambda runs: {"good", "torn", "newer", "nonsense"} <= set(runs))
        server.wait("overview", lambda one: one.get("steps") == [0, 299], run="good")
        assert set(server.ask("runs")) == {"good", "torn", "newer", "nonsense"}
        assert "format 7" in server.ask("overview", run="newer")["error"]
        assert "error" in server.ask("overview", run="nonsense")
        assert "error" in server.ask("overview", run="none")
        assert "error" in server.ask("overview")
        assert "error" in server.ask("site", run="good", place="a")
        assert "error" in server.ask("site", run="good", place=99)
        assert server.wait("overview", lambda one: "steps" in one, run="torn")["steps"][1] < 299
        opened(look, server)
        look.until(lambda: look.all(".dn-raster"))
        for run, text in (("newer", "format 7"), ("nonsense", "This cannot be shown"), ("torn", "layers.0.act")):
            look.js("const s = document.querySelector('[data-pick]'); s.value = arguments[0];"
                    "s.dispatchEvent(new Event('change'))", run)  # fmt: skip
            look.until(lambda text=text: text in look.text(".tab-pictures"))
        assert "deadneuron" in alive(server)


def test_hostile_names_of_runs_and_layers_are_text(look, tmp_path):
    sites = [make_site(number, 5, name=name) for number, name in enumerate(NAMES)]
    windows = [make_window(site, 0, 4, [[1] * 5] * 5) for site in sites]
    logs = tmp_path / "logs"
    run = "<img src=x onerror=\"document.title='bitten'\">&' run"
    replay(StoredRun(make_info(sites), tuple(windows), (), ()), TensorBoard(logs / run))
    with serving(logs, tmp_path / "said") as server:
        server.wait("overview", lambda one: len(one.get("sites", [])) == len(NAMES), run=run)
        opened(look, server)
        look.until(lambda: look.all(".dn-heat"))
        assert look.names() == SHOWN
        assert look.find(".tab-run h2").text == run
        assert look.js("return document.title + window.parent.document.title").count("bitten") == 0
        assert look.js("return document.querySelectorAll('img').length") == 0
        assert look.overflow() == []


def test_a_log_folder_without_runs_says_how_to_get_one(look, tmp_path):
    with SummaryWriter(str(tmp_path / "logs" / "mine")) as writer:
        writer.add_scalar("loss", 1.0, 1)
    with serving(tmp_path / "logs", tmp_path / "said") as server:
        assert server.ask("runs") == []
        look.driver.get(f"{server.address}data/plugin_entry.html?name=deadneuron")
        look.until(lambda: "sinks=[deadneuron.TensorBoard" in look.text("body"))


def test_new_data_is_drawn_and_what_is_open_stays_open(look, tmp_path):
    logs = tmp_path / "logs"
    write(logs / "run", SILENT, steps=200)
    with serving(logs, tmp_path / "said") as server:
        server.wait("overview", lambda one: one.get("steps") == [0, 199], run="run")
        opened(look, server)
        look.until(lambda: look.all(".dn-raster"))
        look.all(".dn-name")[1].send_keys(Keys.ENTER)
        look.until(lambda: len(look.all(".dn-raster")) == 2)
        look.js("document.querySelector('.dn-rates').dataset.old = '1'")
        look.js("document.querySelector('.tab').dispatchEvent(new Event('refresh'))")
        look.js("return fetch('./runs').then(() => new Promise((done) => setTimeout(done, 500)))")
        assert look.js("return document.querySelector('.dn-rates').dataset.old") == "1", "nothing new, nothing drawn"
        write(logs / "run", SILENT, steps=300)
        server.wait("overview", lambda one: one.get("steps") == [0, 299], run="run")
        look.js("document.querySelector('.tab').dispatchEvent(new Event('refresh'))")
        look.until(lambda: look.js("return document.querySelector('.dn-rates').dataset.old") != "1")
        assert len(look.all(".dn-raster")) == 2
        look.until(lambda: look.states([0.95])[3] == [3])


FAILING = """
from deadneuron.tensorboard_plugin import reading
def overview(source, query): raise RuntimeError("out of <b>luck</b>")
reading.overview = overview
"""


def test_a_failing_route_is_a_message_in_the_tab(look, tmp_path):
    look.allowed = FAILED
    write(tmp_path / "logs" / "run", SILENT)
    with serving(tmp_path / "logs", tmp_path / "said", code=FAILING) as server:
        server.wait("runs", bool)
        opened(look, server)
        look.until(lambda: "RuntimeError: out of <b>luck</b>" in look.text(".tab-error"))
        assert "deadneuron" in alive(server)
        assert "out of" in server.said.read_text(), "and stands in TensorBoard's log"


BROKEN = {
    "a module that the routes need": "import sys; sys.modules['deadneuron.tensorboard_plugin.reading'] = None",
    "the drawing code": "import sys; sys.modules['deadneuron.report'] = None",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_import_inside_the_package_leaves_tensorboard_up(look, tmp_path, what):
    look.allowed = FAILED
    write(tmp_path / "logs" / "run", SILENT)
    with serving(tmp_path / "logs", tmp_path / "said", code=BROKEN[what]) as server:
        assert "scalars" in alive(server)
        look.driver.get(f"{server.address}data/plugin_entry.html?name=deadneuron")
        look.until(lambda: "cannot be shown" in look.text("body"))
