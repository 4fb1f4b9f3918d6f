"""Collaborative annotation: several LLMs label pairs independently; what they and people agree on is kept."""
