"""What gunicorn imports in each worker: the WSGI callable, made from the environment."""

import atexit
import os

from app.routes import PARTS, ROUTES
from app.routes import application as _application
from app.service import Service
from app.settings import ApiSettings
from store.command import log_to_stderr

log_to_stderr()
_service = Service.of(ApiSettings.from_env(), ROUTES, [part.from_env(os.environ) for part in PARTS])
atexit.register(_service.close)
application = _application(_service)
