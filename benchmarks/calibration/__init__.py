"""The reference rates of a machine, measured with Wherry's own programs on one pinned thread."""
