"""Which failures are worth another try, and how failures are told: in our own words, or by kind and place alone, since the
text of any other error may quote what it was given, and Dagster keeps it for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from s3logx_assets.core.errors import S3logxError, TransientError

# After half a minute, one, and two. What the outside world does for longer is for the next day's run.
POLICY = dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL)


@contextmanager
def told() -> Iterator[None]:
    """Raises dg.Failure in place of any exception of the block; it allows another try for a TransientError alone."""
    try:
        yield
    except dg.Failure:
        raise
    except S3logxError as error:
        raise dg.Failure(str(error), allow_retries=isinstance(error, TransientError)) from None
    except Exception as error:
        raise dg.Failure(reason(error), allow_retries=False) from None


def reason(error: Exception) -> str:
    """What an error says, if it is one of ours; of any other the kind and the place."""
    if isinstance(error, S3logxError):
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
    return f"unexpected {type(error).__name__}{place}"
