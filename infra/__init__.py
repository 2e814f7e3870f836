"""How the appliance is stood up; imports none of the programs it stands up."""
