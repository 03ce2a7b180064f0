"""Signed requests: what botocore signs, for any key and kind of credentials."""

from datetime import UTC, datetime
from unittest import mock

import botocore.auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from s3logx_assets.core.aws_signature import GetSigner

NOW = datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def botocores(url: str, headers: dict[str, str], token: str | None) -> dict[str, str]:
    """The headers that botocore sends."""
    request = AWSRequest("GET", url, headers=headers)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        botocore.auth.S3SigV4Auth(Credentials("AKID", "secret/+", token), "s3", "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(KEYS, st.sampled_from([None, "tok/en+=="]), st.booleans())
def test_a_request_is_signed_as_botocore_signs_it(key: str, token: str | None, requester_pays: bool) -> None:
    credentials = {"access_key_id": "AKID", "secret_access_key": "secret/+", "token": token}
    signer = GetSigner("host.example:9000", "eu-west-1", credentials, NOW, requester_pays)
    first, *lines = signer.request(f"/bucket/{key}").decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    method, path, version = first.split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    sent = dict(line.split(": ", 1) for line in lines)
    asked = {"x-amz-request-payer": "requester"} if requester_pays else {}
    expected = botocores(f"http://host.example:9000{path}", asked, token)
    assert sent == {"host": "host.example:9000", **expected, "x-amz-content-sha256": sent["x-amz-content-sha256"]}


def test_nothing_of_a_signer_is_shown() -> None:
    credentials = {"access_key_id": "AKID", "secret_access_key": "secret", "token": None}
    assert repr(GetSigner("host", "eu-west-1", credentials, NOW)) == "GetSigner()"
