"""The guide as the API serves it: its scripts run, its search finds, and nothing is refused."""

import re

import pytest
from playwright.sync_api import expect


@pytest.mark.parametrize("page", ["index.html", "operate/sizing.html"])
def test_a_page_of_the_guide_is_shown_as_it_was_built(visitor, page):
    lost = []
    visitor.page.on("response", lambda r: r.status >= 400 and lost.append(r.url))
    visitor.open(f"/guide/{page}")
    expect(visitor.page.locator("h1")).to_be_visible()
    # The theme's scripts ran: the one inside of the page, and those beside it.
    expect(visitor.page.locator("html")).to_have_attribute("data-theme", re.compile("light|dark"))
    visitor.page.wait_for_load_state("networkidle")
    visitor.keep(f"guide-{page.replace('/', '-').removesuffix('.html')}")
    assert lost == []


def test_the_guides_search_finds(visitor):
    visitor.open("/guide")
    visitor.page.get_by_role("button", name="Search").first.click()
    visitor.page.get_by_role("searchbox").last.fill("dead letter")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#search-results li").first).to_be_visible()
    expect(visitor.page.locator("#search-results")).to_contain_text("finished")
    visitor.keep("guide-search")


def test_a_script_that_was_put_into_a_page_of_the_guide_does_not_run(visitor):
    visitor.open("/guide")
    visitor.page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'broken into'";
        document.body.append(script);
    }""")
    assert "broken into" not in visitor.page.title()
    refusal = visitor.complaints.pop()
    assert "script-src" in refusal


def test_no_page_of_the_guide_has_scripts_that_its_policy_cannot_name(guide):
    pages = sorted(guide.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<[^>]+\son[a-z]+=", text), page
        assert "javascript:" not in text, page


def test_every_page_leads_to_the_guide(visitor):
    visitor.log_in()
    for address in ("/", "/status"):
        visitor.open(address)
        visitor.page.get_by_role("navigation").get_by_role("link", name="Guide").click()
        expect(visitor.page.locator("h1")).to_be_visible()
        assert "/guide" in visitor.page.url
