"""Fine-tuning a causal LM into a teacher. Everything but `settings` runs in the teacher's environment."""
