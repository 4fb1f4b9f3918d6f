"""The Triton model repository as it is kept in git."""
