"""What `import deadneuron` costs beyond Python's own start, and what its command line's --help does.

python benchmarks/importing.py [--write]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

STARTS = {
    "python -c pass": "pass",
    "import deadneuron": "import deadneuron",
    "deadneuron --help": "import sys; sys.argv = ['deadneuron', '--help']; import deadneuron.cli as c; c.main()",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="write docs/proof/<date>-import.md")
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(args.rounds):  # in turns, so that a busy moment hits all alike
        for name, code in STARTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - began)
    own = statistics.median(times["python -c pass"])
    lines = [f"Python {sys.version.split()[0]}, median of {args.rounds} starts in turns.", ""]
    lines += ["| start | ms | beyond Python's own |", "|---|---|---|"]
    for name, taken in times.items():
        middle = statistics.median(taken)
        lines.append(f"| `{name}` | {1000 * middle:.0f} | {1000 * (middle - own):.0f} |")
    print("\n".join(lines))
    if args.write:
        path = Path(__file__).parents[1] / "docs" / "proof" / f"{date.today()}-import.md"
        path.write_text("# What importing costs (`make bench-import`)\n\n" + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
