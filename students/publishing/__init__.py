"""From a finished version folder to a served version: the model repository, its steps, and who may do them when."""
