"""The complete exercise files: the single source from which the skeletons are generated."""
