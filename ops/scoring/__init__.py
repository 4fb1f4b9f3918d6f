"""The ad engine's side of serving: which version scores whom, one query's candidates scored in time, and the fallback."""
