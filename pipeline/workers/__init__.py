"""Where units run: slots of declared size in this process or on a Ray cluster, and the room for them."""
