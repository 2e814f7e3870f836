"""The Pulumi program: what `pulumi up` runs. One stack is one Member State's appliance."""

import pulumi
from pulumi.runtime import config

from infra import layout, preflight, recovery, settings, state
from infra.appliance import Appliance
from infra.cloud import connected, survey
from infra.errors import InfraError


def main() -> None:
    """Refuse what cannot work, mend what an interrupted run left, then declare the resources."""
    name = pulumi.get_stack()
    try:
        wanted = settings.from_engine(name, config.get_config_env())
        known = state.read(name)
        with connected() as cloud:
            things = survey(cloud)
            if not pulumi.runtime.is_dry_run() and recovery.remove_orphans(
                cloud, name, things, known, pulumi.log.info
            ):
                things = survey(cloud)
            found = preflight.check(cloud, wanted, things, known)
    except InfraError as error:
        raise pulumi.RunError(str(error)) from error
    appliance = Appliance(wanted, layout.hosts(wanted), found)
    pulumi.export("appliance", appliance.outputs(wanted))


main()
