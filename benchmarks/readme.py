"""Writes the measured parts of README.md: the demo's report, and the newest table of overhead under docs/proof/.

make demo && python benchmarks/readme.py
"""

from __future__ import annotations

import re
from pathlib import Path

import deadneuron
from deadneuron.report.text import render_text

ROOT = Path(__file__).parents[1]


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    diagnosis = deadneuron.diagnose(deadneuron.read_run("runs/demo/lr0.2"))
    text = _between(text, "report", f"```text\n{render_text(diagnosis, width=112)}```")
    tables = sorted((ROOT / "docs" / "proof").glob("*-overhead.md"))
    if tables:
        text = _between(text, "overhead", tables[-1].read_text("utf-8").partition("\n\n")[2].strip())
    readme.write_text(text, "utf-8")


def _between(text: str, part: str, new: str) -> str:
    pattern = re.compile(rf"(<!-- {part}:begin -->\n).*?(<!-- {part}:end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}\n{new}\n\n{match[2]}", text)


if __name__ == "__main__":
    main()
