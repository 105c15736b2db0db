"""Tests of CUDA cards, and what `make gpu` runs."""
