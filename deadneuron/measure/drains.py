"""From a packed pool to `Window` records: numpy on the host, off the training thread."""

from __future__ import annotations

import numpy as np

from deadneuron.measure.pool import _FLOATS, _INTS, _TOTALS, Packed
from deadneuron.records import BINS, Phase, Window


def unpack(
    packed: Packed, *, phase: Phase, rank: int, first_step: int, last_step: int, two_histograms: frozenset[int]
) -> list[Window]:
    """One window a site that saw any row. Waits for the device here, on the caller's thread."""
    if packed.ready is not None:  # this thread's own stream would not wait for the training's
        packed.ready.synchronize()
    data = packed.data.cpu().numpy()
    sites = len(packed.layout)
    shapes = [(len(_INTS), packed.units), (sites, _TOTALS), (sites, 2, BINS + 1), (len(_FLOATS), packed.units)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    flat = np.split(data, ends[:-1])
    ints, totals, histograms = (part.reshape(shape) for part, shape in zip(flat[:3], shapes[:3], strict=True))
    floats = flat[3].view(np.float64).reshape(shapes[3])
    windows = []
    for index, (site, start, units) in enumerate(packed.layout):
        rows, samples, sampled_rows, steps = (int(n) for n in totals[index])
        if rows == 0:
            continue
        span = slice(start, start + units)
        active, first, last, above, nonfinite, since, _, common = ints[:, span]
        total, square, magnitude, peak = floats[:, span]
        finite = np.where(sampled_rows > nonfinite, sampled_rows - nonfinite, np.nan)
        windows.append(
            Window(
                site=site,
                phase=phase,
                rank=rank,
                first_step=first_step,
                last_step=last_step,
                steps=steps,
                samples=samples,
                rows=rows,
                active=active,
                first_active=first - 1,
                last_active=last - 1,
                sampled_rows=sampled_rows,
                above=above,
                nonfinite=nonfinite,
                first_nonfinite=since - 1,
                mean=total / finite,
                square=square / finite,
                magnitude=magnitude / finite,
                peak=np.where((nonfinite > 0) | (sampled_rows == 0), np.nan, peak),
                histogram=histograms[index, 0, :BINS],
                output_histogram=histograms[index, 1, :BINS] if site in two_histograms else None,
                last_common=common - 1,
            )
        )
    return windows
