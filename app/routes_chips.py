"""Routes of chips and backgrounds."""

from app.route import Part, Route

ROUTES: tuple[Route, ...] = ()
"""Every question about images."""

PARTS: tuple[type[Part], ...] = ()
"""What a process keeps for them."""
