"""One file a step, in order of its number; a step that has been released is never changed."""
