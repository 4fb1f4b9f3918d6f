"""What the Python models share. A copy goes with every version, so that an answer never changes under its number."""
