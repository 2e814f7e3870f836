"""Notebooks on a real host: who gets in, what a user's server may do, what outlives restarts."""

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.appliance.conftest import Appliance

PASSWORD = "a long word of our own"
USERS = ("test-ann", "test-ben")

VISITOR = Path(__file__).with_name("hub_visitor.py").read_text()


@dataclass(frozen=True)
class Hub:
    """The hub as its visitors meet it."""

    host: Host
    admin: str = field(repr=False)

    def do(self, expression: str, **values: Any) -> Any:
        """Evaluate an expression of VISITOR's names and of these values on the host."""
        call = json.dumps({"do": expression, **values})
        python = f"/opt/cbm/notebook/bin/python -c {shlex.quote(VISITOR)}"
        done = self.host.run(f"printf %s {shlex.quote(call)} | {python}")
        assert done.rc == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    def as_admin(self, expression: str, **values: Any) -> Any:
        """The same, with `admin` logged in."""
        login = "(admin := Visitor('admin', word)) and "
        return self.do(login + expression, word=self.admin, **values)

    def run(self, name: str, code: str, seconds: int = 60) -> Any:
        """Run code in a new kernel of a user."""
        visit = "Visitor(name, word).run(code, seconds)"
        return self.do(visit, name=name, word=PASSWORD, code=code, seconds=seconds)

    def printed(self, name: str, code: str) -> str:
        return str(self.run(name, code)["printed"]).strip()


def sign_up(hub: Hub, name: str) -> str:
    fields = {"username": name, "signup_password": PASSWORD}
    fields["signup_password_confirmation"] = PASSWORD
    return str(hub.do("Visitor().form('signup', **fields).text", fields=fields))


def gets_in(hub: Hub, name: str, word: str) -> bool:
    """Whether a name and a word lead to the hub's inside."""
    visit = "(v := Visitor(name, word)) and v.api('GET', 'user').status_code"
    return bool(hub.do(visit, name=name, word=word) == 200)


@pytest.fixture(scope="module")
def hub(appliance: Appliance) -> Iterator[Hub]:
    """The hub; what the tests made there is removed after them."""
    made = Hub(appliance.host("jupyterhub"), appliance.secret("jupyterhub_admin"))
    wait_for_health(made)
    forget(made)
    yield made
    forget(made)


def forget(hub: Hub) -> None:
    """Remove the tests' users with their homes."""
    for name in USERS:
        hub.host.run(f"systemctl stop jupyter-{name}")
        # An account that was never let in is none of the hub's users yet, and so made one first.
        hub.as_admin(
            "[admin.api(method, f'users/{name}').status_code for method in ('POST', 'DELETE')]",
            name=name,
        )
        hub.host.run(f"rm -rf /var/lib/private/jupyter-{name} /var/lib/jupyter-{name}")


@pytest.fixture(scope="module")
def users(hub: Hub) -> Hub:
    """The hub with two users who signed up, were let in and have a server."""
    for name in USERS:
        sign_up(hub, name)
        hub.as_admin("admin.http.get(f'{HUB}/authorize/{name}').status_code", name=name)
        seconds = hub.do("Visitor(name, word).start()", name=name, word=PASSWORD)
        print(f"server of {name}: {seconds:.1f} s")
    return hub


def test_signing_up_lets_nobody_in_until_the_administrator_does(hub: Hub) -> None:
    name = "test-ben"
    assert "has been sent to the admin" in sign_up(hub, name)
    assert not gets_in(hub, name, PASSWORD)
    let_in = "admin.http.get(f'{HUB}/authorize/{name}', headers=headers).status_code"
    assert hub.as_admin(let_in, name=name, headers={"Sec-Fetch-Site": "cross-site"}) == 403
    assert not gets_in(hub, name, PASSWORD)
    assert hub.as_admin(let_in, name=name, headers={"Sec-Fetch-Site": "same-origin"}) == 200
    assert gets_in(hub, name, PASSWORD)
    forget(hub)


def test_strangers_can_be_neither_administrator_nor_anyone_with_a_path_for_a_name(hub: Hub) -> None:
    assert "already in use" in sign_up(hub, "admin")
    assert not gets_in(hub, "admin", PASSWORD)
    for name in ("..", "a%h", "Ann;id", "x" * 40, "../cbm-hub"):
        assert "Something went wrong" in sign_up(hub, name), name


def test_the_administrator_has_the_operators_password(hub: Hub) -> None:
    assert gets_in(hub, "admin", hub.admin)
    assert not gets_in(hub, "admin", hub.admin[:-1])
    assert hub.as_admin("admin.api('GET', 'user').json()['admin']") is True


def test_each_user_runs_code_under_an_own_login(users: Hub) -> None:
    who = "import getpass, os; print(getpass.getuser(), os.getuid(), os.getcwd())"
    ann, ben = (users.printed(name, who).split() for name in USERS)
    assert ann[0] == "jupyter-test-ann"
    assert ann[2].endswith("/jupyter-test-ann")
    assert int(ann[1]) >= 1000
    assert ann[1] != ben[1]


def test_a_user_reads_neither_anothers_home_nor_processes_nor_our_secrets(users: Hub) -> None:
    users.printed("test-ben", "open('secret.txt', 'w').write('of ben')")
    ben = "/var/lib/private/jupyter-test-ben"
    assert users.host.file(f"{ben}/secret.txt").content_string == "of ben"
    pid = users.host.check_output("systemctl show --property MainPID --value jupyter-test-ben")
    forbidden = [
        f"{ben}/secret.txt",
        "/var/lib/jupyter-test-ben/secret.txt",
        f"/proc/{pid}/environ",
        "/run/jupyter-test-ben/jupyter-test-ben.env",
        "/etc/cbm/hub/hub.env",
        "/etc/cbm/pages/pages.env",
        "/var/lib/cbm-hub/jupyterhub.sqlite",
    ]
    assert all(users.host.file(path).exists for path in forbidden if "environ" not in path)
    code = (
        f"for path in {forbidden}:\n"
        "    try:\n        open(path, 'rb').read(); print('READ', path)\n"
        "    except OSError as error:\n        print(type(error).__name__)\n"
    )
    output = users.printed("test-ann", code).splitlines()
    assert len(output) == len(forbidden)
    assert set(output) <= {"PermissionError", "FileNotFoundError"}, output


def test_a_user_reaches_of_the_hosts_own_ports_only_the_hub_and_the_web(users: Hub) -> None:
    code = (
        "import socket\n"
        "for port in (80, 443, 8102, 8000, 8001, 8100, 8101, 8200, 9100):\n"
        "    host = socket.gethostname() if port < 1000 or port == 9100 else '127.0.0.1'\n"
        "    try:\n        socket.create_connection((host, port), 5); print(port)\n"
        "    except ConnectionRefusedError:\n        pass\n"
    )
    assert users.printed("test-ann", code).split() == ["80", "443", "8102"]


def test_a_user_writes_to_the_home_alone(users: Hub) -> None:
    code = (
        "import os, subprocess\n"
        "for place in ('/etc', '/opt/cbm/notebook', '/opt/cbm/share/examples', '/var/lib', '.'):\n"
        "    try:\n        open(place + '/probe', 'w').close(); print(place)\n"
        "    except OSError:\n        pass\n"
        "print(subprocess.run(['sudo', '-n', 'true'], capture_output=True).returncode != 0)\n"
    )
    assert users.printed("test-ann", code).split() == [".", "True"]


def test_more_memory_than_the_limit_ends_the_kernel_and_nothing_else(users: Hub) -> None:
    unit = "systemctl show --property MemoryMax --value jupyter-test-ann"
    limit = int(users.host.check_output(unit))
    greedy = f"x = b'x' * {limit + 2**28}; print('got it')"
    ended = users.run("test-ann", greedy, seconds=120)
    assert ended["died"] or "MemoryError" in ended["printed"], ended
    assert users.printed("test-ann", "print(1 + 1)") == "2"
    assert users.printed("test-ben", "print(1 + 1)") == "2"


def test_the_examples_are_in_the_home_and_what_the_user_made_of_them_stays(users: Hub) -> None:
    code = (
        "import os, pathlib\nfolder = pathlib.Path('examples')\n"
        "print(sorted(path.name for path in folder.iterdir()))\n"
        "print(oct((folder / '1_series.ipynb').stat().st_mode))"
    )
    printed = users.printed("test-ann", code)
    for name in ("1_series", "2_ndvi", "3_peers", "4_chips", "5_sql"):
        assert f"{name}.ipynb" in printed
    assert printed.endswith("0o100400")
    users.printed(
        "test-ann",
        "import os; os.chmod('examples/1_series.ipynb', 0o644); "
        "open('examples/1_series.ipynb', 'w').write('mine')",
    )
    visit = "(v := Visitor(name, word)) and (v.stop(), v.start())"
    users.do(visit, name="test-ann", word=PASSWORD)
    assert users.printed("test-ann", "print(open('examples/1_series.ipynb').read())") == "mine"


def test_notebooks_know_where_the_api_and_the_database_are_but_no_password(users: Hub) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    known = json.loads(users.printed("test-ann", code))
    assert known["CBM_API_URL"].startswith("https://")
    assert (known["PGUSER"], known["PGSSLMODE"]) == ("analyst", "verify-full")
    assert not {"PGPASSWORD", "CBM_API_PASSWORD", "CONFIGPROXY_AUTH_TOKEN"} & set(known)
    imports = (
        "import cbm, geopandas, matplotlib, pandas, psycopg2, pyarrow, rasterio, voila; print(1)"
    )
    assert users.printed("test-ann", imports).endswith("1")


def test_a_restart_of_the_hub_ends_no_server_and_keeps_the_homes(users: Hub) -> None:
    users.printed("test-ann", "open('kept.txt', 'w').write('kept')")
    main = "systemctl show --property MainPID --value jupyter-test-ann"
    before = users.host.check_output(main)
    users.host.check_output("systemctl restart cbm-hub-proxy cbm-hub")
    wait_for_health(users)
    assert users.host.check_output(main) == before
    assert users.printed("test-ann", "print(open('kept.txt').read())") == "kept"
    users.do("(v := Visitor(name, word)) and (v.stop(), v.start())", name="test-ann", word=PASSWORD)
    assert users.printed("test-ann", "print(open('kept.txt').read())") == "kept"


def wait_for_health(hub: Hub) -> None:
    end = time.monotonic() + 60
    while hub.host.run("curl -sf http://127.0.0.1:8100/jupyter/hub/health").rc != 0:
        assert time.monotonic() < end, "the hub does not come back"
        time.sleep(1)


def test_idle_servers_are_looked_for(hub: Hub) -> None:
    culler = hub.as_admin("admin.api('GET', 'services/culler').json()")
    assert culler["pid"] > 0
    assert hub.host.process.get(pid=culler["pid"]).user == "root"


def test_the_page_is_for_those_who_are_logged_in(users: Hub) -> None:
    stranger = users.do("requests.get(PAGES, allow_redirects=False).headers['Location']")
    assert stranger.startswith("/jupyter/hub/api/oauth2/authorize")
    nobody = users.do("requests.get(PAGES, headers={'Authorization': 'token x'}).url")
    assert "/pages/" not in nobody.split("?")[0]


def test_visitors_of_the_page_see_a_parcels_series(demo: Appliance, users: Hub) -> None:
    show = (
        "(key := {'Authorization': 'token ' + Visitor(name, word).token()}) and "
        "requests.get(PAGES, headers=key, timeout=120).text"
    )
    page = users.do(show, name="test-ann", word=PASSWORD)
    # What cells gave stands in it as JSON.
    for piece in (r"name=\"pid\" value=\"0", r"th\u003eB08\u003c/th", '"image/png": "iVBOR'):
        assert piece in page, page[-3000:]


def test_visitors_of_the_page_run_no_code(users: Hub) -> None:
    key = "key := {'Authorization': 'token ' + Visitor(name, word).token()}"
    show = f"({key}) and requests.get(PAGES, headers=key, timeout=120).text"
    page = users.do(show, name="test-ann", word=PASSWORD)
    assert "A parcel&#39;s series" in page or "A parcel's series" in page
    assert "cbm_api import" not in page, "the code is not shown"
    probe = (
        f"({key}) and (page := requests.get(PAGES, headers=key, timeout=120).text) and "
        "execute(f'{PAGES}api/kernels/{kernel_of(page)}/channels', key, code, 8)"
    )
    users.host.run("rm -f /var/lib/private/cbm-pages/probe")
    code = "print('ran'); open('/var/lib/cbm-pages/probe', 'w').close()"
    printed, _ = users.do(probe, name="test-ann", word=PASSWORD, code=code)
    assert "ran" not in (printed or "")
    assert not users.host.file("/var/lib/private/cbm-pages/probe").exists
    kernels = f"({key}) and requests.post(PAGES + 'api/kernels', headers=key).status_code"
    assert users.do(kernels, name="test-ann", word=PASSWORD) in (403, 404, 405)


@pytest.mark.parametrize("unit", ["cbm-hub-proxy", "cbm-pages"])
def test_what_strangers_reach_runs_without_privileges(hub: Hub, unit: str) -> None:
    pid = hub.host.check_output(f"systemctl show --property MainPID --value {unit}")
    status = hub.host.file(f"/proc/{pid}/status").content_string
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["Uid"].split()[0]) > 0
    assert int(fields["CapEff"], 16) == 0


def test_everything_listens_on_loopback_alone(hub: Hub) -> None:
    listening = hub.host.check_output("ss -Htln")
    places = [line.split()[3].rpartition(":") for line in listening.splitlines()]
    ours = {port: place for place, _, port in places if port in {"8100", "8101", "8102", "8200"}}
    assert set(ours) == {"8100", "8101", "8102", "8200"}
    assert set(ours.values()) == {"127.0.0.1"}
