"""The whole appliance on one machine, without cloud or containers."""
