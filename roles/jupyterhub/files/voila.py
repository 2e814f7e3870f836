"""The page: one notebook, for those who are logged in at the hub; its visitors run no code."""

from jupyterhub.singleuser.extension import JupyterHubIdentityProvider
from jupyter_server.utils import url_path_join

PREFIX = "/pages/"


class HubLogin(JupyterHubIdentityProvider):
    """The hub's login; Voila leaves it to the provider to put its addresses under the page's."""

    def get_handlers(self):
        return [(url_path_join(PREFIX, path), *rest) for path, *rest in super().get_handlers()]


c = get_config()  # noqa: F821
c.Voila.ip = "127.0.0.1"
c.Voila.port = 8200
c.Voila.port_retries = 0
c.Voila.base_url = PREFIX
c.Voila.identity_provider_class = HubLogin
c.Voila.auto_token = True  # the provider's own
c.VoilaConfiguration.show_tracebacks = False
c.VoilaConfiguration.allow_template_override = "NO"
c.VoilaConfiguration.allow_theme_override = "NO"
c.VoilaConfiguration.file_allowlist = []
c.MappingKernelManager.cull_idle_timeout = 120
c.MappingKernelManager.cull_interval = 30
