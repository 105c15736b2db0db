"""What hardware exists: profiles, systems, and the drivers that run programs."""
