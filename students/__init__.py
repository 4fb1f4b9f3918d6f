"""The two small models: interaction (cross-encoder) and representation (two towers)."""
