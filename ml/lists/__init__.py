"""Public lists of declared bots, non-browsers and data-centre networks, compiled for the screen."""
