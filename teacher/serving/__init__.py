"""The teacher's own server: its environment, its weights, and vLLM kept running."""
