"""nova's own fake hypervisor, which in addition knows its servers again after a restart."""

from nova import context, objects
from nova.virt import fake


class Driver(fake.FakeDriverWithoutFakeNodes):
    vcpus = 1000
    memory_mb = 4000000
    local_gb = 600000

    def init_host(self, host):
        super().init_host(host)
        for i in objects.InstanceList.get_by_host(context.get_admin_context(), host):
            self.instances[i.uuid] = fake.FakeInstance(i.name, i.power_state, i.uuid)

    def default_root_device_name(self, instance, image_meta, root_bdm):
        return "/dev/vda"  # as with libvirt, so that volumes become /dev/vdb and so on
