"""The checkpoint folder: what it holds, strictly read and written as a whole."""
