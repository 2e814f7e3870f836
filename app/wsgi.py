"""The WSGI callable that gunicorn imports in each worker, made from the environment."""

import atexit
import os

from app import edge
from app.routes.table import RESOURCES, ROUTES
from app.service import Service
from app.settings import ApiSettings
from store.command import log_to_stderr

log_to_stderr()
_service = Service(ApiSettings.from_env(), [each.from_env(os.environ) for each in RESOURCES])
atexit.register(_service.close)
application = edge.application(_service, ROUTES)
