"""The LLM that judges query-item pairs with a chain of thought."""
