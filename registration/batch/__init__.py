"""Many pairs: the table that names them, their folders, and the processes that work through them."""
