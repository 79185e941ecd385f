"""From a source the user named to token ids with labels, checked before a GPU is held."""
