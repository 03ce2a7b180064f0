"""Messages about failed runs: what they hold, how they are sent, and what errors do not tell."""

import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from s3logx_assets.adapters.messages import Message, post, send
from s3logx_assets.core.errors import ServiceError, ServiceUnavailable
from s3logx_tests.http_service import HANGS_UP, Answer, Service, running_service

MESSAGE = Message("daily_dates", "0123", ("daily",), ("1 of 2 dates failed: 2025-03-01: a reason",))
SERVER = "smtps://alerts%40archive.example:pass%2Fword@mail.example:465"


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


def test_a_webhook_gets_a_text_and_its_parts(service: Service) -> None:
    service.answers(Answer(204))
    post(f"{service.url}/hook/secret", MESSAGE)
    (asked,) = service.asked
    assert (asked.method, asked.path) == ("POST", "/hook/secret")
    assert asked.content == {
        "text": "s3logx: a run of daily_dates failed in daily.\nRun 0123\n1 of 2 dates failed: 2025-03-01: a reason",
        "job": "daily_dates",
        "run_id": "0123",
        "failed_steps": ["daily"],
        "unfinished_steps": [],
        "reasons": ["1 of 2 dates failed: 2025-03-01: a reason"],
    }


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Answer(404), ServiceError, "HTTP 404"),
        (Answer(302, headers={"Location": "http://127.0.0.1:1/"}), ServiceError, "HTTP 302"),
        (HANGS_UP, ServiceUnavailable, "ConnectionError"),
    ],
)
def test_a_webhook_that_fails_is_told_without_its_address(
    service: Service, answer: Answer, error: type[Exception], words: str
) -> None:
    service.answers(answer)
    with pytest.raises(error, match=words) as caught:
        post(f"{service.url}/hook/secret", MESSAGE)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(service.asked) == 1


def test_a_run_that_failed_before_its_first_step_says_so() -> None:
    assert Message("assets", "0123").text == "s3logx: a run of assets failed before its first step.\nRun 0123"


@pytest.mark.parametrize(
    ("steps", "unfinished", "first", "second"),
    [
        ((), ("daily",), "failed.", "It ended during daily without a word: "),
        ((), (), "failed.", "It ended between its steps without a word: "),
        (("daily",), ("totals",), "failed in daily.", "It ended during totals without a word: "),
    ],
)
def test_a_run_that_ended_without_a_word_says_where(
    steps: tuple[str, ...], unfinished: tuple[str, ...], first: str, second: str
) -> None:
    text = Message("assets", "0123", steps, unfinished=unfinished, began=True).text
    why = "it was killed, out of memory perhaps, or its machine went away."
    assert text == f"s3logx: a run of assets {first}\nRun 0123\n{second}{why}"


class MailServer:
    """Stands where smtplib's connections would, and remembers what it was told."""

    trouble: Exception | None = None
    said: tuple[object, ...] = ()

    def __init__(self, host: str, port: int, timeout: float, context: ssl.SSLContext | None = None) -> None:
        type(self).said = ("encrypted" if context else "plain", host, port)

    def __enter__(self) -> "MailServer":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def starttls(self, context: ssl.SSLContext) -> None:
        assert context.verify_mode == ssl.CERT_REQUIRED
        type(self).said += ("encrypted from here",)

    def login(self, user: str, password: str) -> None:
        type(self).said += (user, password)

    def send_message(self, mail: EmailMessage) -> None:
        if self.trouble is not None:
            raise self.trouble
        type(self).said += (mail["Subject"], mail["From"], mail["To"], mail.get_content())


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> type[MailServer]:
    server = type("OfThisTest", (MailServer,), {})
    monkeypatch.setattr(smtplib, "SMTP", server)
    monkeypatch.setattr(smtplib, "SMTP_SSL", server)
    return server


@pytest.mark.parametrize(
    ("scheme", "first"),
    [("smtps", ("encrypted", "mail.example", 465)), ("smtp", ("plain", "mail.example", 465, "encrypted from here"))],
)
def test_an_e_mail_is_encrypted_and_plain_text(mail: type[MailServer], scheme: str, first: tuple[object, ...]) -> None:
    send(SERVER.replace("smtps", scheme), ["a@archive.example", "b@archive.example"], MESSAGE)
    assert mail.said == (
        *first,
        "alerts@archive.example",
        "pass/word",
        "s3logx: a run of daily_dates failed",
        "alerts@archive.example",
        "a@archive.example, b@archive.example",
        MESSAGE.text + "\n",
    )


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        (smtplib.SMTPAuthenticationError(535, b"pass/word is wrong"), ServiceError, "SMTP 535"),
        (smtplib.SMTPDataError(451, b"later"), ServiceUnavailable, "SMTP 451"),
        (smtplib.SMTPRecipientsRefused({}), ServiceError, "refuses the recipients"),
        (OSError("mail.example"), ServiceUnavailable, "OSError"),
    ],
)
def test_a_mail_server_that_fails_is_told_without_password(
    mail: type[MailServer], trouble: Exception, error: type[Exception], words: str
) -> None:
    mail.trouble = trouble
    with pytest.raises(error, match=words) as caught:
        send(SERVER, ["a@archive.example"], MESSAGE)
    assert "pass/word" not in str(caught.value)
    assert "mail.example" not in str(caught.value)
    assert caught.value.__cause__ is None
