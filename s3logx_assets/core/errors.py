"""The project's errors, as one tree; every module raises only these for what a user can cause or mend.

    S3logxError
    ├── PermanentError          trying again gives the same answer: never retried
    │   ├── SettingsError       a setting is missing or wrong
    │   ├── MasterKeyError      the master key is missing, malformed or not the store's
    │   ├── SourceError         the log source is not what the settings say it is
    │   ├── InventoryError      an S3 Inventory is not whole, damaged, or none
    │   ├── LogFileError        one log file cannot be read whole
    │   ├── ConservationError   the counts of a date do not add up: a fault of this program
    │   ├── ShrinkError         a re-extraction would lose files that the ledger has
    │   ├── StoreError          a private or public table is absent, damaged or not writable
    │   ├── ReleaseError        the scopes do not form one consistent release
    │   │   ├── MixedDateError  the tables of a date were not made from one another
    │   │   └── DisclosureError an attacker could tell something of few people from it
    │   └── ServiceError        a service on the network refuses us: its key is wrong, say
    └── TransientError          the outside world failed; the same call may go through later
        ├── SourceUnavailable   the log source cannot be reached
        ├── StoreUnavailable    the store cannot be reached
        ├── StoreBusyError      the store is in use, or its key is being rotated
        └── ServiceUnavailable  a service on the network is down, out of quota, or answers nonsense

Messages name the setting, file, date or line *number*; never a line's text, an address or a secret,
because Dagster keeps exception texts in its event log for ever.
"""

from datetime import date


class S3logxError(Exception):
    """Root of the tree."""


class PermanentError(S3logxError):
    """Trying again gives the same answer."""


class SettingsError(PermanentError):
    """A setting is missing or wrong; the message names it, its value and the legal ones."""


class MasterKeyError(PermanentError):
    """The master key is missing, malformed, or not the one that the store was written with."""


class SourceError(PermanentError):
    """The log source as a whole is absent or is not a source of access logs."""


class InventoryError(PermanentError):
    """An S3 Inventory is not whole (yet), damaged, or none; the message names the snapshot or file, and the field."""


class LogFileError(PermanentError):
    """A single log file cannot be read whole: its date fails, the old partition stands."""


class ConservationError(PermanentError):
    """The records of a date are not all accounted for; nothing of it is stored."""


class ShrinkError(PermanentError):
    """Files that an earlier extraction counted are gone from the source."""


class StoreError(PermanentError):
    """A table of the store is absent, damaged or cannot be written."""


class ReleaseError(PermanentError):
    """The scopes' files do not belong together; the message names the command that mends it."""


class MixedDateError(ReleaseError):
    """The tables of the date `day` were not made from one another: it came through some steps and not through all."""

    def __init__(self, message: str, day: date) -> None:
        super().__init__(message)
        self.day = day


class DisclosureError(ReleaseError):
    """An attacker could tell something of few people from what would be released."""


class ServiceError(PermanentError):
    """A service on the network refuses our requests; the message names the service and the setting of its key."""


class TransientError(S3logxError):
    """The outside world failed; the same call may go through later."""


class SourceUnavailable(TransientError):
    """The log source is down, too busy, or cut the connection, again and again."""


class StoreUnavailable(TransientError):
    """The store is down, too busy, or cut the connection, again and again; or a table was replaced while it was read."""


class StoreBusyError(TransientError):
    """The store is in use, or its key is being rotated."""


class ServiceUnavailable(TransientError):
    """A service on the network is down, out of quota, or answers nonsense."""
