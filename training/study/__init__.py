"""The study of losses and scores: trains every row under one budget and tabulates it."""
