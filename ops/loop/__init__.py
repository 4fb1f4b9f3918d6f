"""The loop joined: first students, promotion under guardrails, the demo's settings and its summary."""
