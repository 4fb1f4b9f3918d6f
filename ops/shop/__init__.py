"""The simulated shop: catalogue, queries, shoppers and the ad engine."""
