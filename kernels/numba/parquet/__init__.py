"""Parquet column chunks made into Arrow buffers: page headers, snappy, levels, encodings."""
