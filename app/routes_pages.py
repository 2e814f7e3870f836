"""Routes of the pages that people look at, and of what these load."""

from app.route import Part, Route

ROUTES: tuple[Route, ...] = ()
"""Every page."""

PARTS: tuple[type[Part], ...] = ()
"""What a process keeps for them."""
