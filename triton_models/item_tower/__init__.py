"""The vectors of item texts: the representation student."""
