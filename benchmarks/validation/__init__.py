"""Published points that `wherry validate` predicts."""
