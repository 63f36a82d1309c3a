"""The writer loses nothing that a later flush can still write, and never raises into a training."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from dataclasses import replace

import pytest
from making import make_info, make_site, make_ticks, make_window

from deadneuron.frames import read_run
from deadneuron.records import Gap, Tick
from deadneuron.store import layout, parts, writer
from deadneuron.store.reader import read_folder

SITE = make_site(0, 5)


def window(first, last):
    return make_window(SITE, first, last, [[1, 2, 0, 3, 4]] * (last - first + 1))


def steps(path):
    return [tick.step for tick in read_folder(path).ticks]


def add_ticks(made, first, last):
    for tick in make_ticks([0.1] * (last + 1))[first:]:
        made.add("ticks", lambda tick=tick: [tick])


def test_a_run_can_be_read_from_its_first_moment(make_writer):
    made = make_writer()
    assert read_folder(made.path).info.sites == (SITE,)
    assert made.folder.name.startswith(f"rank0-{os.getpid()}-")


def test_what_was_added_is_read_after_a_flush_and_not_before(make_writer, failures):
    made = make_writer()
    add_ticks(made, 0, 4)
    made.add("windows", lambda: [window(0, 4)])
    made.add("gaps", lambda: [Gap("here", "why", 1)])
    assert steps(made.path) == []
    made.flush()
    run = read_folder(made.path)
    assert [tick.step for tick in run.ticks] == list(range(5))
    assert len(run.windows) == 1
    assert run.gaps == (Gap("here", "why", 1),)
    assert not failures


def test_the_thread_flushes_by_itself(make_writer):
    made = make_writer(seconds=0.02)
    add_ticks(made, 0, 2)
    deadline = time.monotonic() + 10
    while steps(made.path) != [0, 1, 2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_many_waiting_records_wake_the_thread_before_its_time(make_writer):
    made = make_writer(seconds=3600.0)
    add_ticks(made, 0, 1200)
    deadline = time.monotonic() + 20
    while not steps(made.path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(steps(made.path)) >= 1000


def test_closing_writes_the_rest_leaves_one_part_a_kind_and_stops_the_thread(make_writer):
    made = make_writer()
    for i in range(5):
        add_ticks(made, i, i)
        made.add("windows", lambda i=i: [window(5 * i, 5 * i + 4)])
        made.flush()
    add_ticks(made, 5, 5)
    made.close()
    made.close()
    assert steps(made.path) == list(range(6))
    names = sorted(path.name for path in made.folder.iterdir())
    assert names == ["ticks-000001-000006.parquet", "windows-000001-000005.parquet"]
    assert not any(thread.name == "deadneuron-run" for thread in threading.enumerate())


def test_run_json_is_replaced_at_the_next_flush(make_writer):
    made = make_writer()
    made.update(make_info([SITE], ended="2024-03-01T00:00:00+00:00"))
    assert read_folder(made.path).info.ended == "2024-02-29T12:10:00+00:00"
    made.flush()
    assert read_folder(made.path).info.ended == "2024-03-01T00:00:00+00:00"


def test_the_open_window_is_written_and_removed_when_it_is_closed(make_writer):
    made = make_writer()
    made.set_open(lambda: [window(0, 2)])
    made.flush()
    assert [(w.first_step, w.last_step) for w in read_folder(made.path).windows] == [(0, 2)]
    made.set_open(lambda: [window(0, 3)])
    made.add("windows", lambda: [window(0, 4)])
    made.flush()
    assert [(w.first_step, w.last_step) for w in read_folder(made.path).windows] == [(0, 4)]
    assert not (made.folder / layout.OPEN).exists()
    made.set_open(lambda: [window(5, 6)])
    made.flush()
    made.close()
    assert [(w.first_step, w.last_step) for w in read_folder(made.path).windows] == [(0, 4), (5, 6)]


def fail_once(monkeypatch, module, code=errno.ENOSPC):
    """The next os.replace fails as on a full disk."""
    real, failed = os.replace, []

    def replace_file(source, target):
        if not failed:
            failed.append(target)
            raise OSError(code, os.strerror(code), str(target))
        real(source, target)

    monkeypatch.setattr(module.os, "replace", replace_file)
    return failed


@pytest.mark.parametrize("module", [parts, layout])
def test_a_full_disk_is_told_once_and_its_records_are_written_at_the_next_flush(
    make_writer, failures, monkeypatch, module
):
    made = make_writer()
    add_ticks(made, 0, 2)
    made.add("windows", lambda: [window(0, 4)])
    made.add("gaps", lambda: [Gap("here", "why", 1)])
    made.update(make_info([SITE], model="Renamed"))
    failed = fail_once(monkeypatch, module)
    made.flush()
    assert failed
    assert [where for where, _ in failures] == ["run folder"]
    assert "No space left" in failures[0][1]
    add_ticks(made, 3, 4)
    made.flush()
    run = read_folder(made.path)
    assert [tick.step for tick in run.ticks] == list(range(5))
    assert len(run.windows) == 1
    assert run.gaps == (Gap("here", "why", 1),)
    assert run.info.model == "Renamed"
    assert len(failures) == 1


def test_a_disk_that_is_full_at_the_close_is_tried_once_more(make_writer, failures, monkeypatch):
    made = make_writer()
    add_ticks(made, 0, 2)
    fail_once(monkeypatch, parts)
    made.close()
    assert steps(made.path) == [0, 1, 2]
    assert len(failures) == 1


@pytest.mark.parametrize("replaced_by", ["nothing", "file"])
def test_a_rank_folder_that_was_taken_away_is_told_and_written_when_it_is_back(make_writer, failures, replaced_by):
    made = make_writer()
    shutil.rmtree(made.folder)
    if replaced_by == "file":
        made.folder.write_text("in the way")
    add_ticks(made, 0, 2)
    made.flush()
    made.flush()
    assert failures
    assert all(where == "run folder" for where, _ in failures)
    if replaced_by == "file":
        made.folder.unlink()
    made.folder.mkdir()
    made.flush()
    assert steps(made.path) == [0, 1, 2]


def test_closing_without_a_folder_does_not_raise(make_writer, failures):
    made = make_writer()
    add_ticks(made, 0, 2)
    shutil.rmtree(made.path)
    made.close()
    assert failures


def test_records_that_wait_for_the_disk_are_bounded_and_the_newest_are_kept(make_writer, monkeypatch):
    monkeypatch.setattr(writer, "_KEEP", 7)
    made = make_writer()
    hidden = made.folder.with_name("hidden")
    made.folder.rename(hidden)
    for step in range(0, 30, 3):
        add_ticks(made, step, step + 2)
        made.flush()
    hidden.rename(made.folder)
    made.flush()
    assert steps(made.path) == list(range(23, 30))


def test_what_arrives_during_a_slow_flush_is_not_dropped(make_writer, monkeypatch, failures):
    monkeypatch.setattr(writer, "_KEEP", 7)
    made = make_writer()

    def slow():
        for step in range(1, 30):
            add_ticks(made, step, step)
        return [Tick(0, 0.0, (0.1,))]

    made.add("ticks", slow)
    made.flush()
    made.flush()
    assert steps(made.path) == list(range(30))
    assert failures == []


class UnreadableError(Exception):
    pass


def broken():
    raise UnreadableError("the device is lost")


@pytest.mark.parametrize("kind", ["ticks", "windows", "gaps"])
def test_a_producer_that_raises_loses_only_its_own_records(make_writer, failures, kind):
    made = make_writer(seconds=0.02)
    add_ticks(made, 0, 2)
    made.add(kind, broken)
    add_ticks(made, 3, 4)
    made.add("windows", lambda: [window(0, 4)])
    made.flush()
    assert steps(made.path) == list(range(5))
    assert len(read_folder(made.path).windows) == 1
    assert [where for where, _ in failures] == [kind]
    assert "the device is lost" in failures[0][1]
    assert any(thread.name == "deadneuron-run" for thread in threading.enumerate())
    add_ticks(made, 5, 5)
    made.flush()
    assert steps(made.path) == list(range(6))
    assert len(failures) == 1


def test_an_open_window_that_raises_loses_nothing_else(make_writer, failures):
    made = make_writer()
    add_ticks(made, 0, 2)
    made.set_open(broken)
    made.flush()
    assert steps(made.path) == [0, 1, 2]
    assert len(failures) == 1


def test_records_that_fit_no_column_are_told_and_the_other_kinds_written(make_writer, failures):
    made = make_writer()
    made.add("windows", lambda: [replace(window(0, 4), rows="many")])
    add_ticks(made, 0, 2)
    made.flush()
    made.flush()
    assert steps(made.path) == [0, 1, 2]
    assert [where for where, _ in failures] == ["windows"]


def test_a_damaged_part_stops_merging_and_nothing_else(make_writer, failures):
    made = make_writer()
    for step in range(40):
        add_ticks(made, step, step)
        made.flush()
        if step == 5:
            (made.folder / "ticks-000002-000002.parquet").write_bytes(b"torn")
    made.close()
    assert steps(made.path) == [0, *range(2, 40)]
    assert len(failures) == 1
    assert "cannot merge" in failures[0][1]


def test_an_interrupt_in_the_middle_of_a_flush_loses_nothing(make_writer, monkeypatch):
    made = make_writer()
    add_ticks(made, 0, 2)
    made.add("windows", lambda: [window(0, 4)])
    real, calls = parts.write_part, []

    def interrupted(path, table):
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real(path, table)

    monkeypatch.setattr(parts, "write_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.flush()
    made.flush()
    assert steps(made.path) == [0, 1, 2]
    assert len(read_folder(made.path).windows) == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_writes_nothing_and_does_not_hang(make_writer):
    made = make_writer()
    add_ticks(made, 0, 2)
    made._lock.acquire()  # as if the thread had been at work when the process was forked
    child = os.fork()
    if child == 0:
        try:
            add_ticks(made, 3, 5)
            made.set_open(lambda: [window(0, 2)])
            made.update(make_info([SITE], model="Child"))
            made.flush()
            made.close()
        finally:
            os._exit(0)
    made._lock.release()
    deadline = time.monotonic() + 20
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert steps(made.path) == []
    made.flush()
    assert steps(made.path) == [0, 1, 2]
    assert read_folder(made.path).info.model == "Net"


def test_a_reader_beside_a_writer_that_merges_never_fails_repeats_or_skips(make_writer, failures, tmp_path):
    """Three kinds of records, merged every 16 flushes, read from another thread all the while."""
    made, last = make_writer(), 400
    seen, wrong = [], []
    done = threading.Event()

    def read():
        while not done.is_set():
            try:
                run = read_folder(made.path)
                spans = [(w.first_step, w.last_step) for w in run.windows]
                ticks = [tick.step for tick in run.ticks]
                ok = ticks == list(range(len(ticks))) and not run.gaps
                # Windows of three steps: contiguous from 0, each once, the last perhaps still open.
                ok = ok and all(a == 3 * i and a <= b <= 3 * i + 2 for i, (a, b) in enumerate(spans))
                ok = ok and all(b == 3 * i + 2 for i, (_, b) in enumerate(spans[:-1]))
                if not ok:
                    wrong.append((spans, ticks, run.gaps))
                seen.append((len(ticks), spans[-1][1] if spans else -1))
            except Exception as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(last):
        add_ticks(made, step, step)
        if step % 3 == 2:
            made.add("windows", lambda step=step: [window(step - 2, step)])
        else:
            made.set_open(lambda step=step: [window(step - step % 3, step)])
        made.flush()
    made.close()
    done.set()
    reader.join()
    assert not wrong, wrong[:1]
    assert not failures
    assert len(seen) > 10
    assert seen == sorted(seen), "a later look saw less"
    assert steps(made.path) == list(range(last))
    assert read_run(made.path).layers["last_step"].max() == last - 1
