"""Errors of requests, and the one table from error class to HTTP status."""

from collections.abc import Sequence
from http import HTTPStatus

from store.errors import CallerError, NotFoundError, WorldError


class ParameterError(CallerError):
    """A parameter of a request is missing, unknown, or has a value that cannot be used."""


class UnauthenticatedError(CallerError):
    """Nobody known asks: no credentials, or wrong ones."""


class ForbiddenError(CallerError):
    """The user has no right to what is asked for."""


class MethodError(CallerError):
    """The address knows other methods of HTTP only.

    Attributes:
        allowed: those.
    """

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        """Say which method cannot be used and which can."""
        super().__init__(f"{method[:20]} cannot be done here, only {', '.join(allowed)}")
        self.allowed = tuple(allowed)


class TooLargeError(CallerError):
    """What is sent or asked for is more than one request may."""


class MediaTypeError(CallerError):
    """The body of a request is of a type that is not taken."""


class TooManyError(CallerError):
    """The user asks more often than may be.

    Attributes:
        retry_after_s: when to come back, seconds.
    """

    def __init__(self, detail: str, retry_after_s: int) -> None:
        """Say what the limit is."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


_STATUS: dict[type[BaseException], HTTPStatus] = {
    ParameterError: HTTPStatus.BAD_REQUEST,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    MethodError: HTTPStatus.METHOD_NOT_ALLOWED,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    TooManyError: HTTPStatus.TOO_MANY_REQUESTS,
    WorldError: HTTPStatus.SERVICE_UNAVAILABLE,
    Exception: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: Exception) -> HTTPStatus:
    """The status of the nearest class in the table."""
    return next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)


def headers_of(error: Exception, status: HTTPStatus) -> dict[str, str]:
    """What HTTP wants said beside some statuses."""
    if isinstance(error, MethodError):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, TooManyError):
        return {"Retry-After": str(error.retry_after_s)}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": "5"}
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Basic realm="CbM", charset="UTF-8"'}
    return {}
