"""A query's vector: the representation student."""
