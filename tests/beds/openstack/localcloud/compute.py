"""nova's own fake hypervisor, which knows its servers after a restart, and stores snapshots."""

import io

from nova import context, objects
from nova.image import glance
from nova.virt import fake


class Driver(fake.FakeDriverWithoutFakeNodes):
    vcpus = 1000
    memory_mb = 4000000
    local_gb = 600000

    def init_host(self, host):
        super().init_host(host)
        for i in objects.InstanceList.get_by_host(context.get_admin_context(), host):
            self.instances[i.uuid] = fake.FakeInstance(i.name, i.power_state, i.uuid)

    def snapshot(self, context, instance, image_id, update_task_state):
        super().snapshot(context, instance, image_id, update_task_state)
        kind = {"disk_format": "raw", "container_format": "bare", "properties": {}}
        glance.API().update(context, image_id, kind, io.BytesIO(b"a disk"), purge_props=False)

    def default_root_device_name(self, instance, image_meta, root_bdm):
        return "/dev/vda"  # as with libvirt, so that volumes become /dev/vdb and so on
