"""What a demo is made from: a synthetic Member State, a folder of real scenes, or a STAC API."""

import json
from dataclasses import dataclass
from pathlib import Path

from infra.standalone.programs import DemoError, program


@dataclass(frozen=True)
class Options:
    """What the user said; None where that was nothing.

    Attributes:
        data: folder of scenes.
        parcels: parcel file.
        id_column: its column of parcel ids.
        crop_column: its column of crop names.
        crop_code_column: its column of crop codes.
        describe: folder of descriptions of the scenes.
        synthetic_parcels: number of parcels of the synthetic Member State.
        stac: address of a STAC API.
        collection: collection to search there.
        bbox: west,south,east,north in degrees.
        start: first day, YYYY-MM-DD.
        end: last day, YYYY-MM-DD.
        aoi: code of the Member State or region.
        year: the campaign's year.
        port: port of the API.
    """

    data: Path | None = None
    parcels: Path | None = None
    id_column: str | None = None
    crop_column: str | None = None
    crop_code_column: str | None = None
    describe: Path | None = None
    synthetic_parcels: int = 3000
    stac: str | None = None
    collection: str | None = None
    bbox: str | None = None
    start: str | None = None
    end: str | None = None
    aoi: str | None = None
    year: int | None = None
    port: int | None = None


@dataclass(frozen=True)
class Source:
    """Where scenes and parcels come from, as commands to run.

    Attributes:
        name: what it is, for people; equal names are the same source.
        credit: the line below a plot of it; {year} stands for the campaign's.
        register: command that puts the scenes into the catalogue.
        parcels: parcel file.
        aoi: code of the Member State or region.
        year: the campaign's year, if the user said it.
        import_options: what the parcel import must know about the file.
        prepare: command that makes the data first, if they have to be made.
    """

    name: str
    credit: str
    register: tuple[str, ...]
    parcels: Path
    aoi: str
    year: int | None
    import_options: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()


_AOI = "demo"
_COPERNICUS = "Contains modified Copernicus Sentinel data {year}"


def chosen(options: Options, folder: Path) -> Source:
    """The source the options ask for.

    Args:
        options: what the user said.
        folder: the demo's folder, where a synthetic Member State is made.

    Raises:
        DemoError: an option is missing, contradicts another, or names a file that is not there.
    """
    if options.data and options.stac:
        raise DemoError("DATA= and STAC= exclude one another: give one of them")
    if options.data:
        return _of_folder(options, options.data)
    if options.stac:
        return _of_stac(options, options.stac)
    if options.parcels:
        raise DemoError("PARCELS= needs scenes: say DATA=DIR or STAC=URL as well")
    return _synthetic(options, folder / "data")


def _synthetic(options: Options, data: Path) -> Source:
    card = program("cbm-card")
    return Source(
        name=f"a synthetic Member State of {options.synthetic_parcels} parcels",
        credit="Synthetic data",
        prepare=(card, "synthesize", str(data), f"--parcels={options.synthetic_parcels}"),
        register=(card, "register", str(data / "scenes")),
        parcels=data / "parcels.gpkg",
        import_options=("--id-column=code", "--crop-column=crop", "--crop-code-column=crop_code"),
        aoi=options.aoi or _AOI,
        year=options.year,
    )


def _of_folder(options: Options, data: Path) -> Source:
    if not data.is_dir():
        raise DemoError(f"DATA={data} is not a folder")
    if options.describe and not options.describe.is_dir():
        raise DemoError(f"DESCRIBE={options.describe} is not a folder")
    describe = ("--describe", str(options.describe.resolve())) if options.describe else ()
    parcels = _parcels(options)
    return Source(
        name=f"{data.resolve()} with {parcels}",
        credit=_COPERNICUS,
        register=(program("cbm-card"), "register", str(data.resolve()), *describe),
        parcels=parcels,
        import_options=_import_options(options),
        aoi=options.aoi or _AOI,
        year=options.year,
    )


def _of_stac(options: Options, url: str) -> Source:
    search = {
        "collection": options.collection,
        "bbox": options.bbox,
        "start": options.start,
        "end": options.end,
    }
    missing = [f"{key.upper()}=" for key, text in search.items() if not text]
    if missing:
        raise DemoError(f"STAC= needs {', '.join(missing)} as well")
    parcels = _parcels(options)
    # --key=value, since a bbox in the west begins with a minus sign.
    arguments = [f"--{key}={text}" for key, text in search.items()]
    return Source(
        name=f"{url} ({', '.join(str(text) for text in search.values())}) with {parcels}",
        credit=_COPERNICUS,
        register=(program("cbm-card"), "sync", f"--stac={url}", *arguments),
        parcels=parcels,
        import_options=_import_options(options),
        aoi=options.aoi or _AOI,
        year=options.year,
    )


def _parcels(options: Options) -> Path:
    if not options.parcels:
        raise DemoError("the scenes need parcels: say PARCELS=FILE as well")
    if not options.parcels.exists():
        raise DemoError(f"PARCELS={options.parcels} is not there")
    return options.parcels.resolve()


def _import_options(options: Options) -> tuple[str, ...]:
    columns = {
        "id": options.id_column,
        "crop": options.crop_column,
        "crop-code": options.crop_code_column,
    }
    return tuple(f"--{what}-column={name}" for what, name in columns.items() if name)


def remember(folder: Path, source: Source) -> None:
    """Note in the demo's folder what it is made from.

    Raises:
        DemoError: it is made from something else already.
    """
    note = folder / "source.json"
    if note.exists():
        name = json.loads(note.read_text())["name"]
        if name != source.name:
            raise DemoError(
                f"{folder} holds a demo of {name}: run make demo-clean before one of {source.name}"
            )
    note.write_text(json.dumps({"name": source.name}) + "\n")
