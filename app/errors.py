"""Errors of requests, and the one table from error class to HTTP status."""

from http import HTTPStatus

from store.errors import CallerError, NotFoundError, WorldError


class ParameterError(CallerError):
    """A parameter of a request is missing, unknown, or has a value that cannot be used."""


class UnauthenticatedError(CallerError):
    """Nobody known asks: no credentials, or wrong ones."""


class ForbiddenError(CallerError):
    """The user has no right to what is asked for."""


_STATUS: dict[type[BaseException], HTTPStatus] = {
    ParameterError: HTTPStatus.BAD_REQUEST,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    WorldError: HTTPStatus.SERVICE_UNAVAILABLE,
    Exception: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: Exception) -> HTTPStatus:
    """The status of the nearest class in the table."""
    return next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)
