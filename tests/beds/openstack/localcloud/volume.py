"""A cinder back end: one sparse file per volume or snapshot."""

import os
import subprocess
from pathlib import Path

from cinder import interface
from cinder.image import image_utils
from cinder.volume import driver, volume_utils
from oslo_config import cfg

GIB = 1024**3


@interface.volumedriver
class FileDriver(driver.VolumeDriver):
    VERSION = "1"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dir = Path(cfg.CONF.state_path, "volumes")

    def path(self, resource):
        """The file of a volume or snapshot, as text, for cinder hands it on as JSON."""
        return str(self.dir / resource.name)

    def _copy(self, src, dst, size_gib):
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", src, dst], check=True)
        os.truncate(dst, size_gib * GIB)

    def check_for_setup_error(self):
        self.dir.mkdir(parents=True, exist_ok=True)

    def _update_volume_stats(self):
        self._stats = {
            "volume_backend_name": self.configuration.volume_backend_name,
            "vendor_name": "localcloud",
            "driver_version": self.VERSION,
            "storage_protocol": "local",
            "total_capacity_gb": 100000,
            "free_capacity_gb": 100000,
            "multiattach": True,
            "reserved_percentage": 0,
            "QoS_support": False,
        }

    def create_volume(self, volume):
        Path(self.path(volume)).touch()
        os.truncate(self.path(volume), volume.size * GIB)

    def delete_volume(self, volume):
        Path(self.path(volume)).unlink(missing_ok=True)

    def extend_volume(self, volume, new_size):
        os.truncate(self.path(volume), new_size * GIB)

    def create_snapshot(self, snapshot):
        self._copy(self.path(snapshot.volume), self.path(snapshot), snapshot.volume_size)

    delete_snapshot = delete_volume

    def create_volume_from_snapshot(self, volume, snapshot):
        self._copy(self.path(snapshot), self.path(volume), volume.size)

    def create_cloned_volume(self, volume, src_vref):
        self._copy(self.path(src_vref), self.path(volume), volume.size)

    def copy_image_to_volume(self, context, volume, image_service, image_id, disable_sparse=False):
        image_utils.fetch_to_raw(
            context,
            image_service,
            image_id,
            self.path(volume),
            "1M",
            size=volume.size,
            run_as_root=False,
        )
        os.truncate(self.path(volume), volume.size * GIB)

    def copy_volume_to_image(self, context, volume, image_service, image_meta):
        volume_utils.upload_volume(
            context, image_service, image_meta, self.path(volume), volume, run_as_root=False
        )

    def ensure_export(self, context, volume):
        pass

    def create_export(self, context, volume, connector):
        pass

    def remove_export(self, context, volume):
        pass

    def initialize_connection(self, volume, connector):
        path = self.path(volume)
        if connector.get("initiator") != "fake":  # a hypervisor with guests wants a block device
            path = self._loop(path) or _losetup("--find", "--show", path)
        return {
            "driver_volume_type": "local",
            "data": {"device_path": path, "volume_id": volume.id},
        }

    def terminate_connection(self, volume, connector, **kwargs):
        loop = self._loop(self.path(volume))
        if loop and len(volume.volume_attachment) < 2:
            _losetup("--detach", loop)

    def _loop(self, path):
        return _losetup("--noheadings", "--output", "NAME", "--associated", path)


def _losetup(*arguments):
    return subprocess.check_output(["losetup", *arguments], text=True).strip()
