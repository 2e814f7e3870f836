"""Asking the appliance's API: what all the example notebooks need.

Where the API is stands in CBM_API_URL; who asks in CBM_API_TOKEN, or in CBM_API_USER and
CBM_API_PASSWORD, which are asked for when they are missing. None of them belongs into a notebook.
"""

import functools
import getpass
import html
import os
from typing import Any
from urllib.parse import parse_qsl, urljoin

import requests
from IPython.display import HTML, display

_IS_PAGE = os.environ.get("SERVER_SOFTWARE", "").startswith("voila")


def _stop(reason: str) -> RuntimeError:
    """The error to raise; its reason is also shown on a page, which hides what errors say."""
    if _IS_PAGE:
        print(reason)  # noqa: T201 - a page shows what a notebook prints
    return RuntimeError(reason)


@functools.cache
def account() -> tuple[str, str]:
    """The user and password to ask with, typed in if the environment has none."""
    user = os.environ.get("CBM_API_USER") or input("User of the API: ")
    return user, os.environ.get("CBM_API_PASSWORD") or getpass.getpass("Password: ")


@functools.cache
def _session() -> requests.Session:
    session = requests.Session()
    if token := os.environ.get("CBM_API_TOKEN"):
        session.headers["Authorization"] = f"Bearer {token}"
    elif _IS_PAGE:
        raise _stop("This page has no token for the API yet: see roles/jupyterhub/README.md.")
    else:
        session.auth = account()
    return session


def ask(question: str, **asked: Any) -> dict[str, Any]:
    """The API's answer to a question: columns by name, or what it has.

    Args:
        question: the last part of its address, such as parcelTimeSeries.
        asked: its parameters.

    Raises:
        RuntimeError: the API refused, with the reason it gave.
    """
    address = f"{os.environ['CBM_API_URL'].rstrip('/')}/query/{question}"
    answer = _session().get(address, params=asked, timeout=60)
    if not answer.ok:
        known = answer.headers.get("Content-Type", "").startswith("application/json")
        said = answer.json()["detail"] if known else answer.reason
        raise _stop(f"{question}: {answer.status_code}: {said}")
    return answer.json()


def fetch(address: str) -> bytes:
    """A file that an answer gave the signed address of; it goes without password or token."""
    answer = requests.get(urljoin(os.environ["CBM_API_URL"], address), timeout=60)
    answer.raise_for_status()
    return answer.content


def subject() -> dict[str, str]:
    """The parcel to look at: aoi, year and pid.

    Taken from the page's address, or from CBM_AOI, CBM_YEAR and CBM_PID; what is missing is the
    API's first example. To look at another one, write e.g. `chosen["pid"] = "007"` after it.
    """
    address = dict(parse_qsl(os.environ.get("QUERY_STRING", "")))
    wanted = {
        name: address.get(name) or os.environ.get(f"CBM_{name.upper()}")
        for name in ("aoi", "year", "pid")
    }
    if all(wanted.values()):
        return wanted
    aois = ask("info")["aois"]
    if not aois:
        raise _stop("The API has nothing for this user yet: ask for a grant (cbm-api users grant).")
    aoi = wanted["aoi"] or next(iter(aois))
    year = wanted["year"] or aois[aoi]["years"][-1]
    return {"aoi": aoi, "year": year, "pid": wanted["pid"] or aois[aoi][f"id_examples_{year}"][0]}


def page_form(chosen: dict[str, str]) -> None:
    """Fields to choose another parcel, where the notebook is shown as a page."""
    if _IS_PAGE:
        fields = "".join(
            f'<label>{name} <input name="{name}" value="{html.escape(value)}" required></label> '
            for name, value in chosen.items()
        )
        display(HTML(f"<form>{fields}<button>Show</button></form>"))
