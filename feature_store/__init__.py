"""The feature store: one definition of every feature for training, sampling and serving.

`definitions` says what there is, `feature_repo` shows it to the `feast` command, `writing` and `pusher` bring rows
in, `reader` and `history` bring them out.
"""
