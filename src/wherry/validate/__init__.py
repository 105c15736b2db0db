"""Published measurements, predicted from profiles, and how far the predictions are off."""
