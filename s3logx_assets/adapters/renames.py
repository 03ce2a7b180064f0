"""Renames that the standard library does not have, by renameat2(2): Linux 3.15, and most of its file systems.

What is done where the system does not know them is the caller's.
"""

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
# What systems and file systems answer that do not know the call.
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def exchanged(first: Path, second: Path) -> bool:
    """Exchanges two files or folders in one step; False where the system cannot. Raises OSError."""
    return _renamed(first, second, _EXCHANGE)


def took_free_name(path: Path, name: Path) -> bool:
    """Renames a file to a name that nobody has; False where the system cannot. Raises FileExistsError, OSError."""
    return _renamed(path, name, _NOREPLACE)


def _renamed(path: Path, name: Path, how: int) -> bool:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if rename(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(name), how):
        number = ctypes.get_errno()
        if number in _UNKNOWN:
            return False
        raise OSError(number, os.strerror(number), str(path))
    return True
