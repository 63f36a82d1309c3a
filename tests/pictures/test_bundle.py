"""The drawing code: modules that become one script, and text that never becomes markup."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import resources

import pytest

from deadneuron.report.bundle import bundle, web_file

WEB = sorted(file.name for file in (resources.files("deadneuron.report") / "web").iterdir())
SCRIPTS = [name for name in WEB if name.endswith(".js")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_module_keeps_to_the_syntax_that_can_be_bundled(name):
    for line in web_file(name).splitlines():
        if line.startswith("import"):
            assert re.fullmatch(r'import \{ [\w, ]+ \} from "\./[a-z]+\.js";', line)
        if line.startswith("export"):
            assert re.match(r"export (async function|function|const|class) \w+", line)
        assert "import(" not in line


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_module_makes_markup_of_text_or_asks_another_machine(name):
    text = web_file(name)
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert forbidden not in text
    assert re.findall(r"https?://[^\"\s]+", text) in ([], ["http://www.w3.org/2000/svg"])


def test_each_module_comes_once_and_after_what_it_needs():
    made = bundle()
    names = re.findall(r"^const module_(\w+) = ", made, re.MULTILINE)
    assert len(names) == len(set(names))
    for name in names:
        for needed in re.findall(r'from "\./([a-z]+)\.js"', web_file(f"{name}.js")):
            assert names.index(needed) < names.index(name)
    assert "import " not in re.sub(r"//.*", "", made)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_bundle_is_a_script_that_node_can_parse(tmp_path):
    (tmp_path / "bundle.mjs").write_text(bundle())
    done = subprocess.run(["node", "--check", str(tmp_path / "bundle.mjs")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
