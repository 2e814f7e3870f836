"""Chips: small images cut out of scenes, and backgrounds to lay them on."""
