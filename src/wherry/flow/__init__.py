"""A restricted `async def` as data: its program, what was proven of it, and how it runs."""
