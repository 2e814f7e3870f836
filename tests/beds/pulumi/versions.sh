# shellcheck shell=bash
# The versions of Pulumi's tools, sourced by build and fetch: the command line's stands in cli/go.mod,
# the provider's is that of the pulumi_openstack which "$python" has (requirements/dev.lock).
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { echo "pulumi: $*" >&2; exit 1; }

python=$(command -v "${2:-python3}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") # absolute, but still the venv's
sdk=$("$python" -c 'import pathlib, pulumi_openstack as sdk; print(pathlib.Path(sdk.__file__).parent)') ||
	die "$python has no pulumi_openstack: run \`make setup\`"
provider=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1] + "/pulumi-plugin.json"))["version"])' "$sdk")
cli=$(sed -n 's#.*github.com/pulumi/pulumi/pkg/v3 v\([0-9.]*\).*#\1#p' "$here/cli/go.mod" | head -1)

prefix=${1:-/opt/pulumi}
export PATH=$prefix/bin:$PATH PULUMI_SKIP_UPDATE_CHECK=1
# shellcheck disable=SC2034 # for those that source this
plugin=${PULUMI_HOME:-$HOME/.pulumi}/plugins/resource-openstack-v$provider/pulumi-resource-openstack
has_cli() { [ "$("$prefix/bin/pulumi" version 2>/dev/null)" = "v$cli" ]; }
