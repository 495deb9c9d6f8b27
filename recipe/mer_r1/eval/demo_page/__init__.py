"""The demo page: a clip in, slow and fast answers with the confidence of every category out, in a browser."""
