"""Records go through Parquet and JSON and come back the same."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_info, make_site, make_window, same

from deadneuron.errors import NewerFormatError, NotARunError
from deadneuron.records import BINS, Gap, Tick, Window
from deadneuron.store.layout import SCHEMAS, from_table, info_from_json, info_to_json, round_mantissa, to_table
from deadneuron.store.parts import write_part

_INT = st.integers(-(2**63), 2**63 - 1)
_COUNT = st.integers(0, 2**63 - 1)
# Doubles whose float32 is a normal number: what is smaller keeps fewer bits, and is as good as zero.
_NORMAL = st.floats(-1e38, 1e38).filter(lambda x: x == 0 or abs(x) > 1e-37)
_STATISTIC = _NORMAL | st.sampled_from([math.nan, math.inf, -math.inf])


@st.composite
def windows(draw: st.DrawFn) -> Window:
    units = draw(st.integers(0, 13))
    integers = hnp.arrays(np.int64, units, elements=_INT)
    floats = hnp.arrays(np.float64, units, elements=_STATISTIC)
    histogram = hnp.arrays(np.int64, BINS, elements=_COUNT)
    return Window(
        site=draw(st.integers(0, 2**31 - 1)),
        phase=draw(st.sampled_from(["train", "eval"])),
        rank=draw(st.integers(0, 2**31 - 1)),
        first_step=draw(_COUNT),
        last_step=draw(_COUNT),
        steps=draw(st.integers(0, 2**31)),
        samples=draw(_COUNT),
        rows=draw(_COUNT),
        active=draw(integers),
        first_active=draw(integers),
        last_active=draw(integers),
        sampled_rows=draw(_COUNT),
        above=draw(integers),
        nonfinite=draw(integers),
        first_nonfinite=draw(integers),
        mean=draw(floats),
        square=draw(floats),
        magnitude=draw(floats),
        peak=draw(st.none() | floats),
        histogram=draw(histogram),
        output_histogram=draw(st.none() | histogram),
        flow=draw(st.none() | integers),
        last_flow=draw(st.none() | integers),
    )


_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
ticks = st.builds(
    Tick,
    step=_COUNT,
    time=_FLOAT,
    rates=st.lists(_FLOAT, max_size=5).map(tuple),
    skipped=st.booleans(),
    multipliers=st.none() | st.lists(_FLOAT, max_size=3).map(tuple),
    loss=st.none() | _FLOAT,
    grad_norm=st.none() | _FLOAT,
)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
gaps = st.builds(Gap, where=_TEXT, reason=_TEXT, first_step=_COUNT)


@settings(max_examples=40, deadline=None)
@given(st.lists(windows(), max_size=5))
def test_windows_come_back_with_exact_integers_and_floats_to_eleven_bits(made):
    back = from_table("windows", to_table("windows", made))
    assert len(back) == len(made)
    assert all(same(a, b, relative=2.0**-11) for a, b in zip(made, back, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(ticks, max_size=7))
def test_ticks_come_back_bit_by_bit(made):
    back = from_table("ticks", to_table("ticks", made))
    assert same(tuple(back), tuple(made))


@settings(max_examples=60, deadline=None)
@given(st.lists(gaps, max_size=7))
def test_gaps_come_back_whatever_their_text(made):
    assert from_table("gaps", to_table("gaps", made)) == made


@settings(max_examples=10, deadline=None)
@given(made=st.lists(windows(), min_size=1, max_size=3))
def test_windows_come_back_from_a_file_and_through_slices(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("parts") / "windows-000001-000001.parquet"
    write_part(path, to_table("windows", made))
    table = pq.read_table(path)
    assert same(tuple(from_table("windows", table)), tuple(made), relative=2.0**-11)
    assert same(tuple(from_table("windows", table.slice(1))), tuple(made[1:]), relative=2.0**-11)


def test_statistics_beyond_float32_become_infinite_without_a_warning():
    site = make_site(units=2)
    window = make_window(site, 0, 0, [[1, 1]], square=np.array([1e300, -1e300]))
    (back,) = from_table("windows", to_table("windows", [window]))
    assert back.square.tolist() == [math.inf, -math.inf]


@given(hnp.arrays(np.float32, 17, elements=st.floats(width=32)))
def test_rounding_keeps_ten_bits_and_every_nan_and_infinity(values):
    rounded = round_mantissa(values)
    assert np.array_equal(np.isnan(rounded), np.isnan(values))
    finite = np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny) & (np.abs(values) < 2.0**127)
    assert np.all(np.abs(rounded[finite].astype(float) / values[finite].astype(float) - 1) <= 2.0**-11)
    assert np.all(rounded[finite].view(np.uint32) & np.uint32((1 << 13) - 1) == 0)
    assert np.array_equal(rounded[np.isinf(values)], values[np.isinf(values)])


def test_pandas_reads_a_part_by_itself(tmp_path):
    site = make_site(units=5)
    made = [make_window(site, 0, 1, [[1, 2, 3, 0, 5]] * 2), make_window(site, 2, 2, [[0, 0, 1, 0, 0]])]
    write_part(tmp_path / "windows-000001-000001.parquet", to_table("windows", made))
    table = pd.read_parquet(tmp_path)
    assert table["first_step"].tolist() == [0, 2]
    assert table["active"][0].tolist() == [2, 4, 6, 0, 10]
    assert list(table.columns) == SCHEMAS["windows"].names


def test_a_missing_optional_column_is_none(tmp_path):
    window = make_window(make_site(), 0, 0, [[1] * 7], flow=np.arange(7), last_flow=np.arange(7))
    table = to_table("windows", [window]).drop_columns(["flow", "last_flow"])
    (back,) = from_table("windows", table)
    assert back.flow is None
    assert back.last_flow is None


@pytest.mark.parametrize("gate", [(0.0, math.inf), (-math.inf, math.inf), (-2.9957, 2.9957), (-math.inf, -1e-3)])
def test_run_json_comes_back_with_infinite_gates(gate):
    info = make_info([make_site(0, 3, gate=gate), make_site(1, 5, group=None, feeder=None)], ended="2024-03-01")
    text = info_to_json(info)
    assert info_from_json(text, "here") == info
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_run_json_of_a_later_writer_of_the_same_format_is_read_without_its_new_keys():
    info = make_info([make_site()])
    document = json.loads(info_to_json(info))
    for part in (document, document["sites"][0], document["sampling"], document["thresholds"]):
        part["invented_later"] = [1]
    assert info_from_json(json.dumps(document), "here") == info


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "7", '"text"', "{}", "[" * 100_000, "\x00"),
        *('{"format": null}', '{"format": "x"}', '{"format": 1}', '{"format": Infinity}', '{"format": NaN}'),
    ],
)
def test_a_text_that_is_no_run_json_is_one_line(text):
    with pytest.raises(NotARunError) as caught:
        info_from_json(text, "here/run.json")
    assert "\n" not in str(caught.value)
    assert "here/run.json" in str(caught.value)


def test_a_newer_format_says_to_upgrade_even_if_nothing_else_is_known():
    with pytest.raises(NewerFormatError, match=r"format 1000.*reads up to 1.*upgrade") as caught:
        info_from_json('{"format": 1000, "all": "new"}', "here")
    assert "\n" not in str(caught.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(0.5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_run_json_is_refused_in_one_line_or_read_as_what_it_says(data):
    document = json.loads(info_to_json(make_info([make_site(0, 3), make_site(1, 5)])))
    places = [(document, k) for k in document if k != "format"]
    places += [(site, k) for site in document["sites"] for k in site]
    places += [(document[part], k) for part in ("sampling", "thresholds") for k in document[part]]
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(_JSON)
    refused = ""
    try:
        info = info_from_json(json.dumps(document), "here")
    except NotARunError as error:
        refused, info = str(error), make_info()
    assert "\n" not in refused
    # What passes has the types that it promises.
    assert all(isinstance(site.units, int) and isinstance(site.name, str) for site in info.sites)
    assert isinstance(info.thresholds.severe, float | int)
    assert all(isinstance(name, str) for name in (*info.groups, *info.modules))


def test_every_field_of_a_record_has_a_column_and_every_column_a_field():
    for kind, record in (("windows", Window), ("ticks", Tick), ("gaps", Gap)):
        assert SCHEMAS[kind].names == list(record.__dataclass_fields__), kind


def test_schemas_hold_counts_in_integers_that_do_not_round():
    counts = ["samples", "rows", "active", "first_active", "last_active", "sampled_rows", "above", "histogram", "flow"]
    for name in counts:
        kind = SCHEMAS["windows"].field(name).type
        assert pa.types.is_int64(kind.value_type if pa.types.is_large_list(kind) else kind), name


def test_replacing_a_record_field_does_change_what_is_read_back():
    """The comparison that the round trips rest on can fail."""
    window = make_window(make_site(), 0, 0, [[1] * 7])
    assert same(window, replace(window))
    assert not same(window, replace(window, active=window.active + 1))
    assert not same(window, replace(window, mean=window.mean * (1 + 2.0**-9)), relative=2.0**-11)
    assert not same(window, replace(window, peak=None))
