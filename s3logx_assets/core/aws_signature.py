"""AWS's signature (version 4) of GETs of S3 objects. What is sent where, and when, does not belong here."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

_EMPTY = hashlib.sha256().hexdigest()


class GetSigner:
    """Makes signed requests to a host, all of one moment; S3 takes them for 15 minutes."""

    def __init__(
        self, host: str, region: str, credentials: Mapping[str, Any], now: datetime, requester_pays: bool = False
    ) -> None:
        """`host`: with the port, unless it is the usual one. `credentials`: as obstore has them. `now`: in UTC."""
        fields = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}"}
        if requester_pays:
            fields["x-amz-request-payer"] = "requester"
        if credentials["token"]:
            fields["x-amz-security-token"] = credentials["token"]
        names = ";".join(fields)
        access_key, secret_key = credentials["access_key_id"], credentials["secret_access_key"]
        scope = f"{now:%Y%m%d}/{region}/s3/aws4_request"
        # Around the path and its signature all is the same for every request.
        self._canonical_end = "".join(f"{name}:{value}\n" for name, value in fields.items()) + f"\n{names}\n{_EMPTY}"
        self._signed_start = f"AWS4-HMAC-SHA256\n{fields['x-amz-date']}\n{scope}\n"
        self._head_end = (
            " HTTP/1.1\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            + f"authorization: AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature="
        )
        self._key = f"AWS4{secret_key}".encode()
        for part in scope.split("/"):
            self._key = hmac.digest(self._key, part.encode(), "sha256")

    def __repr__(self) -> str:
        return "GetSigner()"

    def request(self, path: str) -> bytes:
        """The request for a path, which is not encoded yet."""
        encoded = quote(path, safe="/~")
        canonical = f"GET\n{encoded}\n\n{self._canonical_end}"
        signed = self._signed_start + hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(self._key, signed.encode(), "sha256").hex()
        return f"GET {encoded}{self._head_end}{signature}\r\n\r\n".encode()
