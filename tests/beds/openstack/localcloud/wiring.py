"""Cables and disks for the servers that are system containers, as neutron's database says.

  wiring.py        run: every second, and at once when someone connects to run/wiring.sock, which is
                   closed when all is done
  wiring.py down   power every server off, take all cables and disks away
  wiring.py wipe   the servers too

A network is a network namespace (net-...) with a bridge in it, so that two projects may use the
same addresses; security groups are nftables rules there. A router is a namespace (rtr-...);
floating IPs are addresses and NAT rules in it. A flat (provider) network also has a cable to this
machine, which is its gateway and routes nothing further. IPv4 only.

What should be is a dict, resource -> (shell script that makes it, shell script that takes it away);
what differs is redone.
"""

import http.client
import ipaddress
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections import defaultdict
from pathlib import Path

import pymysql

HOME = Path(os.environ["OPENSTACK_HOME"])
SERVERS, SOCKET, LABEL = HOME / "state/hosts/servers", HOME / "run/wiring.sock", "lab=openstack"
TABLES = {  # what of neutron's database matters here
    "networks": "SELECT n.id, n.mtu, s.network_type FROM networks n"
    " JOIN networksegments s ON s.network_id = n.id",
    "subnets": "SELECT id, network_id, cidr, gateway_ip FROM subnets WHERE ip_version = 4",
    "hostroutes": "SELECT subnet_id, destination, nexthop FROM subnetroutes ORDER BY 1, 2, 3",
    "ports": "SELECT p.id, p.network_id, p.mac_address, p.device_id, p.device_owner,"
    " s.port_security_enabled FROM ports p"
    " LEFT JOIN portsecuritybindings s ON s.port_id = p.id ORDER BY p.id",
    "addresses": "SELECT port_id, ip_address, subnet_id FROM ipallocations ORDER BY 1, 2",
    "pairs": "SELECT port_id, ip_address FROM allowedaddresspairs ORDER BY 1, 2",
    "members": "SELECT security_group_id, port_id FROM securitygroupportbindings ORDER BY 1, 2",
    "rules": "SELECT security_group_id, direction, protocol, port_range_min, port_range_max,"
    " remote_ip_prefix, remote_group_id FROM securitygrouprules"
    " WHERE ethertype = 'IPv4' ORDER BY id",
    "routers": "SELECT id, gw_port_id, enable_snat FROM routers",
    "routes": "SELECT router_id, destination, nexthop FROM routerroutes ORDER BY 1, 2, 3",
    "fips": "SELECT router_id, floating_ip_address, fixed_ip_address FROM floatingips"
    " WHERE fixed_port_id IS NOT NULL ORDER BY 2",
}
PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ospf": 89,
    "vrrp": 112,
    "sctp": 132,
}


def sh(script, options="-ec"):
    return subprocess.run(
        ["sh", options, script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


# ---- what there is -----------------------------------------------------------------------------
def docker(method, path):
    """Docker's answer, over its socket; some are empty."""
    client = http.client.HTTPConnection("docker")
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.connect("/var/run/docker.sock")
    client.request(method, path)
    answer = client.getresponse().read()
    return json.loads(answer) if answer else None


def containers():
    listed = docker("GET", f'/containers/json?all=1&filters={{"label":["{LABEL}"]}}')
    return {c["Names"][0][1:]: c for c in listed}


def running():
    """Server -> pid of its systemd; one that rebooted itself is started again."""
    pids = {}
    for name, container in containers().items():
        # systemd left by SIGHUP, which is how the kernel reports a reboot
        if container["Status"].startswith("Exited (129)"):
            docker("POST", f"/containers/{name}/start")
        elif container["State"] != "running":
            continue
        if pid := docker("GET", f"/containers/{name}/json")["State"].get("Pid"):
            pids[name] = pid
    return pids


class Database:
    """Neutron's tables, over one connection that is opened again when it broke."""

    def __init__(self):
        self._connection = None

    def read(self):
        try:
            return {name: self._rows(query) for name, query in TABLES.items()}
        except pymysql.Error:
            self._connection = None
            raise

    def _rows(self, query):
        if self._connection is None:
            self._connection = pymysql.connect(
                unix_socket=str(HOME / "run/mysqld.sock"),
                user="root",
                database="neutron",
                autocommit=True,
            )
        cursor = self._connection.cursor()
        cursor.execute(query)
        return cursor.fetchall()


# ---- what there should be ----------------------------------------------------------------------
def by(rows, key=0):
    """The rows, gathered by one of their columns."""
    out = defaultdict(list)
    for row in rows:
        out[row[key]].append(row)
    return out


def namespace(network):
    return f"net-{network[:8]}"


class Cloud:
    """One reading of neutron's database, the servers' own files and the running containers."""

    def __init__(self, db, servers, pids):
        self.servers, self.pids = servers, pids
        self.networks = {n[0]: n for n in db["networks"]}
        self.subnets = {s[0]: s for s in db["subnets"]}
        self.ports = {p[0]: p for p in db["ports"]}
        self.ports_of_network, self.ports_of_device = by(db["ports"], 1), by(db["ports"], 3)
        self.addresses, self.pairs = by(db["addresses"]), by(db["pairs"])
        self.hostroutes, self.routes, self.fips = (
            by(db[name]) for name in ("hostroutes", "routes", "fips")
        )
        self.groups_of_port, self.members = by(db["members"], 1), by(db["members"])
        self.rules = by(db["rules"])
        self.plugged = {
            port: (server, name)
            for server, report in servers.items()
            for port, name in report["ports"].items()
            if port in self.ports
        }
        nets, routers = self._reach()
        self.nets = sorted(nets & self.networks.keys())
        self.routers = [r for r in db["routers"] if r[0] in routers]

    def _reach(self):
        """Networks with a server, the flat ones, their routers, and what these lead to."""
        nets = {self.ports[p][1] for p in self.plugged}
        nets |= {n for n in self.networks if self.flat(n)}
        routers = set()
        while True:
            more = {
                p[3]
                for n in nets
                for p in self.ports_of_network[n]
                if p[4].startswith("network:router_interface")
            } - routers
            if not more:
                return nets, routers
            routers |= more
            nets |= {p[1] for r in more for p in self.ports_of_device[r]}

    def flat(self, network):
        return self.networks[network][2] == "flat"

    def mtu(self, port):
        return self.networks[self.ports[port][1]][1]

    def cidrs(self, port):
        """Address with prefix length, gateway and subnet of each address of a port."""
        for _, address, subnet in self.addresses[port]:
            if subnet in self.subnets:
                _, _, cidr, gateway = self.subnets[subnet]
                yield f"{address}/{ipaddress.ip_network(cidr).prefixlen}", gateway, subnet

    def own(self, port):
        """Every IPv4 address that a port may use."""
        rows = self.addresses[port] + self.pairs[port]
        return [row[1] for row in rows if ":" not in row[1]]

    def resources(self):
        """All that should be: resource -> (script that makes it, script that takes it away)."""
        resources = {}
        for network in self.nets:
            resources.update(self._network(network))
        for router, gateway_port, snat in self.routers:
            resources.update(self._router(router, gateway_port))
            resources.update(self._routing(router, gateway_port, snat))
        for network in self.nets:
            resources["security groups", network] = (
                nft(namespace(network), "inet", self._filter(network)),
                "",
            )
        for port, (server, name) in self.plugged.items():
            if server in self.pids:
                pid = self.pids[server]
                resources["interface", pid, port] = self._interface(port, pid, name)
        resources.update(self._disks())
        resources.update({("ready", pid): (ready(pid), "") for pid in self.pids.values()})
        return resources

    def _network(self, network):
        ns, cable = namespace(network), f"lc-{network[:8]}"
        up = f"""ip netns add {ns}; ip -n {ns} link set lo up
            ip -n {ns} link add br0 type bridge forward_delay 0; ip -n {ns} link set br0 up
            ip netns exec {ns} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 \
                net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
            """
        down = f"ip netns del {ns}"
        if not self.flat(network):
            yield ("network", network), (up, down)
            return
        shut = f"FORWARD -i {cable} ! -o {cable} -j REJECT"
        up += f"""ip link add {cable} mtu {self.networks[network][1]} type veth \
                peer name uplink netns {ns}
            ip -n {ns} link set uplink master br0 up; ip link set {cable} up
            iptables -w -I {shut}
            """
        yield ("network", network), (up, f"iptables -w -D {shut}; ip link del {cable}; {down}")
        yield from self._gateways(network, cable)

    def _gateways(self, network, cable):
        """This machine's addresses in a flat network, where no port has them."""
        taken = {a[1] for p in self.ports_of_network[network] for a in self.addresses[p[0]]}
        for _, of, cidr, gateway in self.subnets.values():
            if of == network and gateway and gateway not in taken:
                address = f"{gateway}/{cidr.split('/')[1]} dev {cable}"
                yield (
                    ("gateway", network, gateway),
                    (f"ip addr add {address}", f"ip addr del {address}"),
                )

    def _router(self, router, gateway_port):
        ns = f"rtr-{router[:8]}"
        up = f"""ip netns add {ns}; ip -n {ns} link set lo up
            ip netns exec {ns} sysctl -qw net.ipv4.ip_forward=1"""
        yield ("router", router), (up, f"ip netns del {ns}")
        for port in self.ports_of_device[router]:
            yield ("router port", port[0]), self._router_port(ns, port, port[0] == gateway_port)

    def _routing(self, router, gateway_port, snat):
        ns = f"rtr-{router[:8]}"
        for _, to, via in self.routes[router]:
            yield (
                ("route", router, to, via),
                (
                    f"ip -n {ns} route add {to} via {via}",
                    f"ip -n {ns} route del {to} via {via}",
                ),
            )
        gateway = f"r{gateway_port[:11]}" if gateway_port else ""
        forget = (
            "for d in $(ip -o link | grep -oE '\\blc-[0-9a-f]+'); do "
            "ip neigh del {} dev $d 2>/dev/null || true; done"
        )
        for _, floating, _ in self.fips[router]:
            address = f"{floating}/32 dev {gateway}; {forget.format(floating)}"
            yield (
                ("floating ip", router, floating),
                (f"ip -n {ns} addr add {address}", f"ip -n {ns} addr del {address}"),
            )
        out = next((a[1] for a in self.addresses[gateway_port]), None) if snat else None
        yield ("nat", router), (nft(ns, "ip", self._nat(router, gateway, out)), "")

    def _router_port(self, ns, port, to_outside):
        net, name, mtu = namespace(port[1]), port[0][:11], self.mtu(port[0])
        up = f"""ip -n {net} link add p{name} mtu {mtu} type veth peer name r{name} netns {ns}
            ip -n {net} link set p{name} master br0 up
            ip -n {ns} link set r{name} address {port[2]} mtu {mtu} up
            """
        for cidr, gateway, _ in self.cidrs(port[0]):
            up += f"ip -n {ns} addr add {cidr} dev r{name}\n"
            if to_outside and gateway:
                up += f"ip -n {ns} route replace default via {gateway}\n"
        return up, f"ip -n {net} link del p{name}"

    def _nat(self, router, gateway, out):
        """Chains of a router's floating IPs and, with an address to go out by, of all others."""
        fips = self.fips[router]
        pre = [f"ip daddr {floating} dnat to {fixed}" for _, floating, fixed in fips]
        post = [
            f"oifname {gateway} ip saddr {fixed} snat to {floating}" for _, floating, fixed in fips
        ]
        if out:
            inside = f"iifname != {gateway}"
            post += [
                f"oifname {gateway} snat to {out}",
                f"ct status dnat ct direction original ip saddr != {out} {inside} snat to {out}",
            ]
        return "\n".join(
            [
                "chain pre { type nat hook prerouting priority dstnat",
                *pre,
                "}",
                "chain post { type nat hook postrouting priority srcnat",
                *post,
                "}",
            ]
        )

    def _filter(self, network):
        """Security groups: per port a chain for what comes in and one for what goes out."""
        chains, jumps = "", {"saddr": [], "daddr": []}
        for port, *_, secured in self.ports_of_network[network]:
            if port not in self.plugged or not secured:
                continue
            for direction, field in (("egress", "saddr"), ("ingress", "daddr")):
                lines = [*(f"{rule}return" for rule in self._allowed(port, direction)), "drop"]
                chains += "\n".join([f"chain {direction}-{port} {{", *lines, "}", ""])
                jumps[field] += [f"{a} : jump {direction}-{port}" for a in self.own(port)]
        maps = "\n".join(f"ip {f} vmap {{ {', '.join(to)} }}" for f, to in jumps.items() if to)
        return f"""{chains}
            chain forward {{ type filter hook forward priority 0
            meta nfproto ipv6 drop
            ct state established,related accept
            {maps}
            }}"""

    def _allowed(self, port, direction):
        field = "saddr" if direction == "ingress" else "daddr"
        for group in sorted(m[0] for m in self.groups_of_port[port]):
            for _, way, protocol, low, high, prefix, remote in self.rules[group]:
                if way != direction:
                    continue
                sources = self._members(remote) if remote else prefix
                if remote and not sources:
                    continue
                open_to_all = sources in (None, "0.0.0.0/0")
                yield ("" if open_to_all else f"ip {field} {sources} ") + match(protocol, low, high)

    def _members(self, group):
        """The addresses of a group's members as a set of nftables, or nothing."""
        addresses = sorted({a for m in self.members[group] for a in self.own(m[1])})
        return f"{{ {', '.join(addresses)} }}" if addresses else ""

    def _interface(self, port, pid, name):
        net, cable, mtu = namespace(self.ports[port][1]), port[:11], self.mtu(port)
        metric = 0 if name == "eth0" else 100 + int(name[3:])
        up = f"""ip -n {net} link add p{cable} mtu {mtu} type veth peer name {name} \
                address {self.ports[port][2]} mtu {mtu} netns {pid}
            ip -n {net} link set p{cable} master br0 up
            nsenter -t {pid} -n sh -ec '
            ip link set lo up; ip link set {name} up
            """
        for cidr, gateway, subnet in self.cidrs(port):
            up += f"ip addr add {cidr} brd + dev {name}\n"
            if gateway:
                up += f"ip route replace default via {gateway} dev {name} metric {metric}\n"
            for _, to, via in self.hostroutes[subnet]:
                up += f"ip route replace {to} via {via} dev {name}\n"
        return up + "'", f"ip -n {net} link del p{cable}"

    def _disks(self):
        for server, report in self.servers.items():
            for device, (volume, path) in report["disks"].items():
                if server in self.pids:
                    pid = self.pids[server]
                    yield ("disk", pid, device), disk(pid, device, volume, path)


def match(protocol, low, high):
    """What a rule asks of a packet besides its address."""
    if protocol in (None, "0", "any"):
        return ""
    number = PROTOCOLS.get(protocol, protocol)
    text = f"meta l4proto {number} "
    if low is None:
        return text
    if number != 1:
        return f"{text}th dport {low}-{high} "
    return f"{text}icmp type {low} " + ("" if high is None else f"icmp code {high} ")


def nft(ns, family, text):
    """Replaces the one table of a namespace in one step."""
    return (
        f"ip netns exec {ns} nft -f - <<'END'\n"
        f"table {family} lc\ndelete table {family} lc\ntable {family} lc {{\n{text}\n}}\nEND"
    )


def ready(pid):
    """Lets the container go on to start systemd: its cables and disks are there."""
    return f"touch /proc/{pid}/root/run/lab-ready"


def disk(pid, device, volume, path):
    """A volume's file as a loop device, under the names it would have in a virtual machine."""
    root, link = f"/proc/{pid}/root", f"dev/disk/by-id/virtio-{volume[:20]}"
    loop = f"losetup -nO NAME -j {path}"
    up = f"""loop=$({loop}); [ -n "$loop" ] || loop=$(losetup -f --show {path})
        mkdir -p {root}/dev/disk/by-id; rm -f {root}{device}
        mknod -m 660 {root}{device} b $(stat -c '0x%t 0x%T' $loop)
        chgrp 6 {root}{device}; ln -sfn ../..{device[4:]} {root}/{link}"""
    down = f"""if [ -e {root}{device} ] &&
          grep -q " $(stat -Lc '%Hr:%Lr' {root}{device}) " /proc/{pid}/mountinfo; then
          nsenter -t {pid} -m -p umount -A {device} || exit 1
        fi
        loop=$({loop}); [ -z "$loop" ] || losetup -d $loop
        for i in 1 2 3 4 5 6 7 8 9; do [ -n "$({loop})" ] || break; sleep 0.1; done
        [ -z "$({loop})" ] || exit 1
        rm -f {root}{device} {root}/{link}"""
    return up, down


# ---- make it so --------------------------------------------------------------------------------
class Wiring:
    """What was made so far, kept equal to what should be."""

    def __init__(self):
        self._database = Database()
        self._made, self._seen, self._said = {}, None, set()

    def sync(self):
        pids = running()
        servers = {f.stem: json.loads(f.read_text()) for f in SERVERS.glob("*.json")}
        seen = pids, servers, self._database.read()
        if seen == self._seen:
            return
        resources = Cloud(seen[2], servers, pids).resources()
        failed = self._take_away(resources) | self._make(resources)
        for text in failed - self._said:
            print(text, flush=True)  # "No such process", "No such file": the server went meanwhile
        self._said = failed
        self._seen = None if failed else seen  # try again, or rest until something changes

    def _take_away(self, resources):
        failed = set()
        for key, (up, down) in reversed(list(self._made.items())):
            if resources.get(key) == (up, down) or (key in resources and not down):
                continue
            done = sh(down, "-c")
            if done.returncode and key[0] == "disk" and Path(f"/proc/{key[1]}").exists():
                failed.add(f"{key}: busy")  # someone in the server has it open: it stays
            else:
                del self._made[key]
        return failed

    def _make(self, resources):
        failed = set()
        for key, (up, down) in resources.items():
            if self._made.get(key) == (up, down) or (key[0] == "disk" and key in self._made):
                continue
            done = sh(up)
            if done.returncode:
                failed.add(f"{key}: {done.stderr}{up}")
                sh(down, "-c")
            else:
                self._made[key] = up, down
        return failed


def tidy():
    """Take away what an earlier run left."""
    listed = sh("ip netns list; ip -o link").stdout
    for word in set(listed.replace("@", " ").replace(":", " ").split()):
        if word.startswith(("net-", "rtr-")):
            sh(f"ip netns del {word}")
        elif word.startswith("lc-"):
            shut = f"FORWARD -i {word} ! -o {word} -j REJECT"
            sh(f"while iptables -w -D {shut}; do :; done; ip link del {word}", "-c")


def loops():
    """Give back the loop devices of volumes that no server uses."""
    folder = HOME / "state/cinder/volumes"
    listed = subprocess.check_output(["losetup", "-nO", "NAME,BACK-FILE"], text=True)
    for name, file in (line.split(None, 1) for line in listed.splitlines()):
        if file.startswith(f"{folder}/"):
            sh(f"losetup -d {name}")


def end(verb):
    """Power the servers off (`down`) or remove them (`wipe`), with cables and disks."""
    try:
        names = list(containers())
    except OSError:  # no Docker, no containers
        names = []
    if names:
        sh(f"docker stop -t 20 {' '.join(names)}")
    if names and verb == "wipe":
        sh(f"docker rm -fv {' '.join(names)}")
    tidy()
    loops()


def listening():
    SERVERS.mkdir(parents=True, exist_ok=True)
    SOCKET.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(SOCKET))
    listener.listen(50)
    return listener


def serve():
    listener, wiring = listening(), Wiring()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    tidy()
    print("ready", flush=True)
    while True:
        caller = listener.accept()[0] if select.select([listener], [], [], 1)[0] else None
        try:
            wiring.sync()
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
        if caller:
            caller.close()


if __name__ == "__main__":
    if sys.argv[1:] in (["down"], ["wipe"]):
        end(sys.argv[1])
    else:
        serve()
