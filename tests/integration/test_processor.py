"""`cbm-card work`: products are made, published whole, registered, whatever happens meanwhile."""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from card.find import level1
from card.make import delivery
from card.make.worker import Processor, ProcessorSettings
from store import db, making, objects
from store.errors import ObjectStoreError
from store.inputs import register_inputs
from store.making import MakingOrder
from tests import grd, simulated_slc
from tests.beds.s3.server import S3Server

COARSE = {"res_m": 100.0}
"""A tile or two: what is tested is not the pixels."""
NAMES = [f"{grd.NAME[:-4]}{n:04X}" for n in range(4)]
KILLS = 100 if os.environ.get("CBM_TEST_FULL") else 20
WORKERS = 2


@pytest.fixture(scope="module")
def level1_folder(shared_data, tmp_path_factory) -> Path:
    """A terrain and four GRD of one content."""
    place = tmp_path_factory.mktemp("level1")
    safe = grd.make(shared_data, place, lambda corner: np.sqrt(0.1 * corner.gamma**2))
    for name in NAMES:
        (place / f"{name}.SAFE").symlink_to(safe)
    grd.terrain(place / "dem.tif", lambda lon, lat: 300 + 100 * np.sin(lon * 300))
    return place


@pytest.fixture
def queue(database, level1_folder, tmp_path, monkeypatch):
    """A database with four GRD, and the settings of a quick processor."""
    for name, value in {
        "CBM_CARD_DIR": tmp_path / "card",
        "CBM_DEM": level1_folder / "dem.tif",
        "CBM_POLL_S": "0.1",
        "CBM_RETRY_S": "0",
        "CBM_LEASE_S": "1",
        "CBM_MAX_LOST_LEASES": "1000",
    }.items():
        monkeypatch.setenv(name, str(value))
    products = [level1.read(level1_folder / f"{name}.SAFE") for name in NAMES]
    register_inputs(database, products)
    return database


def orders(count: int = len(NAMES), settings=COARSE, **facts) -> list[MakingOrder]:
    start = level1_start()
    return [MakingOrder("bs", (name,), start, settings=settings, **facts) for name in NAMES[:count]]


def level1_start():
    return db.fetch_one(db.connect("test"), "SELECT sensing_start FROM input_product").sensing_start


def work(**changes) -> int:
    settings = ProcessorSettings.from_env(os.environ)
    return Processor(settings.model_copy(update=changes)).work(until_idle=True)


def states(conn):
    rows = db.fetch_all(conn, "SELECT state, reason FROM making ORDER BY inputs")
    return [(row.state, row.reason) for row in rows]


def digests(folder: Path) -> dict[str, str]:
    """Of all files below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def scenes(conn):
    return db.fetch_all(conn, "SELECT reference, kind, unit, bands FROM scene ORDER BY reference")


def test_a_product_is_made_published_and_registered(queue, tmp_path):
    making.enqueue(queue, orders(1))
    assert work() == 1
    name = f"{NAMES[0]}_CARD_BS"
    assert sorted(digests(tmp_path / "card")) == [
        f"{name}/{name}.json", f"{name}/{name}.tif", f"{name}/{name}_mask.tif",
    ]  # fmt: skip
    [scene] = scenes(queue)
    assert (scene.reference, scene.kind, scene.unit) == (name, "bs", "gamma0_terrain_linear")
    href = f"{tmp_path}/card/{name}/{name}"
    assert {band: source["href"] for band, source in scene.bands.items()} == {
        "VV": f"{href}.tif", "VH": f"{href}.tif", "MASK": f"{href}_mask.tif",
    }  # fmt: skip
    row = db.fetch_one(queue, "SELECT * FROM making")
    assert (row.state, row.product, row.failures, row.lost_leases) == ("done", name, 0, 0)
    assert row.tiles_done == row.tiles > 0
    assert row.size_bytes == sum(f.stat().st_size for f in (tmp_path / "card" / name).iterdir())


def test_a_rerun_finds_its_own_bytes_and_changes_nothing(queue, tmp_path):
    making.enqueue(queue, orders(1))
    work()
    before = digests(tmp_path / "card")
    inode = (tmp_path / "card" / f"{NAMES[0]}_CARD_BS").stat().st_ino
    db.execute(queue, "UPDATE making SET state = 'pending'")
    assert work() == 1
    assert digests(tmp_path / "card") == before
    assert (tmp_path / "card" / f"{NAMES[0]}_CARD_BS").stat().st_ino == inode
    assert len(scenes(queue)) == 1


def test_a_product_made_otherwise_stays_unless_it_is_to_be_replaced(queue, tmp_path):
    making.enqueue(queue, orders(1))
    work()
    before = digests(tmp_path / "card")
    db.execute(queue, "UPDATE making SET state = 'pending', settings = '{\"res_m\": 200}'")
    assert work() == 0
    assert states(queue)[0][0] == "dead"
    assert "is there already, made otherwise" in states(queue)[0][1]
    assert digests(tmp_path / "card") == before
    making.enqueue(queue, orders(1, {"res_m": 200.0}), replace=True)
    assert work() == 1
    after = digests(tmp_path / "card")
    assert after.keys() == before.keys()
    assert after != before


def test_what_cannot_be_made_is_dead_with_its_reason_and_leaves_nothing(queue, tmp_path):
    making.enqueue(
        queue,
        [
            *orders(1, {"sharpen": True}),
            MakingOrder("bs", ("S1A_X",), level1_start(), settings=COARSE),
            MakingOrder("c6", (NAMES[1], NAMES[0]), level1_start(), engine="snap"),
        ],
    )
    assert work() == 0
    assert sorted(states(queue)) == [
        ("dead", "BackscatterSettings has no sharpen"),
        ("dead", "SNAP's graph is for CARD-BS; coherence is made by --engine own"),
        ("dead", "no Level-1 product S1A_X is registered"),
    ]
    assert digests(tmp_path / "card") == {}


def test_an_input_that_is_away_is_waited_for(queue):
    making.enqueue(queue, orders(2))
    db.execute(queue, "UPDATE input_product SET state = 'offline' WHERE reference = %s",
               (NAMES[0],))  # fmt: skip
    db.execute(queue, "UPDATE input_product SET href = '/nowhere' WHERE reference = %s",
               (NAMES[1],))  # fmt: skip
    work(max_lost_leases=2)
    (_, offline), (_, unmounted) = states(queue)
    assert "is offline at its archive: order it" in offline
    assert "/nowhere is not there: is the archive mounted?" in unmounted
    counts = db.fetch_all(queue, "SELECT failures, lost_leases FROM making")
    assert {tuple(row) for row in counts} == {(0, 2)}


def test_a_stopped_processor_releases_its_product_without_blame(queue, monkeypatch):
    making.enqueue(queue, orders(1))
    processor = Processor(ProcessorSettings.from_env(os.environ))
    monkeypatch.setattr(
        "card.make.worker.bring_product", lambda grd, into: processor.stop() or Path(grd.href)
    )
    assert processor.work(until_idle=True) == 0
    assert states(queue) == [("pending", None)]


def test_a_withdrawn_product_is_not_published(queue, tmp_path, monkeypatch):
    making.enqueue(queue, orders(1))
    original = delivery.CardDelivery.scene

    def withdraw(self):
        monkeypatch.setattr(delivery.CardDelivery, "scene", original)
        db.execute(queue, "UPDATE making SET state = 'dead', fence = fence + 1")
        return original(self)

    monkeypatch.setattr(delivery.CardDelivery, "scene", withdraw)
    assert work() == 0
    assert digests(tmp_path / "card") == {}
    assert scenes(queue) == []


def test_a_processor_without_places_says_which(queue, monkeypatch):
    making.enqueue(queue, orders(1))
    work(dem=None)
    assert states(queue)[0] == ("dead", "CBM_DEM is not set: CARD is made over a terrain model")


def test_a_bucket_gets_the_description_last_and_the_catalogue_after_it(
    queue, s3: S3Server, level1_folder, tmp_path, monkeypatch
):
    for name, value in s3.http.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CBM_CARD_DIR", f"s3://{s3.new_bucket()}/card")
    monkeypatch.setenv("CBM_SCRATCH", str(tmp_path / "scratch"))
    shelf = os.environ["CBM_CARD_DIR"]
    source = shelf.replace("/card", f"/l1/{NAMES[0]}.SAFE")
    for path in (level1_folder / f"{NAMES[0]}.SAFE").resolve().rglob("*"):
        if path.is_file():
            inner = path.relative_to((level1_folder / f"{NAMES[0]}.SAFE").resolve())
            objects.put_object(f"{source}/{inner}", path)
    db.execute(queue, "UPDATE input_product SET href = %s", (source,))
    put: list[str] = []
    original = objects.put_object

    def failing(href, content):
        put.append(href)
        if len(put) == 3:
            raise ObjectStoreError("the bucket went away")
        original(href, content)

    monkeypatch.setattr(objects, "put_object", failing)
    making.enqueue(queue, orders(1))
    assert work(max_lost_leases=5) == 1
    name = f"{NAMES[0]}_CARD_BS"
    assert put[2] == put[-1] == f"{shelf}/{name}/{name}.json"
    assert [each.href for each in objects.list_objects(shelf)] == sorted(set(put))
    [scene] = scenes(queue)
    assert {band["href"] for band in scene.bands.values()} == {
        f"{shelf}/{name}/{name}.tif", f"{shelf}/{name}/{name}_mask.tif",
    }  # fmt: skip
    assert db.fetch_one(queue, "SELECT lost_leases FROM making").lost_leases == 1
    assert json.loads(objects.read_object(put[-1]))["id"] == name
    assert digests(tmp_path / "scratch") == {}


def test_a_pair_becomes_coherence(database, tmp_path, monkeypatch):
    one_burst = replace(simulated_slc.PAIR, bursts=1, lines=160, samples=500,
                        coherence={"VV": 0.95}, gamma0={"VV": 0.1})  # fmt: skip
    pair = simulated_slc.simulate(tmp_path / "slc", one_burst)
    for name, value in {
        "CBM_CARD_DIR": tmp_path / "card", "CBM_DEM": pair.dem, "CBM_GEOID": "ellipsoid",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    later, earlier = (level1.read(folder) for folder in (pair.later, pair.earlier))
    register_inputs(database, [earlier, later])
    inputs = (later.reference, earlier.reference)
    making.enqueue(database, [MakingOrder("c12", inputs, later.sensing_start)])
    assert work() == 1, states(database)
    [scene] = scenes(database)
    assert (scene.kind, scene.unit, list(scene.bands)) == ("c12", "coherence", ["VV"])
    assert scene.reference.endswith("_CARD-COH12")
    row = db.fetch_one(database, "SELECT * FROM making")
    assert (row.product, row.tiles_done) == (scene.reference, row.tiles)


PAUSES = """
    CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(0.05);
        RETURN NEW;
    END $$;
    CREATE TRIGGER slow_claim BEFORE UPDATE ON making
        FOR EACH ROW WHEN (NEW.state = 'claimed' AND NEW.fence > OLD.fence)
        EXECUTE FUNCTION pause();
    CREATE TRIGGER slow_register BEFORE INSERT OR UPDATE ON scene
        FOR EACH ROW EXECUTE FUNCTION pause();
    CREATE CONSTRAINT TRIGGER slow_end AFTER UPDATE ON making DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.state = 'done') EXECUTE FUNCTION pause();
"""
"""Make the short phases long enough to be hit; nothing of the software under test changes."""


@pytest.mark.timeout(1800)
def test_killed_processors_leave_the_products_of_an_undisturbed_run(queue, tmp_path, capsys):
    making.enqueue(queue, orders())
    started = time.monotonic()
    work()
    product_s = (time.monotonic() - started) / len(NAMES)
    undisturbed, registered = digests(tmp_path / "card"), scenes(queue)
    assert len(undisturbed) == 3 * len(NAMES)
    for table in ("making", "scene"):
        db.execute(queue, f"DELETE FROM {table}")
    (tmp_path / "card").rename(tmp_path / "undisturbed")
    db.execute(queue, PAUSES)
    making.enqueue(queue, orders())
    random.seed(20260501)
    fork = multiprocessing.get_context("fork")
    processes: list[multiprocessing.Process] = []
    for _ in range(KILLS):
        processes = [each for each in processes if each.is_alive()]
        while len(processes) < WORKERS:
            processes.append(fork.Process(target=work))
            processes[-1].start()
        time.sleep(random.uniform(0.05, 1.5 * product_s))
        _assert_no_half(tmp_path / "card", undisturbed)
        if not making.count_open(queue):
            db.execute(queue, "UPDATE making SET state = 'pending'")
        victim = random.choice(processes)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
    for process in processes:
        process.join()
    work()
    lost = db.fetch_one(queue, "SELECT sum(lost_leases) AS n FROM making").n
    with capsys.disabled():
        print(f"\nSIGKILLs: {KILLS}; leases lost: {lost}; {product_s:.2f} s a product")
    assert lost > KILLS / 10  # the rest died before their claim, or after the end
    assert digests(tmp_path / "card") == undisturbed
    moved = [replace_place(row.bands, tmp_path) for row in scenes(queue)]
    assert moved == [replace_place(row.bands, tmp_path) for row in registered]
    assert {state for state, _ in states(queue)} == {"done"}


def replace_place(bands, place: Path):
    return {name: band["href"].removeprefix(str(place)) for name, band in bands.items()}


def _assert_no_half(card: Path, whole: dict[str, str]) -> None:
    """What is published is whole, at any moment."""
    for product in card.glob("*_CARD_BS") if card.is_dir() else ():
        found = {f"{product.name}/{name}": digest for name, digest in digests(product).items()}
        assert found == {k: v for k, v in whole.items() if k.startswith(f"{product.name}/")}
