"""Two epochs of one store, the present one and the one that is being made beside it: `private` and `private.next`.

They are exchanged in one step where the system can (adapters/renames.py). Elsewhere it takes three renames, by way of `private.aside`; whoever takes up the store next ends what a crash
left between them (`finish_exchange`), so nobody finds it missing. What an epoch holds, and who may work on it meanwhile,
does not belong here.
"""

import errno
import os
from pathlib import Path

from s3logx_assets.adapters.renames import exchanged


def next_epoch(root: Path) -> Path:
    """Where the next epoch of the store at `root` is made; after the exchange, where the last one is."""
    return root.with_name(f"{root.name}.next")


def exchange(root: Path) -> None:
    """Exchanges the store at `root` with its next epoch; for who works on it alone. Raises OSError."""
    if not exchanged(root, next_epoch(root)):
        os.rename(root, _aside(root))
        os.rename(next_epoch(root), root)
        os.rename(_aside(root), next_epoch(root))


def finish_exchange(root: Path) -> None:
    """Ends an exchange that a crash cut off; several may do this at once. Raises OSError."""
    if _aside(root).exists():
        if not root.exists():
            _move(next_epoch(root), root)
        _move(_aside(root), next_epoch(root))


def _move(folder: Path, target: Path) -> None:
    """Renames a folder, unless another process was first: then it is gone, or the target is there and full."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise


def _aside(root: Path) -> Path:
    return root.with_name(f"{root.name}.aside")
