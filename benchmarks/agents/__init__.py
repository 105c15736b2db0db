"""What agents cost: hand-over of rows, and requests."""
