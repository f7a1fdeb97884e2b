"""What all commands share: parser, options, and errors as one line."""
