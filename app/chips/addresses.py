"""Addresses of images: whoever was given one may fetch it without credentials, for some time.

An address is /chips/{proof}/{holder}/{subject}/{name}. The proof is the time of its end and a keyed
digest (HMAC-SHA-256) of that and all that follows, so that it can neither be guessed nor prolonged.
The holder is who asked for it: without that user, or without the right that it took, it shows
nothing any more.
The JRC's documented scripts make a sibling's address by replacing the band in the name (B08.tif by
B04.tif, VV by VH); so in addresses of GeoTIFFs the band is not part of the form.
"""

import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from store.errors import NotFoundError

PATH = "/chips/{proof}/{holder}/{subject}/{name}"

_END_DIGITS = 10
_MAC_DIGITS = 32  # 128 bits
_MOST_STEP_S = 3600
_GONE = "this address was never given out, or has expired: ask for it again"


@dataclass(frozen=True)
class Holder:
    """Whom an address was given to.

    Attributes:
        user_name: of who asked.
        aoi: the right to which was needed; '' for none.
    """

    user_name: str
    aoi: str = ""

    @classmethod
    def read(cls, text: str) -> "Holder":
        """Take apart what stands in an address."""
        user_name, _, aoi = text.partition("~")
        return cls(user_name, aoi)

    @property
    def text(self) -> str:
        """As it stands in an address; no user's name has a ~."""
        return f"{self.user_name}~{self.aoi}" if self.aoi else self.user_name


@dataclass(frozen=True)
class Name:
    """The last part of an address.

    Attributes:
        stem: for people; means nothing.
        words: between the stem and the extension, such as bands and limits.
        form: tif or png.
    """

    stem: str
    words: str
    form: str

    @classmethod
    def read(cls, text: str) -> "Name":
        """Take a name apart.

        Raises:
            NotFoundError: it is none of ours.
        """
        match = re.fullmatch(r"([A-Za-z0-9_-]+)\.(?:(.+)\.)?(tif|png)", text)
        if match is None:
            raise NotFoundError(_GONE)
        return cls(match[1], match[2] or "", match[3])

    @property
    def text(self) -> str:
        """As it stands in an address."""
        return ".".join(part for part in (self.stem, self.words, self.form) if part)

    @property
    def signed(self) -> str:
        """What of it cannot be changed."""
        return self.form if self.form == "tif" and self.words else f"{self.words}.{self.form}"


class Addresses:
    """Gives addresses out and checks them."""

    def __init__(self, secret: str, expiry_s: int, clock: Callable[[], float] = time.time) -> None:
        """Sign with a secret that all processes share.

        Args:
            secret: long and random.
            expiry_s: how long addresses are good at least.
            clock: seconds since 1970.
        """
        self._key = hmac.digest(secret.encode(), b"addresses of images", "sha256")
        self._expiry_s = expiry_s
        self._clock = clock

    def of(self, holder: Holder, subject: str, name: Name) -> str:
        """The address of an image, host-relative.

        It stays the same for up to an hour, so that browsers need not fetch it twice.
        """
        step = min(self._expiry_s, _MOST_STEP_S)
        end = (int(self._clock()) // step + 1) * step + self._expiry_s
        proof = f"{end:0{_END_DIGITS}x}{self._mac(end, holder, subject, name)}"
        return PATH.format(proof=proof, holder=holder.text, subject=subject, name=name.text)

    def check(self, proof: str, holder: Holder, subject: str, name: Name) -> int:
        """Find out whether an address was given out.

        Returns:
            Seconds that it is still good.

        Raises:
            NotFoundError: it was not, or is not good any more.
        """
        if not re.fullmatch(rf"[0-9a-f]{{{_END_DIGITS + _MAC_DIGITS}}}", proof):
            raise NotFoundError(_GONE)
        end = int(proof[:_END_DIGITS], 16)
        left_s = end - int(self._clock())
        right = hmac.compare_digest(proof[_END_DIGITS:], self._mac(end, holder, subject, name))
        if not right or left_s <= 0:
            raise NotFoundError(_GONE)
        return left_s

    def _mac(self, end: int, holder: Holder, subject: str, name: Name) -> str:
        message = f"{end}/{holder.text}/{subject}/{name.signed}".encode()
        return hmac.digest(self._key, message, "sha256").hex()[:_MAC_DIGITS]
