"""Sending a message about a failed run: as JSON to a webhook, as plain text by e-mail.

Neither an error nor a log names the webhook's address, which is all that it takes to write there, nor a password. What a
message says is decided elsewhere.
"""

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import requests

from s3logx_assets.core.errors import ServiceError, ServiceUnavailable

_SECONDS = 20


@dataclass(frozen=True)
class Message:
    """What is told of a failed run: its job, its id, the steps that failed, and the reasons in our own words; `began`: whether any
    step did; `unfinished`: the steps that began and neither failed nor succeeded."""

    job: str
    run_id: str
    steps: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    began: bool = False

    @property
    def subject(self) -> str:
        """One line."""
        return f"s3logx: a run of {self.job} failed"

    @property
    def text(self) -> str:
        """A few lines."""
        if self.steps:
            where = f" in {', '.join(self.steps)}"
        else:
            where = "" if self.unfinished or self.began else " before its first step"
        return "\n".join([f"{self.subject}{where}.", f"Run {self.run_id}", *self._silence, *self.reasons])

    @property
    def _silence(self) -> list[str]:
        """What is to be said where no step says why the run ended."""
        if self.unfinished:
            where = f"during {', '.join(self.unfinished)}"
        elif self.began and not self.steps:
            where = "between its steps"
        else:
            return []
        return [f"It ended {where} without a word: it was killed, out of memory perhaps, or its machine went away."]


def post(address: str, message: Message) -> None:
    """To a webhook: `text`, which chat services show, and the same in parts. Raises ServiceError where it is refused,
    ServiceUnavailable where nobody answers."""
    content = {
        "text": message.text,
        "job": message.job,
        "run_id": message.run_id,
        "failed_steps": list(message.steps),
        "unfinished_steps": list(message.unfinished),
        "reasons": list(message.reasons),
    }
    with requests.Session() as session:
        session.auth = lambda request: request  # nothing of a ~/.netrc
        try:
            answer = session.post(address, json=content, timeout=_SECONDS, allow_redirects=False)
        except (requests.RequestException, OSError) as error:  # whose text has the address
            trouble = type(error).__name__
        else:
            if answer.ok and not answer.is_redirect:
                return
            raise ServiceError(f"the webhook of S3LOGX_ALERT_WEBHOOK refuses the message (HTTP {answer.status_code})")
    raise ServiceUnavailable(f"the webhook of S3LOGX_ALERT_WEBHOOK cannot be reached ({trouble})")


def send(server: str, recipients: Sequence[str], message: Message) -> None:
    """By e-mail through `server`, smtp(s)://user:password@host:port, always encrypted. Raises ServiceError where it is
    refused, ServiceUnavailable where nobody answers."""
    parts = urlsplit(server)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = message.subject, user, ", ".join(recipients)
    mail.set_content(message.text)
    context = ssl.create_default_context()
    host, port = parts.hostname or "", parts.port or 0
    try:
        if parts.scheme == "smtps":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=_SECONDS, context=context)
        else:
            connection = smtplib.SMTP(host, port, timeout=_SECONDS)
        with connection:
            if parts.scheme == "smtp":
                connection.starttls(context=context)
            connection.login(user, password)
            connection.send_message(mail)
        return
    except smtplib.SMTPResponseException as error:
        trouble, permanent = f"refuses the message (SMTP {error.smtp_code})", error.smtp_code >= 500
    except smtplib.SMTPRecipientsRefused:
        trouble, permanent = "refuses the recipients", True
    except (smtplib.SMTPException, OSError) as error:
        trouble, permanent = f"cannot be reached ({type(error).__name__})", False
    raise (ServiceError if permanent else ServiceUnavailable)(f"the mail server of S3LOGX_ALERT_SMTP {trouble}")
