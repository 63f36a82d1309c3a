"""What a sink is handed: the records of the run folder, each once, in order, whatever happens to the disk."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace

import pytest
from making import PROFILE, make_info, make_site, make_ticks, make_window

from deadneuron.errors import UsageError
from deadneuron.records import Gap
from deadneuron.store.reader import read_folder
from deadneuron.store.sink import as_sinks
from deadneuron.store.writer import Writer

SITE = make_site(0, 5)


class Recorder:
    """Keeps what it is told; raises where it is asked to."""

    def __init__(self, broken=()):
        self.broken, self.calls, self.windows, self.ticks, self.infos, self.threads = broken, [], [], [], [], []

    def _note(self, call):
        self.calls.append(call)
        self.threads.append(threading.current_thread())
        if call in self.broken:
            raise ValueError(f"cannot {call}")

    def open(self, info):
        self._note("open")
        self.infos.append(info)

    def write(self, info, windows, ticks):
        self._note("write")
        self.infos.append(info)
        self.windows += [(w.first_step, w.last_step) for w in windows]
        self.ticks += [t.step for t in ticks]

    def close(self):
        self._note("close")


@pytest.fixture
def write_to(tmp_path, failures):
    made = []

    def make(*sinks, seconds=3600.0):
        info = make_info([], sampling=replace(PROFILE.sampling, flush_seconds=seconds))
        made.append(Writer(tmp_path / "run", info, fail=lambda *failure: failures.append(failure), sinks=sinks))
        return made[-1]

    yield make
    for one in made:
        one.close()


def add(writer, first, last):
    for tick in make_ticks([0.1] * (last + 1))[first:]:
        writer.add("ticks", lambda tick=tick: [tick])
    window = make_window(SITE, first, last, [[1, 2, 0, 3, 4]] * (last - first + 1))
    writer.add("windows", lambda: [window])


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_sink_gets_every_record_once_and_the_newest_info(write_to, failures):
    sink = Recorder()
    writer = write_to(sink)
    writer.open_sinks()
    assert sink.calls == ["open"]
    add(writer, 0, 4)
    writer.add("gaps", lambda: [Gap("here", "why", 1)])
    writer.update(make_info([SITE]))
    writer.set_open(lambda: [make_window(SITE, 5, 6, [[1] * 5] * 2)])
    writer.flush()
    add(writer, 5, 9)
    writer.close()
    writer.close()
    assert sink.windows == [(0, 4), (5, 9)]
    assert sink.ticks == list(range(10))
    assert (sink.infos[0].sites, sink.infos[-1].sites) == ((), (SITE,))
    assert sink.calls[-1] == "close"
    assert sink.calls.count("close") == 1
    assert not failures


def test_the_background_thread_writes_and_a_flush_by_the_user_does_not(write_to):
    sink = Recorder()
    writer = write_to(sink, seconds=0.02)
    wait_for(lambda: not writer._wake.is_set())
    add(writer, 0, 4)
    wait_for(lambda: sink.windows)
    assert sink.threads[sink.calls.index("write")] is writer._thread
    quiet = Recorder()
    other = Writer(writer.path.with_name("other"), make_info([]), fail=print, sinks=[quiet])
    add(other, 0, 4)
    other.flush()
    assert quiet.calls == []
    other.close()
    assert quiet.calls == ["open", "write", "close"]
    assert quiet.windows == [(0, 4)]


def test_a_full_disk_neither_keeps_records_from_a_sink_nor_hands_them_over_twice(write_to, failures):
    sink = Recorder()
    writer = write_to(sink, seconds=0.02)
    hidden = writer.folder.with_name("hidden")
    writer.folder.rename(hidden)
    add(writer, 0, 4)
    wait_for(lambda: sink.windows)
    add(writer, 5, 9)
    wait_for(lambda: len(sink.windows) == 2)
    assert failures
    hidden.rename(writer.folder)
    writer.close()
    assert sink.windows == [(0, 4), (5, 9)]
    assert sink.ticks == list(range(10))
    assert [tick.step for tick in read_folder(writer.path).ticks] == list(range(10))


@pytest.mark.parametrize("broken", ["open", "write", "close"])
def test_a_sink_that_raises_is_dropped_and_closed_and_the_others_go_on(write_to, failures, broken):
    bad, good = Recorder([broken]), Recorder()
    writer = write_to(bad, good)
    writer.update(make_info([SITE]))
    for first in (0, 5, 10):
        add(writer, first, first + 4)
        writer.flush()
        writer._outlets.deliver(writer._known)
    writer.close()
    expected = {"open": ["open", "close"], "write": ["open", "write", "close"]}
    assert bad.calls == expected.get(broken, ["open", "write", "write", "write", "close"])
    assert good.windows == [(0, 4), (5, 9), (10, 14)]
    assert len(read_folder(writer.path).windows) == 3
    assert [where for where, _ in failures] == ["Recorder"]
    assert f"ValueError: cannot {broken}" in failures[0][1]


def test_sinks_are_served_without_a_run_folder(write_to, failures):
    sink = Recorder()
    writer = write_to(sink)
    shutil.rmtree(writer.path)
    add(writer, 0, 4)
    writer.close()
    assert sink.windows == [(0, 4)]
    assert failures


@pytest.mark.parametrize("wrong", ["tb", 7, ["tb"], [Recorder], [None]], ids=str)
def test_what_is_no_sink_is_refused(wrong):
    with pytest.raises(UsageError, match="sink"):
        as_sinks(wrong)


def test_a_sink_is_accepted():
    sink = Recorder()
    assert as_sinks([sink]) == (sink,)
