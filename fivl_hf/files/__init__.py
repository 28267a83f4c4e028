"""Files written whole or not at all, folders held by one process, folders in which only our own files are replaced."""
