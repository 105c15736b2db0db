"""The hand-tuned skeletons that programs are made of, one folder per language."""
