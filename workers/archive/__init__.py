"""The archive: every verdict, the images and heatmaps that matter, in files that prove they are complete."""
