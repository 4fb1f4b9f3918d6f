"""Settings, command line, local stack, ClickHouse, experiments, dashboard and the simulated shop."""
