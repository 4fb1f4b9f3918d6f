"""Unit tests of the ClickHouse client, schema and sink."""
