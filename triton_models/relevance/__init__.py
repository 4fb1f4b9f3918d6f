"""Text in, score out: the interaction student."""
