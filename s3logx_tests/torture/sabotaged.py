"""The product's code location after a function has had its way with it, as Dagster's own processes load it. Its sensors look
more often than they do for users, so that what they do is seen sooner.

SABOTAGE names the function as MODULE:FUNCTION. What the functions do lies with the attacks.
"""

import importlib
import os

from s3logx_assets import automation
from s3logx_tests.torture.attack import SABOTAGE

automation._EVERY = 3  # seconds
_module, _, _function = os.environ[SABOTAGE].partition(":")
getattr(importlib.import_module(_module), _function)()

from s3logx_assets.definitions import defs  # noqa: E402

__all__ = ["defs"]
