"""The product's code location after a function has had its way with it, as Dagster's own processes load it.

SABOTAGE names the function as MODULE:FUNCTION. What the functions do lies with the attacks.
"""

import importlib
import os

from s3logx_tests.torture.attack import SABOTAGE

_module, _, _function = os.environ[SABOTAGE].partition(":")
getattr(importlib.import_module(_module), _function)()

from s3logx_assets.definitions import defs  # noqa: E402

__all__ = ["defs"]
