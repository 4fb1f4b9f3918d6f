"""Evaluation: scores of many pairs, comparisons over seeds, and the tables made of them."""
