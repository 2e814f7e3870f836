"""Signed addresses of images, which open without credentials for some time.

An address is /chips/{proof}/{holder}/{subject}/{name}. The proof is the time of its end and a keyed
digest (HMAC-SHA-256) of that and all that follows, so that it can neither be guessed nor prolonged.
The holder is the user who got it, by a key that no later user of the name has: without that user,
or the right that it took, it opens no more.
As a ticket, /chip/{proof},{holder},{subject}/{name}, it has the three parts that the JRC's scripts
expect of an address.
"""

import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.chips.chip_request import ImageRequest
from store.errors import NotFoundError

PREFIX = "/chips"
TICKET_PREFIX = "/chip"

_END_DIGITS = 10
_MAC_DIGITS = 32  # 128 bits
_MAX_STEP_S = 3600


@dataclass(frozen=True)
class UrlHolder:
    """The user of an address.

    Attributes:
        user_id: of the user.
        aoi: the right that it takes; '' for none.
    """

    user_id: int
    aoi: str = ""

    @classmethod
    def parse(cls, text: str) -> "UrlHolder":
        """The holder in an address; nobody if it is none."""
        digits, _, aoi = text.partition("~")
        return cls(int(digits) if re.fullmatch(r"[0-9]{1,18}", digits, re.ASCII) else 0, aoi)

    def __str__(self) -> str:
        """The holder in an address."""
        return f"{self.user_id}~{self.aoi}" if self.aoi else str(self.user_id)


class SignedUrls:
    """Signs and verifies addresses of images."""

    def __init__(self, secret: str, expiry_s: int, clock: Callable[[], float] = time.time) -> None:
        """Sign with a secret that all processes share.

        Args:
            secret: long and random.
            expiry_s: least lifetime of an address.
            clock: seconds since 1970.
        """
        self._key = hmac.digest(secret.encode(), b"addresses of images", "sha256")
        self._expiry_s = expiry_s
        self._clock = clock

    def sign(self, holder: UrlHolder, request: ImageRequest, *, ticket: bool = False) -> str:
        """The address of an image, host-relative; in three parts as a ticket.

        It stays the same for up to an hour, so that browsers need not fetch it twice.
        """
        step = min(self._expiry_s, _MAX_STEP_S)
        end = (int(self._clock()) // step + 1) * step + self._expiry_s
        proof = f"{end:0{_END_DIGITS}x}{self._mac(end, holder, request)}"
        if ticket:
            return f"{TICKET_PREFIX}/{proof},{holder},{request.to_path()}"
        return f"{PREFIX}/{proof}/{holder}/{request.to_path()}"

    def verify(self, proof: str, holder: UrlHolder, request: ImageRequest) -> int:
        """The remaining lifetime of an address, seconds.

        Raises:
            NotFoundError: its signature is wrong, or it has expired.
        """
        if re.fullmatch(rf"[0-9a-f]{{{_END_DIGITS + _MAC_DIGITS}}}", proof):
            end = int(proof[:_END_DIGITS], 16)
            left_s = end - int(self._clock())
            expected = self._mac(end, holder, request)
            if hmac.compare_digest(proof[_END_DIGITS:], expected) and left_s > 0:
                return left_s
        raise NotFoundError("this address is not signed, or has expired: request a new one")

    def _mac(self, end: int, holder: UrlHolder, request: ImageRequest) -> str:
        message = f"{end}/{holder}/{request.signed_text}".encode()
        return hmac.digest(self._key, message, "sha256").hex()[:_MAC_DIGITS]
