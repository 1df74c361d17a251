"""Units of work, shared by processes of one machine or many, each done once."""
