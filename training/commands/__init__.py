"""The verbs that need training: one verb, one file, named as it is typed."""
