"""Where the emotion wheels come from: the official folder, the embedded default, and what both share."""
