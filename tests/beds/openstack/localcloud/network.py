"""Neutron back ends for a cloud without a data plane.

Every API rule, quota and status change is neutron's own; only the last step, in which an agent
on a host would plug the port and report it up, is done here at once.
"""

from neutron.services.l3_router import l3_router_plugin
from neutron_lib import constants as n
from neutron_lib.api.definitions import portbindings
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.plugins import directory
from neutron_lib.plugins.ml2 import api

ROUTER_PORTS = (n.DEVICE_OWNER_ROUTER_INTF, n.DEVICE_OWNER_ROUTER_GW)


class MechanismDriver(api.MechanismDriver):
    """Binds any port on any host, and the port is ACTIVE from then on."""

    def initialize(self):
        pass

    def bind_port(self, context):
        segment = context.segments_to_bind[0]
        context.set_binding(
            segment[api.ID],
            portbindings.VIF_TYPE_OVS,
            {portbindings.CAP_PORT_FILTER: True},
            status=n.PORT_STATUS_ACTIVE,
        )


@registry.has_registry_receivers
class L3Plugin(l3_router_plugin.L3RouterPlugin):
    """The stock router plugin; what its L3 agent would report is reported here."""

    @registry.receives(resources.PORT, [events.AFTER_CREATE, events.AFTER_UPDATE])
    def _router_port_up(self, resource, event, trigger, payload):
        port = payload.latest_state
        if port["device_owner"] in ROUTER_PORTS and port["status"] == n.PORT_STATUS_DOWN:
            directory.get_plugin().update_port_status(
                payload.context.elevated(), port["id"], n.PORT_STATUS_ACTIVE
            )

    def _fip_status(self, context, fip):
        status = n.FLOATINGIP_STATUS_ACTIVE if fip["port_id"] else n.FLOATINGIP_STATUS_DOWN
        if fip["status"] != status:
            self.update_floatingip_status(context.elevated(), fip["id"], status)
            fip["status"] = status
        return fip

    def create_floatingip(self, context, floatingip, *args, **kwargs):
        return self._fip_status(
            context, super().create_floatingip(context, floatingip, *args, **kwargs)
        )

    def update_floatingip(self, context, fip_id, floatingip):
        return self._fip_status(context, super().update_floatingip(context, fip_id, floatingip))
