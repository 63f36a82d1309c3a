"""A training script, run in this process under the monitor, unedited.

Its models and optimizers are found as it uses them (`finder`), its loss is read where it calls backward (`losses`), its
rates may be scaled (`measure.rescale`) and its seeds moved (`seeding`). With neither a rate nor a seed given, it
computes bit for bit what it computes alone.
"""

from __future__ import annotations

import builtins
import functools
import os
import runpy
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from itertools import count
from pathlib import Path
from shutil import rmtree
from types import ModuleType
from typing import Any

from torch import Tensor, nn

import deadneuron
from deadneuron.errors import ScriptError
from deadneuron.integrations.finder import Finder
from deadneuron.integrations.losses import LossReader
from deadneuron.integrations.patches import Patches
from deadneuron.integrations.seeding import seed_everything, vary_seeds
from deadneuron.measure.rescale import Rescale
from deadneuron.monitor import Monitor
from deadneuron.profiles import Profile, load_profile
from deadneuron.watching import watch

_TELL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """What became of a script."""

    exit_code: int  # as Python's would be
    runs: tuple[Path, ...]  # a run folder for each model that was trained, in the order of their first passes
    steps: int  # of the model that was trained longest
    loss_known: bool  # whether the script called backward on a number


def run_script(
    script: str | Path,
    args: Sequence[str],
    folder: Path,
    *,
    module: bool = False,
    lr: float | None = None,
    seed: int | None = None,
    replicate: int = 0,
    profile: str | Path | Profile = "default",
    on_steps: Callable[[int], None] | None = None,
) -> ScriptRun:
    """Run a script as `python script args…` would, and write what its models do to run folders in `folder`.

    Args:
        script: its path, or with `module` a name as after `python -m`.
        args: what it finds in sys.argv[1:].
        folder: gets the run folders model, model-2 …; older runs there are replaced.
        lr: the rate of the first group of the first optimizer that the script makes. All rates of the script are scaled
            by the same factor while an optimizer steps, so that its schedule and the ratios between groups stay.
        seed: what Python, numpy and torch are seeded with before the script begins.
        replicate: moves this seed, and each that the script itself sets; 0 leaves them.
        profile: how to measure.
        on_steps: called now and then, in another thread, with the number of steps so far.

    An exception of the script is printed as Python would, without our frames, and ends it with code 1.

    Raises:
        ScriptError: there is no such script; it trains no model that can be watched; its rate cannot be scaled.
        ProfileError: an unknown profile, key or value.
        KeyboardInterrupt: Ctrl-C; what was counted until then is in the run folders.
    """
    chosen = load_profile(profile)
    if not module and not Path(script).is_file():
        raise ScriptError("there is no such script", where=str(script), todo="give the path of a Python file")
    patches, folder = Patches(), folder.absolute()  # the script may change the working directory
    rescales: list[Rescale] = []

    def attach(model: nn.Module, optimizers: list[Any]) -> Monitor:
        taken = {monitor.path.name for monitor in finder.monitors}  # what is closed gave its name back
        names = ("model" if number == 1 else f"model-{number}" for number in count(1))
        run = folder / next(name for name in names if name not in taken)
        return watch(model, optimizers, run=run, profile=chosen, overwrite=True)

    def rescale(optimizer: Any, factor: float) -> None:
        if factor != 1.0:
            rescales.append(Rescale(optimizer, lambda: factor))

    def note_loss(loss: Tensor) -> None:
        for monitor in finder.monitors:
            if monitor.in_step:  # in a GAN, the loss of one model is not the other's
                monitor.log(loss=loss)

    with ExitStack() as stack:
        stack.callback(patches.restore)
        finder = Finder(patches, attach, rescale, lr)
        stack.callback(finder.stop)
        reader = LossReader(patches, note_loss)
        _redirect_own_runs(patches, folder / "own")
        if seed is not None:
            seed_everything(seed, replicate)
        vary_seeds(patches, replicate)
        if on_steps is not None:
            stack.enter_context(_telling(finder.monitors, on_steps))
        code, error, hook = 0, None, sys.excepthook
        try:
            with _as_main(str(script), args, module=module):
                if module:
                    runpy.run_module(str(script), run_name="__main__", alter_sys=True)
                else:
                    _run_file(str(script))
        except SystemExit as stop:
            code = _exit_code(stop)
        except ScriptError:
            _close(finder.monitors, None)
            raise
        except Exception as problem:
            code, error = 1, problem
            _tell_exception(problem, hook)
        except BaseException as problem:
            _close(finder.monitors, problem)
            raise
        runs = _close(finder.monitors, error)
        for one in rescales:
            one.remove()
    if not runs and code == 0:
        raise _why_nothing(finder, str(script))
    steps = max((monitor.steps for monitor in finder.monitors), default=0)
    return ScriptRun(code, runs, steps, reader.seen)


def _run_file(script: str) -> None:
    """As `python script`: other than with runpy, __file__ is absolute, so that it holds after a chdir."""
    path, before = os.path.abspath(script), sys.modules["__main__"]
    code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    main = ModuleType("__main__")
    loader = SourceFileLoader("__main__", path)
    main.__dict__.update(__file__=path, __cached__=None, __loader__=loader, __builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    try:
        exec(code, main.__dict__)
    finally:
        sys.modules["__main__"] = before


def _redirect_own_runs(patches: Patches, folder: Path) -> None:
    """A script that calls `deadneuron.watch` itself writes below `folder`: many trainings must not share one run."""

    def make(original: Callable[..., Monitor]) -> Callable[..., Monitor]:
        @functools.wraps(original)
        def watch_apart(*args: Any, **kwargs: Any) -> Monitor:
            if patches.active:
                given = args[2] if len(args) > 2 else kwargs.get("run")
                name = "run" if given is None else Path(given).name
                args, kwargs = args[:2], {**kwargs, "run": folder / name, "overwrite": True}
            return original(*args, **kwargs)

        return watch_apart

    patches.replace(deadneuron, "watch", make)


@contextmanager
def _as_main(script: str, args: Sequence[str], *, module: bool) -> Iterator[None]:
    argv, path = sys.argv, list(sys.path)
    sys.argv = [script, *args]
    sys.path[0:1] = [str(Path.cwd() if module else Path(script).resolve().parent)]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path


@contextmanager
def _telling(monitors: Sequence[Monitor], on_steps: Callable[[int], None]) -> Iterator[None]:
    over = threading.Event()

    def tell() -> None:
        while not over.wait(_TELL_SECONDS):
            on_steps(max((monitor.steps for monitor in list(monitors)), default=0))

    thread = threading.Thread(target=tell, name="deadneuron-steps", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _close(monitors: Sequence[Monitor], error: BaseException | None) -> tuple[Path, ...]:
    """Close all; the folders of models that were never trained go."""
    runs = []
    for monitor in monitors:
        monitor.__exit__(None if error is None else type(error), error, None)
        if monitor.steps:
            runs.append(monitor.path)
        else:
            with suppress(OSError):
                rmtree(monitor.path)
    return tuple(runs)


def _why_nothing(finder: Finder, script: str) -> ScriptError:
    if not finder.made:
        todo = "deadneuron dates deaths by steps of torch.optim; in a loop of another kind use deadneuron.watch()"
        return ScriptError("the script made no optimizer of torch.optim", where=script, todo=todo)
    if finder.monitors:
        todo = "does it train with these arguments?"
        return ScriptError("no optimizer of the script stepped", where=script, todo=todo)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in finder.refused.items())
    unseen = "nothing that an optimizer trains was called as model(x) in train mode, outside of compiled functions"
    what = reasons or unseen
    return ScriptError(f"no model to watch ({what})", where=script, todo="use deadneuron.watch() in the script")


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    print(stop.code, file=sys.stderr)
    return 1


def _tell_exception(problem: Exception, hook: Any) -> None:
    """As Python does when a script ends with it; without our frames. `hook`: sys.excepthook before the script."""
    ours = (str(Path(__file__).parent), runpy.__file__, "<frozen runpy>")
    if sys.excepthook is not hook:  # the script's own, of a logger or of rich
        trace = problem.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
            trace = trace.tb_next
        mine, sys.excepthook = sys.excepthook, hook
        mine(type(problem), problem, trace)
        return
    told: traceback.TracebackException | None = traceback.TracebackException.from_exception(problem)
    waiting, seen = [told], set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.stack[:] = [frame for frame in one.stack if not frame.filename.startswith(ours)]
        waiting += [one.__cause__, one.__context__]
    assert told is not None
    sys.stderr.write("".join(told.format()))
