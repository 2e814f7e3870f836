"""Engine cdse: an order is placed once, looked after, fetched, or given up with its reason."""

import io
import zipfile
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from card.make.orders import ArchiveJob, ArchiveOrders
from card.make.worker import Processor, ProcessorSettings
from store import db, making
from store.errors import ConfigError, SceneError, WorldError
from store.inputs import InputProduct, register_inputs
from store.making import MakingOrder
from store.worker import NotReadyError
from tests import grd
from tests.beds.archive import Archive, serving
from tests.integration.small_state import write_band

GRD = grd.NAME
PLACE = "MULTIPOLYGON(((9 47,10 47,10 48,9 47)))"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive that makes CARD-BS on demand, behind a sign-in."""
    made = Archive(token="fresh")
    with serving(made) as server:
        for name, value in {
            "CBM_SOURCES": server.sources(tmp_path / "sources.toml"),
            "CBM_CDSE_TOKEN_URL": f"{server.url}/token",
            "CBM_CDSE_HOSTS": "127.0.0.1",
            "CBM_CDSE_USER": "somebody@example.org",
            "CBM_CDSE_PASSWORD": "right",
        }.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def job(tmp_path) -> ArchiveJob:
    into = tmp_path / "staging"
    into.mkdir()
    return ArchiveJob("bs", (GRD,), LONG_AGO, into)


def make(job):
    return ArchiveOrders.from_env().make(job, lambda done, total: None)


def delivery(tmp_path, top: str = f"{GRD}_CARD_BS/") -> bytes:
    """A zip of VV and VH as the archive's product has them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for band in ("VV", "VH"):
            pixels = np.full((100, 100), 0.1, np.float32)
            path = write_band(tmp_path / f"Gamma0_{band}.tif", pixels)
            file.write(path, f"{top}Gamma0_{band}.tif")
    return packed.getvalue()


def complete(archive, content: bytes) -> None:
    archive.orders[-1] |= {"Status": "completed", "content": content}


def placed(archive) -> list[str]:
    return [order["InputProductReference"]["Reference"] for order in archive.orders]


def test_the_first_look_places_the_order(archive, job):
    with pytest.raises(NotReadyError, match="ordered: 1000") as waits:
        make(job)
    assert waits.value.delay_s >= 60
    [order] = archive.orders
    assert order["WorkflowName"] == "card_bs"
    assert order["InputProductReference"] == {"Reference": f"{GRD}.SAFE"}
    assert GRD in order["Name"]


LATER = "S1A_IW_SLC__1SDV_20230916T063730_20230916T063757_050349_060FCD_6814"
EARLIER = "S1A_IW_SLC__1SDV_20230904T063730_20230904T063757_050174_0609E3_DAA1"


@pytest.mark.parametrize(
    ("delivered", "refused"),
    [
        ("S1A_20230916T063730__1A__20230904T063730_20230904T063757_CARD-COH12", False),
        ("S1A_20230916T063730__1A__20230823T063730_20230823T063757_CARD-COH12", True),
    ],
)
def test_both_products_of_a_pair_are_ordered_and_no_other_pair_is_taken(
    archive, tmp_path, delivered, refused
):
    archive.workflows = {"card_coh12_public": "CARD-COH12"}
    job = ArchiveJob("c12", (LATER, EARLIER), LONG_AGO, tmp_path / "staging")
    job.into.mkdir()
    with pytest.raises(NotReadyError):
        make(job)
    assert placed(archive) == [f"{LATER}.SAFE,{EARLIER}.SAFE"]
    complete(archive, delivery(tmp_path, f"{delivered}/"))
    if refused:
        with pytest.raises(SceneError, match="of another pair than"):
            make(job)
    else:
        assert make(job).name == delivered


def test_later_looks_find_the_order_and_place_no_other(archive, job):
    for _ in range(3):
        with pytest.raises(NotReadyError):
            make(job)
    archive.orders[0] |= {"Status": "in_progress", "StatusMessage": "terrain correction"}
    with pytest.raises(NotReadyError, match="order 1000 at the archive: terrain correction"):
        make(job)
    assert placed(archive) == [f"{GRD}.SAFE"]


def test_an_order_whose_answer_was_lost_is_not_placed_again(archive, job):
    archive.lost_answers = 1
    with pytest.raises(WorldError, match="HTTP 503"):
        make(job)
    with pytest.raises(NotReadyError, match="order 1000"):
        make(job)
    assert len(archive.orders) == 1


def test_a_used_up_quota_is_waited_for(archive, job):
    archive.quota = 0
    with pytest.raises(NotReadyError, match=r"not ordered yet: .*Quota of concurrent") as waits:
        make(job)
    assert waits.value.delay_s >= 600


@pytest.mark.parametrize("top", [f"{GRD}_CARD_BS/", "", "result/"])
def test_a_finished_product_is_fetched_and_called_by_its_name(archive, job, tmp_path, top):
    with pytest.raises(NotReadyError):
        make(job)
    complete(archive, delivery(tmp_path, top))
    folder = make(job)
    assert folder == job.into / f"{GRD}_CARD_BS"
    assert {path.name for path in folder.iterdir()} == {"Gamma0_VV.tif", "Gamma0_VH.tif"}


def test_a_failed_order_is_said_with_the_archives_reason_until_it_is_retried(archive, job):
    with pytest.raises(NotReadyError):
        make(job)
    archive.orders[0] |= {"Status": "failed", "StatusMessage": "no orbit file"}
    for _ in range(2):
        with pytest.raises(SceneError, match="order 1000 at the archive failed: no orbit file"):
            make(job)
    later = datetime.now(UTC) + timedelta(seconds=1)
    with pytest.raises(NotReadyError, match="ordered: 1001"):
        make(ArchiveJob(job.kind, job.references, later, job.into))


def test_a_kind_that_the_account_is_not_offered_is_named(archive, job):
    archive.workflows = {"card_coh12_public": "CARD-COH12"}
    with pytest.raises(ConfigError, match="no CARD-BS for this account; it makes CARD-COH12"):
        make(job)


@pytest.mark.parametrize(
    ("names", "error", "why"),
    [
        (None, WorldError, "no whole zip file"),
        (("../evil.tif",), SceneError, "lead out of its folder"),
        (("/etc/evil.tif",), SceneError, "lead out of its folder"),
    ],
)
def test_a_strange_delivery_is_refused(archive, job, names, error, why):
    with pytest.raises(NotReadyError):
        make(job)
    packed = io.BytesIO(b"PK\3\4 broken")
    if names:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            for name in names:
                file.writestr(name, "x")
    complete(archive, packed.getvalue())
    with pytest.raises(error, match=why):
        make(job)
    assert not (job.into.parent / "evil.tif").exists()


def test_a_processor_orders_waits_fetches_and_registers(archive, database, tmp_path, monkeypatch):
    start = datetime(2021, 12, 23, 5, 11, 22, tzinfo=UTC)
    product = InputProduct(
        GRD, "GRD", "IW_GRDH_1S", "S1B", start, start + timedelta(seconds=25), 30148, 22, PLACE,
        "s3://eodata/x.SAFE", "descending", state="offline",
    )  # fmt: skip
    register_inputs(database, [product])
    making.enqueue(database, [MakingOrder("bs", (GRD,), start, engine="cdse")])
    monkeypatch.setenv("CBM_CARD_DIR", str(tmp_path / "card"))
    monkeypatch.setenv("CBM_POLL_S", "0.1")
    processor = Processor(ProcessorSettings.from_env())
    assert processor._drain() == 0
    row = db.fetch_one(database, "SELECT * FROM making")
    assert (row.state, row.failures, row.lost_leases) == ("pending", 0, 0)
    assert row.reason == "ordered: 1000"
    complete(archive, delivery(tmp_path))
    db.execute(database, "UPDATE making SET not_before = '-infinity'")
    assert processor.work(until_idle=True) == 1
    scene = db.fetch_one(database, "SELECT * FROM scene")
    assert (scene.reference, scene.unit) == (f"{GRD}_CARD_BS", "gamma0_linear")
    assert scene.bands["VV"]["href"] == f"{tmp_path}/card/{GRD}_CARD_BS/Gamma0_VV.tif"
    assert len(archive.orders) == 1
