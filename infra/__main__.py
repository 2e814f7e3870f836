"""The Pulumi program, run by `pulumi up`. A stack is the appliance of a Member State."""

import pulumi
from pulumi.runtime import config

from infra import layout, preflight, recovery, settings, state
from infra.appliance import Appliance
from infra.cloud import connect, list_resources
from infra.errors import InfraError


def main() -> None:
    """Check the configuration, clean up after an interrupted run, then declare the resources."""
    stack = pulumi.get_stack()
    try:
        configured = settings.from_engine(stack, config.get_config_env())
        recorded = state.read(stack)
        with connect() as cloud:
            resources = list_resources(cloud)
            if not pulumi.runtime.is_dry_run() and recovery.remove_orphans(
                cloud, stack, resources, recorded, pulumi.log.info
            ):
                resources = list_resources(cloud)
            lookup = preflight.check(cloud, configured, resources, recorded)
    except InfraError as error:
        raise pulumi.RunError(str(error)) from error
    for remark in lookup.remarks:
        pulumi.log.warn(remark)
    appliance = Appliance(configured, layout.hosts(configured), lookup)
    pulumi.export("appliance", appliance.outputs(configured))


main()
