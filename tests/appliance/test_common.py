"""Role common: who may come in, by which port and key, and under whose certificate."""

import json
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.appliance.conftest import ROOT, Appliance
from tests.beds.hosts.lab import CACHE, Lab

PORT = 4443
Converge = Callable[..., str]


@pytest.fixture(scope="module")
def pair(appliance: Appliance) -> tuple[Host, Host, str]:
    """Two hosts, and the first one's name: one serves, the other asks."""
    first, second = appliance.names("common")[:2]
    return appliance.named(first), appliance.named(second), first


@pytest.fixture(scope="module")
def converge(appliance: Appliance, tmp_path_factory: pytest.TempPathFactory) -> Converge:
    """Run the role, or one of its entry points, on every host."""
    folder = tmp_path_factory.mktemp("common")

    def run(*options: str, entry: str = "main") -> str:
        playbook = folder / f"{entry}.yml"
        playbook.write_text(
            textwrap.dedent(f"""\
            - hosts: common
              tasks:
                - ansible.builtin.import_role: {{name: common, tasks_from: {entry}}}
            """)
        )
        facts = f"@{ROOT / 'playbooks' / 'group_vars' / 'all.yml'}"
        return appliance.play(str(playbook), "--extra-vars", facts, *options)

    return run


def ssh(
    appliance: Appliance, name: str, user: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """Try to log in from this machine."""
    return subprocess.run(
        [
            "ssh",
            *("-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-i", str(CACHE / "id_ed25519"), *options),
            f"{user}@{appliance.variables(name)['cbm_address']}",
            "id -un",
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def service(host: Host, command: str) -> Iterator[None]:
    """A program that listens on the host while the block runs."""
    host.check_output(f"systemd-run --quiet --collect --unit=cbm-test {command}")
    try:
        host.check_output(
            f"timeout 10 sh -c 'until ss -Hltn sport = :{PORT} | grep -q .; do sleep 0.2; done'"
        )
        yield
    finally:
        host.run("systemctl stop cbm-test")


@contextmanager
def opened(host: Host) -> Iterator[None]:
    """The port, opened as a role would."""
    rules = "/etc/nftables.d/test.nft"
    host.check_output(f"echo 'ip saddr @members4 tcp dport {PORT} accept' >{rules}")
    host.check_output("systemctl reload nftables")
    try:
        yield
    finally:
        host.check_output(f"rm {rules} && systemctl reload nftables")


def reaches(host: Host, name: str) -> bool:
    """Whether a connection to the port comes about within three seconds."""
    return bool(host.run(f"timeout 3 bash -c '</dev/tcp/{name}/{PORT}'").rc == 0)


def test_the_operators_key_lets_in(appliance: Appliance) -> None:
    entered = ssh(appliance, appliance.names("common")[0], "debian")
    assert entered.stdout == "debian\n", entered.stderr


def test_a_password_is_not_even_asked_for(appliance: Appliance) -> None:
    for name in appliance.names("common"):
        refused = ssh(
            appliance,
            name,
            "debian",
            *(
                "-o",
                "PubkeyAuthentication=no",
                "-o",
                "BatchMode=no",
                "-o",
                "NumberOfPasswordPrompts=0",
            ),
        )
        assert refused.returncode == 255
        assert "Permission denied (publickey)." in refused.stderr


def test_root_is_refused_with_a_key_that_stands_in_its_file(appliance: Appliance) -> None:
    for name in appliance.names("common"):
        key = (CACHE / "id_ed25519.pub").read_text().split()[1]
        assert key in appliance.named(name).file("/root/.ssh/authorized_keys").content_string
        refused = ssh(appliance, name, "root")
        assert refused.returncode == 255
        assert "Permission denied (publickey)." in refused.stderr


@pytest.mark.parametrize(
    "weak",
    [
        "Ciphers=aes128-cbc,aes128-ctr",
        "MACs=hmac-sha1",
        "KexAlgorithms=diffie-hellman-group14-sha256",
    ],
)
def test_weak_algorithms_find_no_match(appliance: Appliance, weak: str) -> None:
    name = appliance.names("common")[0]
    options = ["-o", weak]
    if weak.startswith("MACs"):  # the modern ciphers need none
        options += ["-o", "Ciphers=aes256-ctr"]
    refused = ssh(appliance, name, "debian", *options)
    assert refused.returncode == 255
    assert "no matching" in refused.stderr


def test_a_port_is_closed_until_a_role_opens_it(pair: tuple[Host, Host, str]) -> None:
    server, client, name = pair
    with service(server, f"python3 -m http.server {PORT}"):
        assert not reaches(client, name)
        with opened(server):
            assert reaches(client, name)
        assert not reaches(client, name)


def test_ssh_is_open_between_members(pair: tuple[Host, Host, str]) -> None:
    _, client, name = pair
    assert client.run(f"timeout 3 bash -c '</dev/tcp/{name}/22'").rc == 0


def test_stopping_the_firewall_leaves_other_tables_alone(pair: tuple[Host, Host, str]) -> None:
    host = pair[0]
    host.check_output("nft add table inet neighbour")
    try:
        host.check_output("systemctl stop nftables")
        assert host.check_output("nft list tables").splitlines().count("table inet neighbour") == 1
        assert "table inet cbm\n" not in host.check_output("nft list tables") + "\n"
        host.check_output("systemctl start nftables && systemctl reload nftables")
        assert "policy drop" in host.check_output("nft list chain inet cbm input")
        assert "table inet neighbour" in host.check_output("nft list tables")
    finally:
        host.check_output("systemctl start nftables; nft delete table inet neighbour")


def test_every_member_is_known_by_its_name(appliance: Appliance) -> None:
    for host in appliance.hosts("common"):
        for name in appliance.names("common"):
            address = appliance.variables(name)["cbm_address"]
            assert host.check_output(f"getent ahostsv4 {name}").split()[0] == address


def test_the_certificate_is_trusted_by_name_from_another_host(pair: tuple[Host, Host, str]) -> None:
    server, client, name = pair
    tls = "/etc/cbm/tls/host"
    serve = f"openssl s_server -quiet -accept {PORT} -cert {tls}.crt -key {tls}.key"
    ask = f"openssl s_client -connect {name}:{PORT} -verify_return_error -brief -verify_hostname"
    with service(server, serve), opened(server):
        trusted = client.run(f"{ask} {name} </dev/null")
        assert trusted.rc == 0, trusted.stderr
        assert "Verification: OK" in trusted.stderr
        refused = client.run(f"{ask} another-name </dev/null")
        assert refused.rc != 0
        assert "hostname mismatch" in refused.stderr.lower()


def test_the_key_is_readable_by_its_group_alone_and_on_its_host_alone(appliance: Appliance) -> None:
    publics = set()
    for host in appliance.hosts("common"):
        key = host.file("/etc/cbm/tls/host.key")
        assert (key.user, key.group, key.mode) == ("root", "ssl-cert", 0o640)
        publics.add(host.check_output("openssl pkey -in /etc/cbm/tls/host.key -pubout"))
    assert len(publics) == len(appliance.names("common"))
    secrets = appliance.inventory.parent / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    kept = [path for path in secrets.iterdir() if "PRIVATE KEY" in path.read_text()]
    assert [(path.name, path.stat().st_mode & 0o777) for path in kept] == [("authority.key", 0o600)]


def test_a_certificate_lasts_825_days_at_most(appliance: Appliance) -> None:
    for host in appliance.hosts("common"):
        check = "openssl x509 -noout -in /etc/cbm/tls/host.crt -checkend"
        assert host.run(f"{check} {30 * 86400}").rc == 0
        assert host.run(f"{check} {825 * 86400 + 60}").rc == 1


@pytest.mark.full
def test_another_name_gives_another_certificate_for_the_same_key(
    appliance: Appliance, converge: Converge, pair: tuple[Host, Host, str]
) -> None:
    host = pair[0]
    before, key = certificate(host), host.file("/etc/cbm/tls/host.key").sha256sum
    converge("--tags", "certificate", "--extra-vars", "cbm_public_address=203.0.113.9")
    renamed = certificate(host)
    assert renamed != before
    assert "IP Address:203.0.113.9" in host.check_output(
        "openssl x509 -noout -ext subjectAltName -in /etc/cbm/tls/host.crt"
    )
    converge("--tags", "certificate")
    assert certificate(host) not in {before, renamed}
    assert host.file("/etc/cbm/tls/host.key").sha256sum == key


def test_a_certificate_near_its_end_is_renewed(
    converge: Converge, pair: tuple[Host, Host, str]
) -> None:
    before = certificate(pair[0])
    converge("--tags", "certificate", "--extra-vars", "common_certificate_renew_days=826")
    assert certificate(pair[0]) != before


@pytest.mark.full
def test_a_renewed_pair_belongs_together(converge: Converge, pair: tuple[Host, Host, str]) -> None:
    host = pair[0]
    key = host.file("/etc/cbm/tls/host.key").sha256sum
    converge(entry="renew")
    assert host.file("/etc/cbm/tls/host.key").sha256sum != key
    assert not host.file("/etc/cbm/tls/host.key.new").exists
    converge(entry="verify")


def test_a_run_that_would_be_locked_out_is_refused(
    appliance: Appliance, converge: Converge, pair: tuple[Host, Host, str]
) -> None:
    before = pair[0].check_output("nft list table inet cbm")
    with pytest.raises(AssertionError, match="is no member and in no network"):
        converge(
            "--tags", "ssh,firewall", "--extra-vars", '{"common_ssh_from": ["203.0.113.0/24"]}'
        )
    assert pair[0].check_output("nft list table inet cbm") == before


def test_operators_come_and_go(appliance: Appliance, converge: Converge, tmp_path: Path) -> None:
    name = appliance.names("common")[0]
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = (tmp_path / "key.pub").read_text().strip()
    alone = ("-o", "IdentitiesOnly=yes", "-i", str(key))

    def operators(state: str) -> None:
        converge(
            *("--limit", name, "--tags", "operators", "--extra-vars"),
            json.dumps({"common_operators": [{"name": "anna", "keys": [public], "state": state}]}),
        )

    operators("present")
    assert ssh(appliance, name, "anna", *alone).stdout == "anna\n"
    assert appliance.named(name).check_output("su anna -c 'sudo -n id -un'") == "root"
    operators("absent")
    assert ssh(appliance, name, "anna", *alone).returncode == 255
    assert not appliance.named(name).user("anna").exists


def test_security_updates_come_by_themselves_and_reboots_do_not(appliance: Appliance) -> None:
    for host in appliance.hosts("common")[:1]:
        planned = host.run("unattended-upgrade --dry-run --debug")
        assert planned.rc == 0, planned.stderr
        allowed = re.search(r"Allowed origins are: (.*)", planned.stdout + planned.stderr)
        assert allowed
        assert re.fullmatch(
            r"origin=Debian,codename=\w+-security,label=Debian-Security", allowed[1]
        )
        settings = host.check_output("apt-config dump")
        assert 'Unattended-Upgrade::Automatic-Reboot "false";' in settings
        assert 'APT::Periodic::Unattended-Upgrade "1";' in settings


def test_forwarding_is_left_to_docker(appliance: Appliance, converge: Converge) -> None:
    for host in appliance.hosts("docker"):
        host.check_output(
            "sysctl -q net.ipv4.ip_forward=1 && sysctl -q --load /etc/sysctl.d/60-cbm.conf"
        )
        assert host.check_output("sysctl -n net.ipv4.ip_forward") == "1"
        assert host.check_output("sysctl -n net.ipv4.conf.all.accept_redirects") == "0"


@pytest.mark.full
def test_verify_finds_a_lenient_sshd(converge: Converge, pair: tuple[Host, Host, str]) -> None:
    host = pair[0]
    lenient = "/etc/ssh/sshd_config.d/0-lenient.conf"
    host.check_output(f"echo 'PasswordAuthentication yes' >{lenient}")
    try:
        with pytest.raises(AssertionError, match="passwordauthentication no"):
            converge(entry="verify")
    finally:
        host.check_output(f"rm {lenient}")
    converge(entry="verify")


def certificate(host: Host) -> str:
    """The certificate's fingerprint."""
    return str(host.file("/etc/cbm/tls/host.crt").sha256sum)


def hardening(host: Host) -> int:
    """The index that lynis gives a host; its package is removed again."""
    host.check_output("apt-get -qq update && apt-get -qq install --no-install-recommends -y lynis")
    try:
        report = host.check_output("nice lynis audit system --quick --no-colors --no-log --cronjob")
    finally:
        host.check_output("apt-get -qq purge -y lynis")
    return int(re.search(r"Hardening index : (\d+)", report)[1])  # type: ignore[index]


@pytest.mark.full
def test_the_hardening_index_rises(
    appliance: Appliance, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = Lab("bare", "10.77.90")
    bare.up("db")
    try:
        before = hardening(Appliance(bare.inventory).host("common"))
    finally:
        bare.down()
    after = {name: hardening(appliance.named(name)) for name in appliance.names("common")}
    with capsys.disabled():
        print(f"\nhardening index by lynis: {before} on a bare host; {after}")
    assert min(after.values()) >= before + 5


@pytest.mark.parametrize(
    ("group", "unit"),
    [
        ("backup", "cbm-backup@full"),
        ("backup", "cbm-backup@incr"),
        ("backup", "cbm-drill"),
        ("postgis", "cbm-cancel-analysts"),
        ("registry", "cbm-registry-push"),
        ("registry", "cbm-registry-retire"),
        ("common", "cbm-metrics@certificates"),
    ],
)
def test_units_of_ours_are_confined(appliance: Appliance, group: str, unit: str) -> None:
    """By systemd's own measure: 10 is all open, 9.6 a unit without any setting."""
    printed = appliance.host(group).check_output(
        f"systemd-analyze security --no-pager {unit}.service"
    )
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", printed)
    assert exposure, printed[-500:]
    assert float(exposure[1]) < 5, printed
