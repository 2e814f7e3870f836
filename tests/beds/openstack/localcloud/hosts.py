"""A hypervisor whose guests are the system containers of ../../hosts: Debian 12 with systemd.

This file keeps the containers; wiring.py plugs their cables and disks, as servers/UUID.json says.
"""

import io
import json
import socket
import subprocess
import tarfile
from pathlib import Path

from nova import exception
from nova.api.metadata import base as metadata
from nova.compute import power_state
from nova.virt import hardware, localcloud
from oslo_config import cfg

HOSTS = Path(__file__).resolve().parents[2] / "hosts"
OPTIONS = subprocess.check_output([HOSTS / "options"], text=True).splitlines()
SETTINGS = ("image", "proxy", "wiring", "eodata")
cfg.CONF.register_opts([cfg.StrOpt(name) for name in SETTINGS], "hosts")
CONF = cfg.CONF.hosts


def docker(*args, **kwargs):
    r = subprocess.run(["docker", *args], capture_output=True, check=False, **kwargs)
    if r.returncode:
        raise exception.NovaException(f"docker {args[0]}: {r.stderr.decode()}")
    return r.stdout.decode(errors="replace")


def _options(instance):
    """What `docker create` needs for one server, beside what every lab host needs."""
    memory_mb = instance.flavor.memory_mb
    return [
        "-t",
        *("--name", instance.uuid),
        *("--hostname", instance.hostname),
        *("--label", "lab=openstack"),
        *("--label", f"server={instance.display_name}"),
        *("--network", "none"),
        *("--memory", f"{memory_mb}m"),
        *("--log-opt", "max-size=1m"),
        *("-v", "/var/lib/docker"),
        *("-v", "/var/lib/containerd"),
        *("-v", f"{CONF.eodata}:/eodata:ro"),
        *OPTIONS,
        *("-e", "LAB_WAIT=1"),
        *("-e", f"LAB_PROXY={CONF.proxy}"),
        *("-e", f"LAB_MEM={memory_mb * 1024}"),
    ]


def _engine(uuid):
    """The volume in which the Docker inside a server has its data."""
    where = '{{range .Mounts}}{{if eq .Destination "/var/lib/docker"}}{{.Name}}{{end}}{{end}}'
    return docker("inspect", "-f", where, uuid).strip()


def _is_snapshot(image_id):
    """Whether an image was taken of a server here."""
    inspect = ["docker", "volume", "inspect", f"snapshot-{image_id}"]
    return subprocess.run(inspect, capture_output=True, check=False).returncode == 0


def _seed(files):
    """The config drive's files as a tar archive, where cloud-init looks for them."""
    seed = io.BytesIO()
    with tarfile.open(fileobj=seed, mode="w") as tar:
        for path, data in files:
            if path.startswith(("openstack/latest/", "openstack/content/")):
                content = data.encode() if isinstance(data, str) else data
                entry = tarfile.TarInfo(f"var/lib/cloud/seed/config_drive/{path}")
                entry.size, entry.mode = len(content), 0o600
                tar.addfile(entry, io.BytesIO(content))
    return seed.getvalue()


class Driver(localcloud.Driver):
    # ---- what is written down, and wiring.py called to it
    def _file(self, uuid):
        return Path(cfg.CONF.state_path) / "servers" / f"{uuid}.json"

    def _read(self, instance):
        try:
            return json.loads(self._file(instance.uuid).read_text())
        except FileNotFoundError:
            return {"ports": {}, "disks": {}}

    def _write(self, instance, server):
        new = self._file(instance.uuid).with_suffix(".new")
        new.write_text(json.dumps(server, indent=1))
        new.rename(self._file(instance.uuid))

    def _wire(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(CONF.wiring)
            s.recv(1)  # closed when it is done

    def _plug(self, server, port):
        if port not in server["ports"]:
            server["ports"][port] = next(
                n for n in (f"eth{i}" for i in range(99)) if n not in server["ports"].values()
            )

    def _plug_disk(self, server, device, connection_info):
        data = connection_info["data"]
        server["disks"][device] = [data["volume_id"], data["device_path"]]

    # ---- a server's life
    def spawn(
        self,
        context,
        instance,
        image_meta,
        injected_files,
        admin_password,
        allocations,
        network_info=None,
        block_device_info=None,
        power_on=True,
        accel_info=None,
    ):
        super().spawn(
            context,
            instance,
            image_meta,
            injected_files,
            admin_password,
            allocations,
            network_info,
            block_device_info,
            power_on,
            accel_info,
        )
        server = {"ports": {}, "disks": {}}
        for vif in network_info or []:
            self._plug(server, vif["id"])
        for disk in (block_device_info or {}).get("block_device_mapping") or []:
            if disk["mount_device"] != "/dev/vda":  # a root volume: the container has its own
                self._plug_disk(server, disk["mount_device"], disk["connection_info"])
        taken = _is_snapshot(instance.image_ref)
        image = f"lab/snapshot:{instance.image_ref}" if taken else CONF.image
        docker("create", *_options(instance), image)
        if taken:
            volume = f"snapshot-{instance.image_ref}"
            subprocess.run([HOSTS / "engine", volume, _engine(instance.uuid)], check=True)
        drive = metadata.InstanceMetadata(
            instance, content=injected_files, network_info=network_info
        )
        docker("cp", "-", f"{instance.uuid}:/", input=_seed(drive.metadata_for_config_drive()))
        self._write(instance, server)
        if power_on:
            self.power_on(context, instance, network_info)

    def destroy(
        self,
        context,
        instance,
        network_info,
        block_device_info=None,
        destroy_disks=True,
        destroy_secrets=True,
    ):
        super().destroy(
            context, instance, network_info, block_device_info, destroy_disks, destroy_secrets
        )
        subprocess.run(["docker", "rm", "-fv", instance.uuid], capture_output=True, check=False)
        self._file(instance.uuid).unlink(missing_ok=True)
        self._wire()

    def power_on(
        self,
        context,
        instance,
        network_info,
        block_device_info=None,
        accel_info=None,
        share_info=None,
    ):
        docker("start", instance.uuid)
        self._wire()

    def power_off(self, instance, timeout=0, retry_interval=0):
        docker("stop", "-t", "30", instance.uuid)
        self._wire()

    def reboot(
        self,
        context,
        instance,
        network_info,
        reboot_type,
        block_device_info=None,
        bad_volumes_callback=None,
        accel_info=None,
        share_info=None,
    ):
        self.power_off(instance)
        self.power_on(context, instance, network_info)

    def resume_state_on_host_boot(
        self, context, instance, network_info, share_info, block_device_info=None
    ):
        self.power_on(context, instance, network_info)

    def get_info(self, instance, use_cache=True):
        r = subprocess.run(
            ["docker", "inspect", "-f", "{{.State.Running}}", instance.uuid],
            capture_output=True,
            text=True,
            check=False,
        )
        if r.returncode:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        return hardware.InstanceInfo(
            state=power_state.RUNNING if r.stdout.strip() == "true" else power_state.SHUTDOWN
        )

    def snapshot(self, context, instance, image_id, update_task_state):
        """The disk becomes an image of Docker's; what glance stores is a placeholder."""
        docker("commit", instance.uuid, f"lab/snapshot:{image_id}")
        volume = f"snapshot-{image_id}"
        subprocess.run([HOSTS / "engine", _engine(instance.uuid), volume], check=True)
        super().snapshot(context, instance, image_id, update_task_state)

    def get_console_output(self, context, instance):
        return (
            docker("logs", "--tail", "2000", instance.uuid).encode("ascii", "replace").decode()
        )  # as nova-api wants it

    # ---- resize: the same container with another limit
    def migrate_disk_and_power_off(
        self,
        context,
        instance,
        dest,
        flavor,
        network_info,
        block_device_info=None,
        timeout=0,
        retry_interval=0,
    ):
        self.power_off(instance)

    def finish_migration(
        self,
        context,
        migration,
        instance,
        disk_info,
        network_info,
        image_meta,
        resize_instance,
        allocations,
        block_device_info=None,
        power_on=True,
        share_info=None,
    ):
        docker(
            "update",
            "--memory",
            f"{instance.flavor.memory_mb}m",
            "--memory-swap",
            "-1",
            instance.uuid,
        )
        if power_on:
            self.power_on(context, instance, network_info)

    def finish_revert_migration(
        self,
        context,
        instance,
        network_info,
        migration,
        block_device_info=None,
        power_on=True,
        share_info=None,
    ):
        self.finish_migration(
            context, migration, instance, None, network_info, None, True, None, power_on=power_on
        )

    # ---- volumes and interfaces
    def attach_volume(
        self,
        context,
        connection_info,
        instance,
        mountpoint,
        disk_bus=None,
        device_type=None,
        encryption=None,
    ):
        server = self._read(instance)
        self._plug_disk(server, mountpoint, connection_info)
        self._write(instance, server)
        self._wire()

    def detach_volume(self, context, connection_info, instance, mountpoint, encryption=None):
        server = self._read(instance)
        disk = server["disks"].pop(mountpoint, None)
        if not disk:
            return
        self._write(instance, server)
        self._wire()
        if subprocess.check_output(["losetup", "-j", disk[1]]):
            server["disks"][mountpoint] = disk
            self._write(instance, server)
            raise exception.DeviceDetachFailed(
                device=mountpoint, reason="a process in the server has it open"
            )

    def extend_volume(self, context, connection_info, instance, requested_size):
        path = connection_info["data"]["device_path"]
        for loop in subprocess.check_output(
            ["losetup", "-nO", "NAME", "-j", path], text=True
        ).split():
            subprocess.run(["losetup", "-c", loop], check=True)

    def attach_interface(self, context, instance, image_meta, vif):
        server = self._read(instance)
        self._plug(server, vif["id"])
        self._write(instance, server)
        self._wire()

    def detach_interface(self, context, instance, vif):
        server = self._read(instance)
        server["ports"].pop(vif["id"], None)
        self._write(instance, server)
        self._wire()
