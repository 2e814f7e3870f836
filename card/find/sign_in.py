"""Signing in to an archive with OAuth: a token for a user's name and password."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from store.errors import ConfigError, WorldError

_MARGIN_S = 30.0
_TIMEOUT_S = 30.0
_FLEETING = frozenset({429, 500, 502, 503, 504})


@dataclass
class SignIn:
    """A user of an archive; fetches a token when one is needed, and keeps it while it counts.

    Attributes:
        url: of the token endpoint.
        client_id: of the archive's public client.
        user: name, usually an e-mail address.
        password: of the user.
        hosts: endings of the host names that get the token.
        names: settings that user and password came from, for messages.
    """

    url: str
    client_id: str
    user: str
    password: str = field(repr=False)
    hosts: tuple[str, ...]
    names: tuple[str, str]
    _token: str = field(default="", repr=False)
    _until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def covers(self, url: str) -> bool:
        """Whether an address gets the token: those of the archive alone."""
        host = urlsplit(url).hostname or ""
        return any(host == name or host.endswith(f".{name}") for name in self.hosts)

    def forget(self) -> None:
        """Fetch another token next time: the archive refused this one."""
        with self._lock:
            self._token = ""

    def token(self) -> str:
        """A token that counts for some time yet.

        Raises:
            ConfigError: the archive refuses the user or the password.
            WorldError: the archive does not answer.
        """
        with self._lock:
            if not self._token or time.monotonic() >= self._until:
                answer = self._request()
                self._token = str(answer["access_token"])
                self._until = time.monotonic() + float(answer.get("expires_in", 0)) - _MARGIN_S
            return self._token

    def _request(self) -> dict[str, Any]:
        host = urlsplit(self.url).netloc
        form = {
            "grant_type": "password",
            "client_id": self.client_id,
            "username": self.user,
            "password": self.password,
        }
        try:
            response = requests.post(self.url, data=form, timeout=_TIMEOUT_S, allow_redirects=False)
            answer = response.json()
        except ValueError as error:
            raise WorldError(f"{host} does not answer a sign-in with JSON") from error
        except requests.RequestException as error:
            raise WorldError(f"{host} does not answer: {type(error).__name__}") from error
        if response.status_code in _FLEETING:
            raise WorldError(f"{host} is out of order: HTTP {response.status_code}")
        if not isinstance(answer, dict) or "access_token" not in answer:
            reason = answer.get("error_description") if isinstance(answer, dict) else None
            raise ConfigError(
                f"{host} refuses {self.user} "
                f"(HTTP {response.status_code}: {reason or 'no reason'}): "
                f"{' and '.join(self.names)} are wrong, or the account has expired"
            )
        return answer


def read_secret(env: Mapping[str, str], name: str) -> str:
    """A secret from the file that NAME_FILE names, else from the variable NAME; '' if neither.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = env.get(f"{name}_FILE")
    if not path:
        return env.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}_FILE={path} cannot be read: {error}") from error
