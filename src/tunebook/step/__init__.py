"""One optimizer step, the token loss and its scoring: what plan, train and evaluate share."""
