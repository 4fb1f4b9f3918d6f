"""What students learn by, one loss a file: pure functions of tensors, each 0 where no row has what it needs."""
