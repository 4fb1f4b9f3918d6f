"""The analytics store: schema, client, sink."""
