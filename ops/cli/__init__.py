"""The `relevance` command line: one file a command."""
