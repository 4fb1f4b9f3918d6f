"""The local stack: one supervisor over broker, streams, metrics and shop."""
