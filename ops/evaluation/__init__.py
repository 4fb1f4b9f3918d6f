"""How good a scorer is against known grades: metrics, intervals over queries, calibration."""
