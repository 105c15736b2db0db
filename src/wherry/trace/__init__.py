"""Spans, receipts, and the pictures and tables made of them."""
