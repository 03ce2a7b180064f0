"""The commands of the README, as words after `python -m`, for tests that run them as processes of their own.

With what settings they run, and what must come of them, does not belong here.
"""

import sys
from collections.abc import Callable, Sequence

from s3logx_tests.platform import DAILY

MODULE = "s3logx_assets.definitions"
_MATERIALIZE = ["dagster", "asset", "materialize", "-m", MODULE, "--select"]
UPDATE_SCOPES = ["dagster", "job", "execute", "-m", MODULE, "-j", "update_scopes"]
PUBLISH = [*_MATERIALIZE, "publication"]

# Runs a module as `python -m` does, when a function has had its way with the process.
_AFTER = """
import importlib, runpy, sys
_, module, function, *command = sys.argv
getattr(importlib.import_module(module), function)()
sys.argv = command
runpy.run_module(command[0], run_name="__main__", alter_sys=True)
"""


def backfill(dates: str) -> list[str]:
    """All daily assets over `dates`, given as FIRST...LAST."""
    return [*_MATERIALIZE, ",".join(DAILY), "--partition-range", dates]


def after(function: Callable[[], None], words: Sequence[str]) -> list[str]:
    """A whole command line, in a process in which `function`, of a module's top level, was called first."""
    return [sys.executable, "-c", _AFTER, function.__module__, function.__name__, *words]
