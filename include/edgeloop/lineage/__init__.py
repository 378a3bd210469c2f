"""Where something came from and what became of it, link by link, each link tried."""
