"""Client of the appliance's API for the example notebooks.

CBM_API_URL is its address; CBM_API_TOKEN, or CBM_API_USER and CBM_API_PASSWORD, the login, for
which users are prompted when it is missing. None of them belongs into a notebook.
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
    """The error to raise; its reason is also shown on a page, which hides errors."""
    if _IS_PAGE:
        print(reason)  # noqa: T201 - a page shows what a notebook prints
    return RuntimeError(reason)


@functools.cache
def account() -> tuple[str, str]:
    """The user and password for the API, typed in if the environment has none."""
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


def query(route: str, **params: Any) -> dict[str, Any]:
    """The API's response to a query, decoded: columns by name, or an object.

    Args:
        route: the last part of its path, such as parcelTimeSeries.
        params: its parameters.

    Raises:
        RuntimeError: the API refused, with its reason.
    """
    address = f"{os.environ['CBM_API_URL'].rstrip('/')}/query/{route}"
    response = _session().get(address, params=params, timeout=60)
    if not response.ok:
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        reason = response.json()["detail"] if is_json else response.reason
        raise _stop(f"{route}: {response.status_code}: {reason}")
    return response.json()


def fetch(address: str) -> bytes:
    """The file at a signed address of a response; it needs no password or token."""
    response = requests.get(urljoin(os.environ["CBM_API_URL"], address), timeout=60)
    response.raise_for_status()
    return response.content


def choose_parcel() -> dict[str, str]:
    """The parcel to show: aoi, year and pid.

    Taken from the page's address, or from CBM_AOI, CBM_YEAR and CBM_PID; a missing part is the
    API's first example. For another parcel write e.g. `chosen["pid"] = "007"` after it.
    """
    address = dict(parse_qsl(os.environ.get("QUERY_STRING", "")))
    wanted = {
        name: address.get(name) or os.environ.get(f"CBM_{name.upper()}")
        for name in ("aoi", "year", "pid")
    }
    if all(wanted.values()):
        return wanted
    aois = query("info")["aois"]
    if not aois:
        raise _stop("The API has nothing for this user yet: request a grant (cbm-api users grant).")
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
