"""The pages as people use them, in a real browser."""

import csv
import json
import re
from contextlib import closing

import requests
from playwright.sync_api import expect

from store import db
from store.cost import publish_ledger
from store.kinds import CLEAR_CLASSES, CLEAR_SHARE
from tests.browser.conftest import NAME, PASSWORD, STRANGER
from tests.browser.state import MIDDLE
from tests.integration.filled_api import away

LEDGER = [
    "MonthKindExpectedExtractedWaitingFailedMissingWhere",
    "Apr 24s24211032TNT 1",
    "May 24s21000132TNT 1",
]

COST = {
    "title": "stack tt",
    "currency": "EUR",
    "parcels": 770_000,
    "year": {"statistics": 493.4, "CARD making": 7.7, "all": 2833.6},
    "parcel_year": {"statistics": 0.000641, "CARD making": 0.00001, "all": 0.00368},
    "public_price": {
        "of": "Sen4CAP as a service",
        "currency": "EUR",
        "cents": {"statistics": 0.4, "all": 2.9},
    },
    "remarks": ["a year as the last 30.0 days were", "<img src=x onerror=alert(1)> has no price"],
}
COST_LINES = [
    "PartEUR a yearct a parcel-yearSen4CAP as a service, ct (EUR)",
    "statistics4930.0640.4",
    "CARD making80.001–",  # noqa: RUF001 - the page's sign of no value
    "all2,8340.3682.9",
]


def test_a_wrong_password_is_told_and_lets_nobody_in(visitor):
    visitor.log_in(password="wrong-word")
    expect(visitor.page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    visitor.keep("wrong-password")
    visitor.open("/status")
    expect(visitor.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_login_goes_on_to_the_page_that_was_asked_for_and_logout_ends_it(visitor):
    visitor.log_in("/?aoi=tt&year=2024&pid=p2")
    expect(visitor.page.get_by_role("heading", name="p2", exact=True)).to_be_visible()
    cookie = next(c for c in visitor.page.context.cookies() if c["name"] == "cbm_session")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.open("/")
    expect(visitor.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_parcel_found_by_its_id_shows_series_image_peers_and_csv(visitor):
    visitor.log_in()
    page = visitor.page
    visitor.keep("choose")
    visitor.search(MIDDLE)
    expect(page.get_by_role("heading", name=MIDDLE, exact=True)).to_be_visible()
    image = page.get_by_role("img", name=re.compile("Sentinel-2 image"))
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") > 10
    page.get_by_label("Compare with peers").check()
    expect(page.get_by_text("8 nearest parcels")).to_be_visible()
    visitor.see_map()
    visitor.keep("parcel")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    with download.value.path().open() as file:
        rows = list(csv.DictReader(file))
    assert {row["band"] for row in rows} == {"B02", "B03", "B04", "B08", "B11"}
    assert next(row["mean"] for row in rows if row["band"] == "B04") == "1000.0"


def test_the_table_greys_cloudy_days_and_holds_ndvi_and_decibels(visitor):
    visitor.log_in(f"/?aoi=tt&year=2024&pid={MIDDLE}")
    page = visitor.page
    page.get_by_text("Values as a table").click()
    lines = page.locator("#table tbody tr")
    expect(lines).to_have_count(4)
    expect(lines.nth(0)).to_contain_text("0.500")
    expect(lines.nth(1)).to_have_class("cloudy")
    page.locator("#views").get_by_text("Sentinel-1").click()
    expect(lines).to_have_count(1)
    expect(lines.nth(0)).to_contain_text("-10.0")
    expect(lines.nth(0)).to_contain_text("-20.0")
    visitor.keep("radar")


def test_the_page_counts_those_pixels_as_clear_that_the_server_does(visitor):
    visitor.log_in(f"/?aoi=tt&year=2024&pid={MIDDLE}")
    expect(visitor.page.get_by_role("heading", name=MIDDLE)).to_be_visible()
    shares = visitor.page.evaluate("""async () => {
        const { clearShare } = await import("/static/series.js");
        const { clear_classes } = await (await fetch("/page/campaigns")).json();
        return [...Array(12).keys()].map((n) => clearShare({ [n]: 7 }, clear_classes));
    }""")
    assert [n for n, share in enumerate(shares) if share] == list(CLEAR_CLASSES)


def test_a_day_without_scene_classes_is_not_shown_as_clear(visitor, site):
    newest = "SELECT obsid FROM scene WHERE kind = 's2' ORDER BY obstime DESC LIMIT 1"
    db.execute(site.conn, f"DELETE FROM tt.hists WHERE pid = 3 AND obsid = ({newest})")
    visitor.log_in("/?aoi=tt&year=2024&pid=p3")
    page = visitor.page
    expect(page.locator("#clear-value")).to_have_text(f"{CLEAR_SHARE:.0%}".replace("%", " %"))
    page.get_by_text("Values as a table").click()
    lines = page.locator("#table tbody tr")
    expect(lines.nth(2)).to_have_class("")
    expect(lines.nth(3)).to_have_class("cloudy")
    expect(lines.nth(3)).to_contain_text("–")  # noqa: RUF001 - the page's sign of no value
    page.get_by_label("Clear at least").fill("0")
    expect(lines.nth(1)).to_have_class("")
    expect(lines.nth(3)).to_have_class("cloudy")
    visitor.keep("without-classes")
    page.locator("#views").get_by_text("Sentinel-1").click()
    expect(lines.nth(0)).to_have_class("")
    expect(page.get_by_label("Clear at least")).to_be_hidden()


def test_lines_can_be_hidden_and_days_chosen_in_the_plot(visitor):
    visitor.log_in(f"/?aoi=tt&year=2024&pid={MIDDLE}")
    page = visitor.page
    page.locator("#views").get_by_text("Sentinel-2 bands").click()
    band = page.locator("#legend").get_by_role("button", name="B04")
    band.click()
    expect(band).to_have_attribute("aria-pressed", "false")
    page.locator("#plot").hover()
    expect(page.locator("#reading")).to_contain_text("B08")
    expect(page.locator("#reading")).not_to_contain_text("B04")
    visitor.keep("bands")
    page.locator("#plot").click(position={"x": 100, "y": 100})
    expect(page.locator("#day")).to_have_value(re.compile("1 Apr 2024"))


def test_a_parcel_that_is_unfit_for_decisions_is_remarked(visitor, site):
    fit, unfit = "p1", "p2"
    db.execute(site.conn, "UPDATE tt.s2 SET px = 4, flags = 8 * (obsid %% 2) WHERE pid = %s", (2,))
    visitor.log_in(f"/?aoi=tt&year=2024&pid={unfit}")
    note = visitor.page.locator("#series-message")
    expect(note).to_contain_text("The parcel is small: it has 4 pixels only.")
    expect(note).to_contain_text("cuts the parcel on 2 of 4 days")
    visitor.keep("unfit")
    db.execute(site.conn, "UPDATE tt.s2 SET px = 1, flags = 1 WHERE pid = 2")
    visitor.open(f"/?aoi=tt&year=2024&pid={unfit}")
    expect(note).to_contain_text("No pixel has its centre in the parcel")
    visitor.open(f"/?aoi=tt&year=2024&pid={fit}")
    expect(visitor.page.locator("#plot canvas")).to_be_visible()
    expect(note).to_be_hidden()


def test_a_click_on_the_map_chooses_the_parcel(visitor):
    visitor.log_in()
    visitor.see_map()
    box = visitor.page.locator("#map").bounding_box()
    visitor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(visitor.page.get_by_role("heading", name=MIDDLE, exact=True)).to_be_visible()
    assert f"pid={MIDDLE}" in visitor.page.url
    visitor.page.go_back()
    expect(visitor.page.get_by_role("heading", name="Choose a parcel")).to_be_visible()


def test_everything_can_be_done_by_keyboard(visitor):
    visitor.open("/")
    expect(visitor.page.get_by_label("Name")).to_be_focused()
    keys = visitor.page.keyboard
    keys.type(NAME)
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    visitor.see_map()
    visitor.page.locator("#map canvas").focus()
    keys.press("Enter")
    expect(visitor.page.get_by_role("heading", name=MIDDLE, exact=True)).to_be_visible()
    expect(visitor.page.locator("#plot canvas")).to_be_visible()
    visitor.page.locator("#plot").focus()
    keys.press("Home")
    expect(visitor.page.locator("#reading")).to_have_text("1 Apr 2024 · NDVI 0.500 · 100 % clear")
    keys.press("Enter")
    expect(visitor.page.locator("#day")).to_have_value(re.compile("1 Apr 2024"))
    keys.press("ArrowRight")
    expect(visitor.page.locator("#reading")).to_contain_text("0 % clear")
    visitor.keep("keyboard")


def test_an_unknown_parcel_is_told(visitor):
    visitor.log_in()
    visitor.search("<b>nowhere</b>")
    expect(visitor.page.get_by_role("heading", name="No such parcel")).to_be_visible()
    expect(visitor.page.locator("#message")).to_contain_text("<b>nowhere</b>")
    visitor.keep("unknown-parcel")


def hold(page, pattern):
    """Keep requests back; they come into the list that is returned."""
    held = []
    page.route(pattern, lambda route: held.append(route))  # noqa: PLW0108 - its arguments are counted
    return held


def test_who_searches_before_the_campaigns_came_is_answered_then(visitor):
    visitor.log_in("/status")
    held = hold(visitor.page, "**/page/campaigns")
    visitor.page.goto(visitor.site.url)
    visitor.search("p1")
    visitor.page.wait_for_timeout(300)
    held.pop().continue_()
    expect(visitor.page.get_by_role("heading", name="p1", exact=True)).to_be_visible()


def test_keys_before_the_series_came_do_nothing(visitor):
    visitor.log_in("/status")
    held = hold(visitor.page, "**/query/parcelTimeSeries*")
    visitor.page.goto(visitor.site.url)
    visitor.search("p1")
    expect(visitor.page.get_by_role("heading", name="p1", exact=True)).to_be_visible()
    visitor.page.locator("#plot").focus()
    visitor.page.keyboard.press("Home")
    held.pop().continue_()
    expect(visitor.page.locator("#plot canvas")).to_be_visible()


def test_progress_shows_states_and_reasons(visitor):
    visitor.log_in("/status")
    page = visitor.page
    expect(page.get_by_role("heading", name="TT 2024")).to_be_visible()
    expect(page.get_by_text("2 of 5 scenes")).to_be_visible()
    expect(page.get_by_text("B04: the file is cut short")).to_be_visible()
    visitor.keep("status")


def test_progress_shows_what_sources_list_and_is_not_here(visitor):
    visitor.log_in("/status")
    page = visitor.page
    expect(page.get_by_role("heading", name="Completeness")).to_be_visible()
    expect(
        page.get_by_text("Of 5 scenes that this campaign should have, 2 are not here")
    ).to_be_visible()
    lines = page.get_by_role("region", name="Completeness").locator("tr")
    expect(lines).to_have_text(LEDGER)
    expect(lines.nth(2)).to_have_class("lacking")
    visitor.keep("completeness")


def test_a_campaign_that_follows_no_source_says_so(visitor, site):
    db.execute(site.conn, "UPDATE listed_product SET sensed_at = sensed_at - interval '9 years'")
    try:
        visitor.log_in("/status")
        expect(visitor.page.get_by_text("what is missing cannot be said")).to_be_visible()
    finally:
        db.execute(
            site.conn, "UPDATE listed_product SET sensed_at = sensed_at + interval '9 years'"
        )


def test_operators_see_the_cost_beside_the_public_price(visitor, site):
    page = visitor.page
    visitor.log_in("/status")
    expect(page.get_by_role("heading", name="TT 2024")).to_be_visible()
    expect(page.get_by_role("heading", name="Cost")).to_have_count(0)
    publish_ledger(site.conn, json.dumps(COST).encode())
    try:
        visitor.open("/status")
        lines = page.get_by_role("region", name="Cost").locator("tr")
        expect(lines).to_have_text(COST_LINES)
        expect(page.get_by_text("Of stack tt with 770,000 parcels, as of")).to_be_visible()
        expect(page.get_by_text("<img src=x onerror=alert(1)> has no price;")).to_be_visible()
        page.get_by_role("heading", name="Cost").scroll_into_view_if_needed()
        visitor.keep("cost")
    finally:
        db.execute(site.conn, "DELETE FROM cost_ledger")


def test_a_page_waits_for_a_database_that_is_away_and_goes_on_by_itself(visitor):
    page = visitor.page
    dbname = db.fetch_one(visitor.site.conn, "SELECT current_database() AS name").name
    with closing(db.connect("test", "dbname=postgres")) as elsewhere:
        with away(elsewhere, dbname):
            visitor.open("/status")
            expect(page.get_by_role("heading", name="Back shortly")).to_be_visible()
            visitor.keep("away")
        expect(page.get_by_label("Password")).to_be_visible(timeout=15_000)


def test_a_phone_shows_it_without_sideways_scrolling(walker):
    walker.log_in(f"/?aoi=tt&year=2024&pid={MIDDLE}")
    page = walker.page
    expect(page.get_by_role("img", name=re.compile("Sentinel-2 image"))).to_be_visible()
    walker.keep("parcel")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    walker.open("/status")
    expect(page.get_by_role("heading", name="TT 2024")).to_be_visible()
    walker.keep("status")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_nothing_is_loaded_from_elsewhere(visitor):
    requested = []
    visitor.page.on("request", lambda request: requested.append(request.url))
    visitor.log_in(f"/?aoi=tt&year=2024&pid={MIDDLE}")
    visitor.see_map()
    inside = (visitor.site.url, "data:", "blob:")
    assert [url for url in requested if not url.startswith(inside)] == []


def test_tiles_are_for_users_with_a_right_and_are_not_sent_twice(site):
    tile = f"{site.url}/tiles/tt/2024/12/2150/1433"
    assert requests.get(tile, timeout=20).status_code == 401
    assert requests.get(tile, auth=(STRANGER, PASSWORD), timeout=20).status_code == 403
    auth = (NAME, PASSWORD)
    first = requests.get(tile, auth=auth, timeout=20)
    assert (first.status_code, MIDDLE.encode() in first.content) == (200, True)
    again = requests.get(
        tile, auth=auth, headers={"If-None-Match": first.headers["ETag"]}, timeout=20
    )
    assert (again.status_code, again.content) == (304, b"")
    assert requests.get(f"{site.url}/tiles/tt/2024/3/1/1", auth=auth, timeout=20).status_code == 400


def test_a_form_of_another_site_is_refused(site):
    form = {"name": NAME, "password": PASSWORD}
    elsewhere = {"Origin": "https://elsewhere.example"}
    answer = requests.post(f"{site.url}/login", data=form, headers=elsewhere, timeout=20)
    assert (answer.status_code, answer.cookies.get("cbm_session")) == (403, None)


def test_a_session_ends_with_its_password(site):
    form = {"name": NAME, "password": PASSWORD}
    with requests.Session() as session:
        session.post(f"{site.url}/login", data=form, timeout=20)
        assert session.get(f"{site.url}/page/campaigns", timeout=20).status_code == 200
        old = db.fetch_one(site.conn, "SELECT password_hash FROM api_user WHERE name = %s", (NAME,))
        db.execute(site.conn, "UPDATE api_user SET password_hash = 'x' WHERE name = %s", (NAME,))
        try:
            assert session.get(f"{site.url}/page/campaigns", timeout=20).status_code == 401
        finally:
            db.execute(
                site.conn,
                "UPDATE api_user SET password_hash = %s WHERE name = %s",
                (old.password_hash, NAME),
            )


def test_a_forged_session_lets_nobody_in(site):
    for value in ("", "ann", "ann:9999999999:", "ann:9999999999:00", "ann:x:00", "::"):
        cookies = {"cbm_session": value}
        answer = requests.get(f"{site.url}/page/campaigns", cookies=cookies, timeout=20)
        assert answer.status_code == 401
