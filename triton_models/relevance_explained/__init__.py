"""Score, grade distribution and the words that matched or clashed: the interaction student."""
