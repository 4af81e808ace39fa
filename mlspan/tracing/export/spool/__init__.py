"""The spool: ended spans on disk, until every backend has taken them."""
