"""The HTTP side: a front for what is hot, a router for the rest."""
