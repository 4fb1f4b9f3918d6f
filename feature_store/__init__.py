"""The Feast repository and its reads and pushes."""
