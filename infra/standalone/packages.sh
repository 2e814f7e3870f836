#!/usr/bin/env bash
# Installs the distribution packages the standalone machine needs, if one is missing:
#   packages.sh PYTHON [PROGRAM ...]
# Further programs are packages of the same name, such as npm, chromium and prometheus (whose promtool
# the tests need: its server stays off).
# PostgreSQL comes without its usual system cluster: ours is private, in a folder of the project.
set -euo pipefail

python=$1
shift

refuse() {
    echo "$*" >&2
    exit 1
}

# As infra/standalone/cluster.py finds them.
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
    command -v "$program" >/dev/null || missing+=("$program")
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
no_cluster=/etc/postgresql-common/createcluster.d/cbm-standalone.conf
"${as_root[@]}" mkdir -p "$(dirname "$no_cluster")"
echo 'create_main_cluster = false' | "${as_root[@]}" tee "$no_cluster" >/dev/null
trap '"${as_root[@]}" rm -f "$no_cluster"' EXIT
case " ${missing[*]} " in *" prometheus "*)
    "${as_root[@]}" mkdir -p /etc/systemd/system
    "${as_root[@]}" ln -sfn /dev/null /etc/systemd/system/prometheus.service
    ;;
esac
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null ||
    refuse "apt-get could not install ${missing[*]}: see what it said above."
