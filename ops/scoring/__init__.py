"""The ad engine's side of serving: which version scores whom, scores in time, and the fallback."""
