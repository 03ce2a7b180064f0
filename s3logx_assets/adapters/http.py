"""Asking a service on the network: one request, with patience and within bounds.

Knows what is worth another attempt, when to stop asking, and how much to listen to. Neither an error nor a log names an
address, a URL or a key: they name the service. What is asked, and what an answer means, does not belong here.
"""

import json
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

import requests
import urllib3

from s3logx_assets.core.errors import ServiceError, ServiceUnavailable

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_FIRST_WAIT = 1.0
_CHUNK = 1 << 16
_OK, _OUT_OF_QUOTA = 200, 402
_PASSING = frozenset([408, 425, 429])
_WRONG_KEY = frozenset([401, 403])


@dataclass(frozen=True)
class Limits:
    """How long and how much: seconds and bytes. After a failure nothing is asked for `pause_seconds`."""

    attempts: int = 4
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    wait_seconds: float = 60.0
    total_seconds: float = 180.0
    pause_seconds: float = 600.0
    body_bytes: int = 1 << 26


class _Failed(NamedTuple):
    """One attempt that failed: how, whether another one may go better, and when (seconds; None = soon)."""

    text: str
    permanent: bool = False
    again: bool = True
    wait: float | None = None


class HttpClient:
    """Asks one service, `service` by name, whose key the setting `key_setting` holds.

    Nothing is asked any more after it refused once (its key is wrong, say), nor for a while after a failure that no
    further attempt could mend; both are logged once, as a warning. `sleep`, `clock` (seconds, any start) and `jitter`
    (0 to 1) are there to be replaced.
    """

    def __init__(
        self,
        service: str,
        key_setting: str = "",
        limits: Limits | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._service, self._key_setting, self._limits = service, key_setting, limits or Limits()
        self._sleep, self._clock, self._jitter = sleep, clock, jitter
        self._session = requests.Session()
        # Credentials that a ~/.netrc has for the host, or for any host, would replace the key.
        self._session.auth = lambda request: request
        # Compressed answers could grow without bound.
        self._session.headers.update({"User-Agent": "s3logx", "Accept-Encoding": "identity"})
        self._refusal = ""
        self._paused_until: float | None = None

    def __repr__(self) -> str:
        return f"HttpClient({self._service!r})"

    def ask(
        self,
        method: str,
        url: str,
        read: Callable[[bytes], T],
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        redirects: bool = False,
    ) -> T:
        """What `read` makes of the answer's body; it raises ValueError for an answer that makes no sense, which is then
        asked for again. `content` is sent as JSON. Redirections are followed on demand only, lest they lead what is sent
        to another host. Raises ServiceError where the service refuses, ServiceUnavailable where it does not answer."""
        if self._refusal:
            raise ServiceError(self._refusal)
        if self._paused_until is not None and self._clock() < self._paused_until:
            raise ServiceUnavailable(f"{self._service} is not asked for a while: it failed just now")
        deadline = self._clock() + self._limits.total_seconds
        for attempt in range(self._limits.attempts):
            request = requests.Request(method, url, params=query, headers=headers, json=content)
            answer = self._attempt(request, read, redirects, deadline)
            if not isinstance(answer, _Failed):
                return answer
            failed = answer
            wait = _FIRST_WAIT * 2**attempt * (1 + self._jitter()) / 2 if failed.wait is None else failed.wait
            too_late = wait > self._limits.wait_seconds or self._clock() + wait >= deadline
            if not failed.again or too_late or attempt + 1 == self._limits.attempts:
                break
            self._sleep(wait)
        raise self._given_up(failed)

    def _given_up(self, failed: _Failed) -> ServiceError | ServiceUnavailable:
        """The error of a failure, logged; from now on nothing is asked, for ever or for a while."""
        text = f"{self._service} {failed.text}"
        if failed.permanent:
            self._refusal = text
            _LOG.warning("%s; nothing more is asked of it in this run", text)
            return ServiceError(text)
        self._paused_until = self._clock() + self._limits.pause_seconds
        _LOG.warning("%s; it is not asked again for %.0f minutes", text, self._limits.pause_seconds / 60)
        return ServiceUnavailable(text)

    def _attempt(
        self, request: requests.Request, read: Callable[[bytes], T], redirects: bool, deadline: float
    ) -> T | _Failed:
        try:
            body = self._body(request, redirects, deadline)
            return body if isinstance(body, _Failed) else read(body)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # Its text would quote the URL. It is not chained either: the caller raises after this block.
            return _Failed(f"cannot be reached ({type(error).__name__})")
        except (ValueError, RecursionError):
            return _Failed("gives an answer that makes no sense")

    def _body(self, request: requests.Request, redirects: bool, deadline: float) -> bytes | _Failed:
        limits = self._limits
        patience = max(min(limits.read_seconds, deadline - self._clock()), 0.001)
        prepared = self._session.prepare_request(request)
        settings = self._session.merge_environment_settings(prepared.url, {}, True, None, None)
        timeout = (min(limits.connect_seconds, patience), patience)
        with self._session.send(prepared, timeout=timeout, allow_redirects=redirects, **settings) as response:
            if response.status_code != _OK:
                return self._refused(response)
            if request.url.startswith("https:") and not response.url.startswith("https:"):
                return _Failed("redirects to a page without encryption", permanent=True, again=False)
            received = bytearray()
            while chunk := response.raw.read1(_CHUNK):
                received += chunk
                if len(received) > limits.body_bytes:
                    return _Failed(f"gives an answer of more than {limits.body_bytes} bytes", again=False)
                if self._clock() >= deadline:
                    return _Failed("answers too slowly", again=False)
            return bytes(received)

    def _refused(self, response: requests.Response) -> _Failed:
        status = response.status_code
        if status == _OUT_OF_QUOTA:
            return _Failed("is out of quota (HTTP 402)", again=False)
        if status in _PASSING or status >= 500:
            return _Failed(f"does not answer (HTTP {status})", wait=_retry_after(response.headers))
        hint = f"; check {self._key_setting}" if status in _WRONG_KEY and self._key_setting else ""
        return _Failed(f"refuses the request (HTTP {status}){hint}", permanent=True, again=False)


def parsed(body: bytes) -> Any:
    """The JSON value that a body holds. Raises ValueError, or RecursionError for one that is nested without end."""
    return json.loads(body)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a service asks to wait, None where it does not say; a date counts from the answer's own date."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return float(text)
    try:
        until, now = (parsedate_to_datetime(value) for value in (text, headers.get("Date", "")))
        return max((until - now).total_seconds(), 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


class _WithoutQueries(logging.Filter):
    """Cuts the query off the URLs that urllib3 logs, since some services take their key there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_WithoutQueries())
