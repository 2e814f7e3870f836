"""The one family of errors; each class says whose fault it is.

Only the worker acts on the fault (retry, count, release); everybody else lets errors pass.
"""

from enum import Enum
from typing import ClassVar
from xml.etree.ElementTree import ParseError

UNREADABLE_XML = (ParseError, LookupError, ValueError)
"""What ElementTree raises: the last two where a document states an encoding that it cannot read."""


class Fault(Enum):
    """Whose fault an error is."""

    SCENE = "scene"
    """The product is at fault: broken, incomplete or contradictory. Counts towards dead letter."""
    WORLD = "world"
    """Database, storage or network are away: try again later, blame nobody."""
    CALLER = "caller"
    """The request cannot be met: a wrong option, an unknown parcel."""
    OURS = "ours"
    """A defect of this software."""


class CbmError(Exception):
    """Base of every error this project raises on purpose."""

    fault: ClassVar[Fault] = Fault.OURS


class CallerError(CbmError):
    """The request cannot be met as it stands."""

    fault = Fault.CALLER


class ConfigError(CallerError):
    """A setting is missing or has a value that cannot be used."""


class NotFoundError(CallerError):
    """The named thing does not exist."""


class ConflictError(CallerError):
    """The request contradicts the stored data."""


class RefusedValueError(CallerError):
    """The database refuses a value that it cannot store."""


class ParcelFileError(CallerError):
    """A parcel file cannot be imported with these options."""


class ProductNameError(CallerError):
    """A product name follows no known naming convention."""


class SceneError(CbmError):
    """A product's content or description cannot be used."""

    fault = Fault.SCENE


class BandMissingError(SceneError):
    """A band's file is missing; the scene may do without it."""


class MissingFactError(SceneError):
    """Neither the files of a scene nor its description state a fact that is needed."""


class ImplausibleValueError(SceneError):
    """A parcel has a value that its unit cannot have.

    Attributes:
        pid: the parcel.
        number: of the parcel set, among those that are reduced.
    """

    def __init__(self, message: str, pid: int, number: int = 0) -> None:
        """Say what is wrong, and of which parcel of which set."""
        super().__init__(message)
        self.pid, self.number = pid, number


class UnitMismatchError(SceneError):
    """A scene's values have another unit than its campaign's, and no scale is declared."""


class WorldError(CbmError):
    """Something outside (database, object store, network) is not answering."""

    fault = Fault.WORLD


class DatabaseError(WorldError):
    """The database is away or refuses connections."""


class LockedError(DatabaseError):
    """Others hold what this needs in the database; later it is free."""


class ObjectStoreError(WorldError):
    """The object store is away or refuses us."""


class ReplacedError(ObjectStoreError):
    """A file was replaced while it was read: what was read is neither the old one nor the new."""


class LostLeaseError(CbmError):
    """The lease on a piece of work was lost to another worker or withdrawn; not a failure."""

    fault = Fault.WORLD
