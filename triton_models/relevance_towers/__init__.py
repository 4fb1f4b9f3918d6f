"""A query's text and stored item vectors to scores: the representation student."""
