"""From a scene to batches: preprocessing, patches, splits, draws."""
