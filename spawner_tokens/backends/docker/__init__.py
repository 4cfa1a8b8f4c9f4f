"""Docker and Docker Swarm."""
