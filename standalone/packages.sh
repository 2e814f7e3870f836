#!/usr/bin/env bash
# Installs the distribution packages the standalone machine needs, if one is missing:
#   packages.sh PYTHON [PROGRAM ...]
# Further programs are packages of the same name, such as npm, chromium and prometheus (whose promtool
# the tests need: its server stays off until somebody enables it); ogr2ogr is in gdal-bin.
# PostgreSQL comes without its usual system cluster: ours is private, in a folder of the project.
set -euo pipefail

python=$1
shift

refuse() {
    echo "$*" >&2
    exit 1
}

# As standalone/cluster.py finds them.
has_postgis() {
    local control version
    for control in /usr/share/postgresql/*/extension/postgis.control; do
        version=${control#/usr/share/postgresql/}
        test -x "/usr/lib/postgresql/${version%%/*}/bin/initdb" && return
    done
    command -v pg_config >/dev/null && test -e "$(pg_config --sharedir)/extension/postgis.control"
}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null ||
    refuse "Python 3.11, 3.12 or 3.13 is needed: install it, or name it (make PYTHON=python3.12 ...)."

missing=()
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
has_postgis || missing+=(postgresql postgresql-postgis)
command -v psql >/dev/null || missing+=(postgresql-client)
command -v curl >/dev/null || missing+=(curl)
for program in "$@"; do
    command -v "$program" >/dev/null || missing+=("${program/#ogr2ogr/gdal-bin}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null ||
    refuse "Missing: ${missing[*]}. Only Debian and Ubuntu are installed by this script: install them yourself."
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        refuse "Missing: ${missing[*]}. There is no sudo here: have root run 'apt-get install ${missing[*]}'."
    sudo true ||
        refuse "Missing: ${missing[*]}. sudo is refused: have root run 'apt-get install ${missing[*]}'."
    as_root=(sudo)
fi

echo "Installing ${missing[*]} ..."
undo=()
trap '[ ${#undo[@]} -eq 0 ] || "${as_root[@]}" rm -f "${undo[@]}"' EXIT

# write FILE TEXT: as root; removed at the end.
write() {
    "${as_root[@]}" mkdir -p "$(dirname "$1")"
    printf '%s\n' "$2" | "${as_root[@]}" tee "$1" >/dev/null
    undo+=("$1")
}

# A machine updates itself in its first minutes: until that is done apt's locks are held.
apt() {
    local messages waited=0
    until messages=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" 2>&1 >/dev/null); do
        case $messages in
        *"Could not get lock"* | *"Unable to acquire the dpkg frontend lock"* | *"Unable to lock directory"*) ;;
        *) refuse "$messages" ;;
        esac
        [ "$waited" -lt 900 ] ||
            refuse "apt is still in use by another program after 15 minutes: $messages"
        [ "$waited" -gt 0 ] || echo "apt is in use by another program: waiting for it (15 minutes at most) ..."
        sleep 5
        waited=$((waited + 5))
    done
}

case " ${missing[*]} " in *" postgresql "*)
    write /etc/postgresql-common/createcluster.d/cbm-standalone.conf 'create_main_cluster = false'
    ;;
esac
stays_off=
case " ${missing[*]} " in *" prometheus "*)
    stays_off=prometheus
    test -e /usr/sbin/policy-rc.d || {
        write /usr/sbin/policy-rc.d $'#!/bin/sh\nexit 101'
        "${as_root[@]}" chmod 755 /usr/sbin/policy-rc.d
    }
    ;;
esac
apt update
apt install -y --no-install-recommends "${missing[@]}"
# Not started by its package, nor at the next boot; whoever wants it may enable it.
if [ -n "$stays_off" ] && command -v systemctl >/dev/null; then
    "${as_root[@]}" systemctl disable --quiet "$stays_off" 2>/dev/null || true
fi
