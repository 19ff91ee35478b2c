"""A local page to go through samples, sources beside each other or laid over the picture (`hyperloom look`)."""
