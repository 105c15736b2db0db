"""Device profiles and systems: TOML, one device or system a file; read by wherry.devices."""
