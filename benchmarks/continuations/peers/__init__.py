"""Other systems that make steps durable, each installed into a folder of its own."""
