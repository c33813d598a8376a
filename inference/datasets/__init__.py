"""Readers of frames to teach on and to be judged by."""
