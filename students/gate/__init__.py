"""What lets a challenger through, and what stops publishing altogether: pure functions of figures and judgements."""
