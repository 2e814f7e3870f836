"""The Pulumi program: what `pulumi up` runs. One stack is one Member State's appliance."""

import pulumi
from pulumi.runtime import config

from infra import layout, preflight, recovery, settings, state
from infra.appliance import Appliance
from infra.cloud import connected
from infra.errors import InfraError


def main() -> None:
    """Refuse what cannot work, mend what an interrupted run left, then declare the resources."""
    name = pulumi.get_stack()
    try:
        wanted = settings.from_engine(name, config.get_config_env())
        known = state.read(name)
        with connected() as cloud:
            if not pulumi.runtime.is_dry_run():
                recovery.remove_half_made(cloud, name, known, pulumi.log.info)
            found = preflight.check(cloud, wanted)
    except InfraError as error:
        raise pulumi.RunError(str(error)) from error
    kept = {name: one for name, one in found.kept.items() if not known.has("Volume", name)}
    appliance = Appliance(wanted, layout.hosts(wanted), found, kept)
    pulumi.export("appliance", appliance.outputs(wanted))


main()
