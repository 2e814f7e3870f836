"""The drill: an appliance is taken down and stood up again, and gives the same answers."""
