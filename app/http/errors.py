"""Errors of requests, and the one table from error class to HTTP status."""

from collections.abc import Sequence
from http import HTTPStatus

from store.errors import CallerError, NotFoundError, WorldError


class ParameterError(CallerError):
    """A parameter of a request is missing, unknown, or has a value that cannot be used."""


class UnauthenticatedError(CallerError):
    """The request has no valid credentials."""


class ForbiddenError(CallerError):
    """The user has no right to this."""


class MethodError(CallerError):
    """The address has no such HTTP method.

    Attributes:
        allowed: the methods it has.
    """

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        """Name the method and its alternatives."""
        super().__init__(f"{method[:20]} cannot be done here, only {', '.join(allowed)}")
        self.allowed = tuple(allowed)


class TooLargeError(CallerError):
    """The request's body is larger than the route accepts."""


class MediaTypeError(CallerError):
    """The request's body has a media type that the route does not accept."""


class BodyError(CallerError):
    """The request's body is not what its headers say, such as broken chunks."""


class SlowRequestError(CallerError):
    """The request did not arrive in time."""


class BusyError(WorldError):
    """As many requests of this kind are under way as may be at once; the same later is fine."""


class TooManyError(CallerError):
    """The user, or the address, sends requests faster than the limit.

    Attributes:
        retry_after_s: when to try again, seconds.
    """

    def __init__(self, detail: str, retry_after_s: int) -> None:
        """Say which limit."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


_STATUS: dict[type[BaseException], HTTPStatus] = {
    ParameterError: HTTPStatus.BAD_REQUEST,
    BodyError: HTTPStatus.BAD_REQUEST,
    SlowRequestError: HTTPStatus.REQUEST_TIMEOUT,
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
    """The headers that HTTP requires beside some statuses."""
    if isinstance(error, MethodError):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, TooManyError):
        return {"Retry-After": str(error.retry_after_s)}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": "5"}
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Basic realm="CbM", charset="UTF-8"'}
    return {}
