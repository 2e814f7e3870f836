"""The one family of errors; each class says whose fault it is.

Only the worker acts on the fault (retry, count, release); everybody else lets errors pass.
"""

from enum import Enum
from typing import ClassVar


class Fault(Enum):
    """Whose fault an error is."""

    SCENE = "scene"
    """The product is at fault: broken, incomplete or contradictory. Counts towards dead letter."""
    WORLD = "world"
    """Database, storage or network are away: try again later, blame nobody."""
    CALLER = "caller"
    """The request cannot be met as asked: a wrong option, an unknown parcel."""
    OURS = "ours"
    """A defect of this software."""


class CbmError(Exception):
    """Base of every error this project raises on purpose."""

    fault: ClassVar[Fault] = Fault.OURS


class CallerError(CbmError):
    """What was asked for cannot be done as asked."""

    fault = Fault.CALLER


class ConfigError(CallerError):
    """A setting is missing or has a value that cannot be used."""


class NotFoundError(CallerError):
    """The named thing does not exist."""


class ConflictError(CallerError):
    """The request contradicts what is already stored."""


class ParcelFileError(CallerError):
    """A parcel file cannot be imported as asked."""


class ProductNameError(CallerError):
    """A product name follows no known naming convention."""


class SceneError(CbmError):
    """A product's content or description cannot be used."""

    fault = Fault.SCENE


class BandMissingError(SceneError):
    """A band's file is not where the catalogue says; the scene may do without it."""


class MissingFactError(SceneError):
    """Neither the files of a scene nor its description state a fact that is needed."""


class UnitMismatchError(SceneError):
    """A scene's values have another unit than its campaign's, and no scale is declared."""


class WorldError(CbmError):
    """Something outside (database, object store, network) is not answering."""

    fault = Fault.WORLD


class DatabaseError(WorldError):
    """The database is away or refuses connections."""


class ObjectStoreError(WorldError):
    """The object store is away or refuses us."""


class LostLeaseError(CbmError):
    """The lease on a piece of work was lost to another worker or withdrawn; not a failure."""

    fault = Fault.WORLD
