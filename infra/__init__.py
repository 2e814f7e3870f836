"""Deployment of the appliance on OpenStack; imports none of the programs that it deploys."""
