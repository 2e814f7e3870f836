"""Sources of a demo: a synthetic Member State, a folder of real scenes, or a STAC API."""

import json
from dataclasses import dataclass
from pathlib import Path

from standalone.programs import DemoError, program
from standalone.synthetic import level1, state


@dataclass(frozen=True)
class DemoOptions:
    """The options of `make demo`; None where the user gives none.

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
class DemoSource:
    """Where scenes and parcels come from, as commands to run and a file to import.

    Attributes:
        name: for people; equal names are the same source.
        credit: the line below a plot of it; {year} stands for the campaign's.
        register: command that puts the scenes into the catalogue.
        parcels: parcel file.
        aoi: code of the Member State or region.
        year: the campaign's year, if the user gives one.
        id_column: column of the parcel file with the agency's ids, if any.
        crop_column: column of the crops' names, if any.
        crop_code_column: column of the crops' codes, if any.
        prepare: command that makes the data first, if they have to be made.
        level1: folder of Level-1 products that CARD has to be made of, if any.
        terrain: terrain model to make it with, heights above the ellipsoid.
        made: folder where it goes.
    """

    name: str
    credit: str
    register: tuple[str, ...]
    parcels: Path
    aoi: str
    year: int | None
    id_column: str | None = None
    crop_column: str | None = None
    crop_code_column: str | None = None
    prepare: tuple[str, ...] = ()
    level1: Path | None = None
    terrain: Path | None = None
    made: Path | None = None

    @property
    def grds(self) -> list[Path]:
        """Detected products that CARD-BS is made of; none without Level-1 products."""
        return sorted(self.level1.glob("*_GRDH_*.SAFE")) if self.level1 else []

    @property
    def slc_pair(self) -> list[Path]:
        """Complex products that coherence is made of, the later one first; none without them."""
        return sorted(self.level1.glob("*_SLC_*.SAFE"), reverse=True) if self.level1 else []

    @property
    def own_card(self) -> frozenset[str]:
        """References of the CARD-BS that is made of them."""
        return frozenset(f"{product.stem}_CARD_BS" for product in self.grds)

    @property
    def card_commands(self) -> list[tuple[str, ...]]:
        """The commands that make CARD: backscatter of each of `grds`, coherence of the pair."""
        options = (
            f"--dem={self.terrain}", "--geoid=ellipsoid", f"--orbits={self.level1}/orbits",
            f"--out={self.made}",
        )  # fmt: skip
        wanted: list[tuple[str, ...]] = [("bs", str(product)) for product in self.grds]
        if self.slc_pair:
            wanted.append(("coh", *map(str, self.slc_pair)))
        return [(program("cbm-card"), "make", *words, *options) for words in wanted]


_COPERNICUS = "Contains modified Copernicus Sentinel data {year}"


def choose_source(options: DemoOptions, folder: Path) -> DemoSource:
    """The source that the options name.

    Args:
        options: of the user.
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
        raise DemoError("PARCELS= needs scenes: add DATA=DIR or STAC=URL")
    return _synthetic(options, folder / "data")


def _synthetic(options: DemoOptions, data: Path) -> DemoSource:
    make = program("cbm-standalone")
    return DemoSource(
        name=f"a synthetic Member State of {options.synthetic_parcels} parcels",
        credit="Synthetic data",
        prepare=(
            make,
            "synthesize",
            str(data),
            f"--parcels={options.synthetic_parcels}",
            "--level1",
        ),
        level1=data / level1.FOLDER,
        terrain=data / level1.DEM_FOLDER / level1.DEM_FILE,
        made=data / state.SCENES_FOLDER,
        register=(program("cbm-card"), "register", str(data / state.SCENES_FOLDER)),
        parcels=data / state.PARCELS_FILE,
        id_column="code",
        crop_column="crop",
        crop_code_column="crop_code",
        aoi=options.aoi or state.AOI,
        year=options.year,
    )


def _of_folder(options: DemoOptions, data: Path) -> DemoSource:
    if not data.is_dir():
        raise DemoError(f"DATA={data} is not a folder")
    if options.describe and not options.describe.is_dir():
        raise DemoError(f"DESCRIBE={options.describe} is not a folder")
    describe = ("--describe", str(options.describe.resolve())) if options.describe else ()
    scenes = str(data.resolve())
    return _of_user(options, scenes, ("register", scenes, *describe))


def _of_stac(options: DemoOptions, url: str) -> DemoSource:
    search = {
        "collection": options.collection,
        "bbox": options.bbox,
        "start": options.start,
        "end": options.end,
    }
    missing = [f"{key.upper()}=" for key, text in search.items() if not text]
    if missing:
        raise DemoError(f"STAC= needs {', '.join(missing)} as well")
    # --key=value, since a bbox in the west begins with a minus sign.
    arguments = [f"--{key}={text}" for key, text in search.items()]
    scenes = f"{url} ({', '.join(str(text) for text in search.values())})"
    return _of_user(options, scenes, ("sync", f"--stac={url}", *arguments))


def _of_user(options: DemoOptions, scenes: str, command: tuple[str, ...]) -> DemoSource:
    """Scenes of the user's, found by a command of cbm-card, with the user's parcels."""
    parcels = _parcels(options)
    return DemoSource(
        name=f"{scenes} with {parcels}",
        credit=_COPERNICUS,
        register=(program("cbm-card"), *command),
        parcels=parcels,
        id_column=options.id_column,
        crop_column=options.crop_column,
        crop_code_column=options.crop_code_column,
        aoi=options.aoi or state.AOI,
        year=options.year,
    )


def _parcels(options: DemoOptions) -> Path:
    if not options.parcels:
        raise DemoError("the scenes need parcels: add PARCELS=FILE")
    if not options.parcels.exists():
        raise DemoError(f"PARCELS={options.parcels} is not there")
    return options.parcels.resolve()


def remember(folder: Path, source: DemoSource) -> None:
    """Write the source into the demo's folder.

    Raises:
        DemoError: the demo there has another source.
    """
    note = folder / "source.json"
    if note.exists():
        name = json.loads(note.read_text())["name"]
        if name != source.name:
            raise DemoError(
                f"{folder} holds a demo of {name}: run make demo-clean before one of {source.name}"
            )
    note.write_text(json.dumps({"name": source.name}) + "\n")
