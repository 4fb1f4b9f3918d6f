"""The incremental trainer: from `relevance.judgements` to a challenger, update by update, each one recorded."""
