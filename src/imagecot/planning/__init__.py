"""Planning: what a recipe takes on so many cards, before anything is run."""
