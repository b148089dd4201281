"""The commands, in a module for each group of them."""
