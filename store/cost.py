"""Cost ledgers, published by the operator's machine for the status page."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from store import db
from store.errors import CallerError

_KEEP = "INSERT INTO public.cost_ledger (ledger) VALUES (%s)"

_Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Amounts = dict[_Line, Annotated[float, Field(ge=0)]]


class _LedgerForm(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class PublicPrice(_LedgerForm):
    """A public price beside the cost.

    Attributes:
        of: the service.
        currency: of the price.
        cents: of a parcel-year, by part; of those that the price list has.
    """

    of: _Line
    currency: _Line
    cents: _Amounts


class PublishedLedger(_LedgerForm):
    """A cost ledger, in the form of `fab cost --as-json`.

    Attributes:
        title: whose.
        currency: of all amounts.
        parcels: that the year is for.
        year: amount of a year, by part, and of `all`.
        parcel_year: amount of a parcel-year, by the same.
        public_price: beside them.
        remarks: a sentence each on what the amounts lack.
    """

    title: _Line
    currency: _Line
    parcels: int = Field(gt=0)
    year: _Amounts
    parcel_year: _Amounts
    public_price: PublicPrice
    remarks: list[_Line]

    @model_validator(mode="after")
    def _same_parts(self) -> Self:
        if "all" not in self.year or self.year.keys() != self.parcel_year.keys():
            raise ValueError("year and parcel_year must have the same parts, and `all`")
        if not self.public_price.cents.keys() <= self.year.keys():
            raise ValueError("public_price has parts that year has not")
        return self


def publish_ledger(conn: db.Connection, document: bytes) -> PublishedLedger:
    """Keep a ledger, which the status page shows to operators from then on.

    Args:
        conn: an open connection of a role that may write.
        document: JSON, as `fab cost --as-json` prints it.

    Raises:
        CallerError: it is no such ledger; nothing was kept.
    """
    try:
        ledger = PublishedLedger.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CallerError(
            f"this is no ledger of `fab cost --as-json`: {place and f'{place}: '}{first['msg']}"
        ) from None
    db.execute(conn, _KEEP, (db.Json(ledger.model_dump()),))
    return ledger
