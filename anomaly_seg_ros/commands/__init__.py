"""The verbs that the vehicle needs: one verb, one file, named as it is typed."""
