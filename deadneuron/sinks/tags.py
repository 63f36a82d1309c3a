"""The tags that the TensorBoard sink writes for the tab, and their layout. docs/tensorboard.md lists them.

All are tensors of this plugin, so that TensorBoard's data provider serves them from local and remote log folders alike.
"""

from __future__ import annotations

PLUGIN = "deadneuron"
TAB_VERSION = 1  # of what these tags hold

NAMES = "deadneuron.tab/sites"
"""One text: JSON, {"version": 1, "sites": [[name, op, units, units a row, phase], …]} in the order of the places that
the other tags speak of. Written anew whenever a site is added."""

SHARES = "deadneuron.tab/shares"
"""int32 [sites seen, 6]: place, first step of the window, units dead, silent, rare, and n of the dead ones."""

STATES = "deadneuron.tab/states"
"""`STATES/<place>`: uint8 [rows]: the state of each unit (0 active, 1 rare, 2 silent, 3 dead), pooled to 256 rows."""

DEATHS = "deadneuron.tab/deaths"
"""`DEATHS/<block>`: float64 [events, 5]: place, unit, step, rate (NaN for none), kind (0 died, 1 born dead, 2 revived).
Only at windows in which there was one."""

BLOCK = 1000
"""Tables of deaths under one tag; the next one goes on. TensorBoard drops some of a tag's points beyond 2,000."""

DIED, BORN, REVIVED = range(3)
