"""The report as one HTML file: no script, no network, readable in light and dark."""
