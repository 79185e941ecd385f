"""Values for every field left Auto, with reasons. Imports without torch."""
