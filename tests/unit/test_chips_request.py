"""Requests of images and their addresses: there and back, and who may open them."""

from dataclasses import replace

import pytest

from app.chips.chip_request import BackgroundRequest, ChipRequest, ParcelKey, parse_path
from app.chips.rendering import Lut
from app.chips.signed_urls import SignedUrls, UrlHolder
from app.chips.window import ChipWindow
from store.errors import NotFoundError

WINDOW = ChipWindow(-8.1234567, 52.0, 1280.0)
RAW = ChipRequest(17, WINDOW, ("B04",), label="S2A_MSIL2A")
ANN = UrlHolder(1, "nl")


@pytest.mark.parametrize(
    "request_",
    [
        RAW,
        ChipRequest(1, ChipWindow(1e-07, -1e-07, 20.0), ("VV",)),
        ChipRequest(17, WINDOW, ("B08", "B04", "B03"), Lut((5.0, 95.0))),
        ChipRequest(17, WINDOW, ("SCL",), Lut((0.5, 99.5)), ParcelKey(3, 4), "A-1"),
        ChipRequest(17, WINDOW, ("VV",), Lut((-20.0, -5.0, -25.5, -10.0, 0.0, 1.0))),
        BackgroundRequest("ortho-25", 5.39, -52.15, 256, 256.0, "png", ParcelKey(3, 4), "google"),
        BackgroundRequest("ortho", 5.0, 52.0, 1280, 0.5, "tif"),
    ],
)
def test_a_request_comes_back_out_of_its_path(request_):
    assert parse_path(request_.to_path()) == request_


def test_the_label_is_no_part_of_a_requests_identity():
    assert replace(RAW, label="other").identity == RAW.identity
    assert replace(RAW, bands=("B08",)).identity != RAW.identity


@pytest.mark.parametrize(
    "path",
    [
        "", "x", "c_17_5.0_52.0_1280.0/chip.B04", "c_17_5.0_52.0/chip.B04.tif",
        "c_x_5.0_52.0_1280.0/chip.B04.tif", "c_17_5.0_52.0_1280.0/chip.B04_B03.tif",
        "c_17_5.0_52.0_1280.0/chip.B04.5_95.tif", "c_17_5.0_52.0_1280.0/chip.B04.png",
        "c_17_5.0_52.0_1280.0/chip.B04.95_5.png", "c_17_5.0.0_52.0_1280.0/chip.B04.tif",
        "c_17_5.0_52.0_1280.0_3/chip.B04.tif", "b_Ortho_5.0_52.0_256_256.0/a.png",
        "b_ortho_5.0_52.0_2.5_256.0/a.png", "c_17_5.0_52.0_1280.0/chip.B04.tif\n",
    ],
)  # fmt: skip
def test_other_paths_are_no_requests(path):
    with pytest.raises(NotFoundError, match="no such image"):
        parse_path(path)


def proof_of(urls: SignedUrls, request: ChipRequest = RAW) -> str:
    return urls.sign(ANN, request).split("/")[2]


def test_addresses_hold_as_long_as_promised_and_no_longer():
    now = [1_000_000.5]
    urls = SignedUrls("s" * 32, 7200, clock=lambda: now[0])
    proof, holder, path = urls.sign(ANN, RAW).removeprefix("/chips/").split("/", 2)
    assert (UrlHolder.parse(holder), parse_path(path)) == (ANN, RAW)
    assert 7200 < urls.verify(proof, ANN, RAW) <= 7200 + 3600
    now[0] += 7200
    assert urls.verify(proof, ANN, RAW) > 0
    now[0] += 3600
    with pytest.raises(NotFoundError, match="expired"):
        urls.verify(proof, ANN, RAW)


@pytest.mark.parametrize("other", [UrlHolder(2, "nl"), UrlHolder(1), UrlHolder(1, "be")])
def test_an_address_is_good_for_its_own_holder_only(other):
    urls = SignedUrls("a" * 32, 60)
    with pytest.raises(NotFoundError):
        urls.verify(proof_of(urls), other, RAW)


def test_of_a_geotiff_only_the_band_may_be_replaced_and_of_a_rendering_nothing():
    urls = SignedUrls("a" * 32, 60)
    proof = proof_of(urls)
    assert urls.verify(proof, ANN, replace(RAW, bands=("B08",))) > 0
    rendering = replace(RAW, lut=Lut((5.0, 95.0)))
    for other in (replace(RAW, obsid=18), replace(RAW, parcel=ParcelKey(1, 1)), rendering):
        with pytest.raises(NotFoundError):
            urls.verify(proof, ANN, other)
    with pytest.raises(NotFoundError):
        urls.verify(proof_of(urls, rendering), ANN, replace(rendering, bands=("B08",)))


def test_other_secrets_make_other_addresses():
    with pytest.raises(NotFoundError):
        SignedUrls("b" * 32, 60).verify(proof_of(SignedUrls("a" * 32, 60)), ANN, RAW)
