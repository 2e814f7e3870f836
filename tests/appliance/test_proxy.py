"""The way in behaves: TLS, redirects, limits, what it says while nothing is up, what it keeps."""

import http.client
import ssl
import time
from pathlib import Path

import certifi
import pytest

from tests.appliance.conftest import Appliance, stopped
from tests.appliance.way_in import WayIn, requests_without_end

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def way(appliance: Appliance) -> WayIn:
    return WayIn.of(appliance)


def test_the_site_is_vouched_for_by_the_appliances_authority(way: WayIn) -> None:
    assert way.ask("/healthz").json == {"status": "alive"}


def test_who_trusts_only_the_worlds_authorities_is_warned(way: WayIn) -> None:
    stranger = WayIn(way.address, authority=Path(certifi.where()))
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.ask("/healthz")


def test_old_tls_is_refused(way: WayIn) -> None:
    context = ssl.create_default_context(cafile=str(way.authority))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    connection = http.client.HTTPSConnection(way.address, context=context, timeout=30)
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        connection.connect()


def test_plain_http_is_redirected_with_path_and_query(way: WayIn) -> None:
    answer = way.ask_plainly("/query/info?aoi=nl")
    assert answer.status == 308
    assert answer.headers["location"] == f"https://{way.address}/query/info?aoi=nl"


def test_browsers_are_told_to_stay_with_tls(way: WayIn) -> None:
    assert int(way.ask("/healthz").headers["strict-transport-security"][8:]) >= 365 * 86400


def test_headers_of_the_api_stand_once_and_name_no_server(way: WayIn) -> None:
    headers = way.ask("/healthz").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_answers_are_compressed(way: WayIn) -> None:
    plain = way.ask("/openapi.json")
    packed = way.ask("/openapi.json", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 3


def test_a_body_that_the_api_does_not_take_is_refused(way: WayIn) -> None:
    answer = way.ask("/login", "POST", b"x" * 2 * 2**20, Content_Type=FORM)
    assert answer.status == 413
    assert answer.json["error"] == "Request Entity Too Large"


def test_a_body_far_too_large_is_refused_by_its_length_alone(way: WayIn) -> None:
    connection = way.connection()
    connection.putrequest("POST", "/login")
    connection.putheader("Content-Type", FORM)
    connection.putheader("Content-Length", "12000000")
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_a_body_of_unknown_length_is_refused_too(way: WayIn) -> None:
    connection = way.connection()
    pieces = iter([b"x" * 2**20] * 12)
    connection.request("POST", "/login", pieces, {"Content-Type": FORM}, encode_chunked=True)
    assert connection.getresponse().status == 413


def test_large_bodies_do_not_make_the_instances_look_ill(way: WayIn) -> None:
    for _ in range(4):
        assert way.ask("/login", "POST", b"x" * 9 * 10**6, Content_Type=FORM).status == 413
    began = time.monotonic()
    assert way.ask("/readyz").status == 200
    assert time.monotonic() - began < 2


def test_nobody_says_for_whom_he_forwards(appliance: Appliance, way: WayIn) -> None:
    """Or the guard against guessing could be led astray, and the access log record any address."""
    mark = f"/query/info?mark={time.time_ns()}"
    way.ask(mark, X_Forwarded_For="192.0.2.77", X_Forwarded_Host="elsewhere.example")
    query = f"SELECT address FROM public.api_audit WHERE query = '{mark.partition('?')[2]}'"
    for _ in range(20):
        noted = appliance.sql(query)
        if noted:
            break
        time.sleep(1)
    assert noted
    assert noted != "192.0.2.77"


def test_the_access_log_has_the_request_but_no_credentials(
    appliance: Appliance, way: WayIn
) -> None:
    user = way.as_user("admin", "a-password-that-nobody-has")
    mark = time.time_ns()
    user.ask(
        f"/chips/0123456789abcdef/x/y.tif?mark={mark}&token=verysecret", Cookie="cbm_session=z1"
    )
    log = appliance.host("proxy").file("/var/log/caddy/access.log").content_string
    line = next(line for line in log.splitlines() if str(mark) in line)
    assert "/chips/-/x/y.tif" in line
    proof = user.headers["Authorization"].partition(" ")[2]
    for secret in (proof, "verysecret", "0123456789abcdef", "z1", "a-password-that-nobody-has"):
        assert secret not in line


def test_strangers_on_the_host_cannot_steer_it_nor_read_its_log(appliance: Appliance) -> None:
    host = appliance.host("proxy")
    socket = "curl -s --unix-socket /run/caddy/admin.sock http://127.0.0.1/config/"
    assert host.run(socket).rc == 0
    assert host.run(f"runuser -u nobody -- {socket}").rc == 7
    assert host.run("curl -s http://127.0.0.1:2019/config/").rc == 7
    assert host.run("runuser -u nobody -- cat /var/log/caddy/access.log").rc != 0


def test_past_the_proxy_only_its_own_user_and_root_come(appliance: Appliance) -> None:
    host = appliance.host("proxy")
    for port in (8000, 8001, 8100, 8200):
        ask = f"curl -s -o /dev/null http://127.0.0.1:{port}/"
        assert host.run(f"runuser -u nobody -- {ask}").rc == 7, port
        assert host.run(f"runuser -u caddy -- {ask}").rc == 0, port
    steer = "curl -s -o /dev/null http://127.0.0.1:8101/"
    assert host.run(f"runuser -u caddy -- {steer}").rc == 7
    code = "import socket; socket.create_connection(('127.0.0.1', 8001), 5)"
    knocked = host.run(f'docker exec cbm-api-8000 python3 -c "{code}"')
    assert "ConnectionRefusedError" in knocked.stderr


def test_only_the_web_and_ssh_are_open(appliance: Appliance) -> None:
    manager, address = appliance.host("registry"), WayIn.of(appliance).address
    for port in (80, 443):
        assert manager.addr(address).port(port).is_reachable
    for port in (2019, 8000, 8001, 8100, 8200):
        assert not manager.addr(address).port(port).is_reachable, port


def test_the_figures_of_each_instance_need_the_token(appliance: Appliance, way: WayIn) -> None:
    token = appliance.secret("api_metrics")
    for port in (8000, 8001):
        assert way.ask(f"/metrics/{port}").status == 403
        figures = way.ask(f"/metrics/{port}", Authorization=f"Bearer {token}")
        assert figures.status == 200
        assert b"cbm_database_up 1.0" in figures.body


@pytest.mark.full
def test_while_nothing_is_up_programs_get_json_and_people_a_page(
    appliance: Appliance, way: WayIn
) -> None:
    with stopped(appliance.host("api"), "cbm-api@8000", "cbm-api@8001"):
        program = way.ask("/query/info")
        person = way.ask("/", Accept="text/html")
    assert (program.status, person.status) == (503, 503)
    assert program.json["error"] == "Service Unavailable"
    assert int(program.headers["retry-after"]) > 0
    assert b"<h1>Back in a moment</h1>" in person.body
    assert way.ask("/readyz").status == 200


@pytest.mark.full
def test_a_new_certificate_is_served_at_once_and_no_connection_is_cut(
    appliance: Appliance, way: WayIn
) -> None:
    def serial() -> str:
        connection = way.connection()
        connection.connect()
        return str(connection.sock.getpeercert()["serialNumber"])  # type: ignore[index]

    before = serial()
    with requests_without_end(way, ("/healthz",), pause_s=1) as answers:
        appliance.play("rotate.yml", "-e", "rotate=certificates", "-e", "yes=true")
    assert serial() != before
    assert [answer for answer in answers if answer.status != 200] == []
