"""What everything else stands on: errors, units, identities, time. Imports nothing of ours."""
